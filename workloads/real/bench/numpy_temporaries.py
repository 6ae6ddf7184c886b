# SPDX-License-Identifier: MIT
"""numpy expressions over arrays of 39 MB, whose intermediate results are allocated and freed all the time.

Run it with NUMPY_MADVISE_HUGEPAGE=0 to see what every temporary costs in page faults of 4 KiB.
"""
import argparse

import numpy as np

ARRAY_BYTES = 39_000_000
ROUNDS = 16


def main():
    """Print a checksum of the last result."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--scale", type=float, default=1.0, help="multiply the number of rounds")
    rounds = max(1, round(ROUNDS * options.parse_args().scale))
    count = ARRAY_BYTES // 8
    a = np.arange(count, dtype=np.float64)
    b = np.full(count, 3.0)
    for _ in range(rounds):
        # Each line allocates a result of the full size (numpy reuses the temporary inside it) and frees an old one.
        c = a + b
        c = a * 0.5 + c
        d = np.maximum(c, b)
        b = np.sqrt(d) * 0.25
    print("numpy_temporaries", rounds, f"{float(b[::4096].sum()):.6e}")


main()
