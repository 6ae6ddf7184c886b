# SPDX-License-Identifier: MIT
"""Loads tensors from a file, keeps all, drops them, loads again; prints the peak in MiB.

usage: loads.py FOLDER COUNT STEP_KIB EPOCHS ORDER     ORDER: read, into (bytearray and readinto), copy (each is copied once)
"""
import os
import sys


def load(file, n, order):
    if order == "into":
        tensor = bytearray(n)
        file.readinto(tensor)
        return tensor
    tensor = file.read(n)
    return bytearray(tensor) if order == "copy" else tensor


def main(folder, count, step, epochs, order):
    sizes = [(4 + i * 5 % 13) * step * 1024 for i in range(count)]
    path = os.path.join(folder, f"tensors-{os.getpid()}")
    try:
        with open(path, "wb") as file:
            file.truncate(sum(sizes))
        for _ in range(epochs):
            kept = []
            with open(path, "rb", buffering=0) as file:
                for n in sizes:
                    kept.append(load(file, n, order))
            del kept
    finally:
        os.unlink(path)
    with open("/proc/self/status", encoding="ascii") as status:
        print("peak", next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
