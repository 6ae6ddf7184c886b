#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every misuse ends the program with SIGABRT and one line that names its kind and the pointer, before anything else happens."""
import os
import random
import re
import signal
import subprocess
import sys

KINDS = {
    "double": "double free",
    "late-double": "double free",
    "interior": "free of an interior pointer",
    "misaligned": "free of a misaligned pointer",
    "realloc-freed": "double free",
    "usable-freed": "double free",
}
CASES = 100000 if os.environ.get("ZP_LONG") else 120


def main(library, program):
    rng = random.Random(7)
    environment = dict(os.environ, LD_PRELOAD=library)
    n_bad = 0
    for number in range(CASES):
        kind = list(KINDS)[number % len(KINDS)]
        size = int(2 ** rng.uniform(15.01, 27))
        result = subprocess.run([program, kind, str(size), str(number)], capture_output=True, text=True, env=environment,
                                timeout=60, check=False)
        line = re.fullmatch(r"zeropool: fatal: ([^(]+) \(ptr=(0x[0-9a-f]+)\)\n", result.stderr)
        block = int(result.stdout.split()[0], 16) if result.stdout.split() else 0
        near = bool(line) and 0 <= int(line.group(2), 16) - block < size + 4096
        good = result.returncode == -signal.SIGABRT and line and line.group(1) == KINDS[kind] and near and \
            len(result.stdout.splitlines()) == 1
        if not good:
            n_bad += 1
            print(f"{kind} {size} {number}: status {result.returncode}, said {result.stderr!r} {result.stdout!r}")
    print(f"{CASES - n_bad} of {CASES} cases caught")
    return bool(n_bad)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
