# SPDX-License-Identifier: MIT
"""bytes and bytearray objects of 36 MB: copies, slices, joins, translation and growth."""
import argparse
import zlib

SIZE_BYTES = 36_000_000
ROUNDS = 8


def transform(data):
    """Several objects of the size of the argument, most of them short-lived."""
    work = bytearray(data)
    work[::4096] = bytes(len(work[::4096]))
    swapped = bytes(work[SIZE_BYTES // 2:]) + bytes(work[:SIZE_BYTES // 2])
    joined = b"".join([swapped[:1000], swapped[1000:]])
    grown = bytearray()
    for start in range(0, SIZE_BYTES, SIZE_BYTES // 12):
        grown += joined[start:start + SIZE_BYTES // 12]
    return bytes(grown)


def main():
    """Print a checksum of every 64th byte of the last object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--scale", type=float, default=1.0, help="multiply the number of rounds")
    rounds = max(1, round(ROUNDS * options.parse_args().scale))
    data = bytes(range(250)) * (SIZE_BYTES // 250)
    for _ in range(rounds):
        data = transform(data)
    print("cpython_bytes", rounds, len(data), f"{zlib.crc32(data[::64]):08x}")


main()
