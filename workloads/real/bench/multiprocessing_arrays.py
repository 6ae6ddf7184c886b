# SPDX-License-Identifier: MIT
"""A pool of two processes that receives arrays of 4 to 16 MB, computes with temporaries, and sends them back."""
import argparse
import multiprocessing
import zlib

import numpy as np

TASKS = 32


def work(array):
    """One task in a worker."""
    for _ in range(3):
        array = np.sqrt(array * array + 1.0) - array * 0.5
    return array


def main():
    """Print a checksum over all results."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--scale", type=float, default=1.0, help="multiply the number of tasks")
    tasks = max(2, round(TASKS * options.parse_args().scale))
    total = 0
    arrays = (np.full(500_000 * (1 + number % 4), float(number)) for number in range(tasks))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for result in pool.imap(work, arrays, chunksize=1):
            total = zlib.crc32(result[::512].round(6).tobytes(), total)
    print("multiprocessing_arrays", tasks, f"{total:08x}")


if __name__ == "__main__":
    main()
