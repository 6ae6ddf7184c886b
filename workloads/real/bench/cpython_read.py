# SPDX-License-Identifier: MIT
"""Read a file of 1 GiB in pieces of 64 MiB, as a loader of model files does; each piece is a new bytes object.

The file is generated: a sparse file with a mark on every 64th page, so that it costs no disk. `--prepare DIR` makes it
and brings it into the page cache; without `--dir` the program makes one for itself, and its time includes that.
"""
import argparse
import os
import tempfile
import zlib

FILE_BYTES = 1 << 30
PIECE_BYTES = 64 << 20
PAGE_BYTES = 4096
MARK_EVERY_PAGES = 64
NAME = "cpython_read.data"


def generate(path, size):
    """Write the sparse file and read it once."""
    with open(path, "wb") as stream:
        stream.truncate(size)
        for start in range(0, size, PAGE_BYTES * MARK_EVERY_PAGES):
            stream.seek(start)
            stream.write((start // PAGE_BYTES * 2654435761 % (1 << 32)).to_bytes(4, "little"))
    target = bytearray(1 << 20)
    with open(path, "rb", buffering=0) as stream:
        while stream.readinto(target):
            pass


def read(path):
    """Read all pieces; one checksum over the first byte of every page."""
    total = pieces = 0
    with open(path, "rb", buffering=0) as stream:
        while piece := stream.read(PIECE_BYTES):
            total = zlib.crc32(piece[::PAGE_BYTES], total)
            pieces += 1
    print("cpython_read", pieces, f"{total:08x}")


def main():
    """Prepare, or read."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--prepare", metavar="DIR", help="make the file in this directory and stop")
    options.add_argument("--dir", help="a prepared directory")
    options.add_argument("--scale", type=float, default=1.0, help="multiply the size of the file (for --prepare)")
    given = options.parse_args()
    size = max(1, round(FILE_BYTES * given.scale / PIECE_BYTES)) * PIECE_BYTES
    if given.prepare:
        generate(os.path.join(given.prepare, NAME), size)
    elif given.dir:
        read(os.path.join(given.dir, NAME))
    else:
        with tempfile.TemporaryDirectory() as folder:
            generate(os.path.join(folder, NAME), size)
            read(os.path.join(folder, NAME))


main()
