# SPDX-License-Identifier: MIT
"""A small numeric program as people write them: every expression makes temporaries of 39 MB.

Argument: how many steps (default 12). Prints a checksum, so that output can be compared between allocators.
"""
import sys

import numpy

N = 5_000_000  # 40 MB of doubles: above 32 MiB glibc maps and unmaps each temporary anew


def main(steps):
    x = numpy.linspace(0.0, 1.0, N)
    total = 0.0
    for step in range(steps):
        y = (x * 2.0 + step) * (x - 0.5) + x * x
        total += float(y[::100_000].sum())
    print(f"{total:.6f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
