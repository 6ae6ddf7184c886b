# SPDX-License-Identifier: MIT
"""Pickle numpy arrays and bytes of 1 to 24 MB and load them again, as a cache or a message queue does."""
import argparse
import pickle
import zlib

import numpy as np

ROUNDS = 34


def main():
    """Print a checksum of what came back last."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--scale", type=float, default=1.0, help="multiply the number of rounds")
    rounds = max(1, round(ROUNDS * options.parse_args().scale))
    sizes = (3_000_000, 1_000_000, 500_000, 125_000)
    value = {f"array{size}": np.arange(size, dtype=np.float64) for size in sizes}
    value["blob"] = bytes(8_000_000)
    length = 0
    for number in range(rounds):
        data = pickle.dumps(value, protocol=5 if number % 2 else 4)
        length = len(data)
        value = pickle.loads(data)
        value["array500000"] = value["array500000"] + 1.0
    total = zlib.crc32(value["array500000"].tobytes(), zlib.crc32(value["array3000000"][::512].tobytes()))
    print("pickle_arrays", rounds, length, f"{total:08x}")


main()
