# SPDX-License-Identifier: MIT
"""numpy arrays of 0.1 to 80 MB; prints checksums of exact results and rounded values of the others.

The order in which a sum of floats is taken depends on the alignment of the array, so such results are rounded.
"""
import hashlib
import threading

import numpy as np


def show(name, array):
    """Checksum of an array whose every bit is determined."""
    print(name, array.dtype, array.shape, hashlib.sha256(np.ascontiguousarray(array).view(np.uint8)).hexdigest()[:32])


def temporaries(source):
    """Expressions whose intermediate results are as large as the operands."""
    a = source.integers(0, 1000, 2_000_000).astype(np.float64)
    b = a[::-1].copy()
    for _ in range(4):
        a = np.sqrt(a * a + b * b) - (a - b) / 3.0
    show("temporaries", a)
    show("where", np.where(a > b, a * 2, b * 3))
    show("cumsum", np.cumsum((a * 16).astype(np.int64)))


def concatenations(source):
    """Growing arrays piece by piece, then stacking and splitting them."""
    grown = np.empty(0, dtype=np.int32)
    for size in range(50_000, 1_000_000, 90_000):
        grown = np.concatenate([grown, source.integers(0, 1 << 30, size, dtype=np.int32)])
    show("grown", grown)
    parts = np.array_split(grown, 7)
    show("stacked", np.concatenate(parts[::-1]))
    grown.resize(grown.size * 2, refcheck=False)
    show("resized", grown)
    show("padded", np.pad(grown[:1_000_000].reshape(1000, 1000), 50, mode="reflect"))


def sorting(source):
    """Sort, search, count and set operations."""
    data = source.integers(0, 1 << 20, 1_500_000)
    show("sort", np.sort(data))
    show("argsort", np.argsort(data, kind="stable"))
    show("unique", np.unique(data))
    show("bincount", np.bincount(data))
    show("text", np.sort(data[:300_000].astype("U12")))


def algebra(source):
    """Solvers and decompositions through BLAS and LAPACK."""
    matrix = source.standard_normal((500, 500))
    product = matrix @ matrix.T
    print("trace", f"{np.trace(product):.6e}", "det", f"{np.linalg.slogdet(product)[1]:.6e}")
    solution = np.linalg.solve(product + np.eye(500), np.ones(500))
    print("solve", f"{np.abs(solution).sum():.5e}")
    print("svd", " ".join(f"{value:.5e}" for value in np.linalg.svd(matrix[:200], compute_uv=False)[:4]))
    print("fft", f"{np.abs(np.fft.fft(source.standard_normal(1 << 19))).sum():.6e}")


def files(source):
    """Save, load and map."""
    data = source.integers(0, 255, (3000, 1000), dtype=np.uint8)
    np.save("array.npy", data)
    show("loaded", np.load("array.npy"))
    show("mapped", np.load("array.npy", mmap_mode="r")[::2].copy())
    show("zeros", np.zeros((4000, 1500)))


def threads():
    """Arrays made and dropped by several threads, one freed by another."""
    results = [None] * 4

    def run(number):
        part = np.arange(1_000_000, dtype=np.int64) * (number + 1)
        for _ in range(5):
            part = part * 3 % 1_000_003
        results[number] = part

    started = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    for number, part in enumerate(results):
        show(f"thread {number}", part)


def main():
    """All steps with one seed."""
    source = np.random.default_rng(7)
    temporaries(source)
    concatenations(source)
    sorting(source)
    algebra(source)
    files(source)
    threads()


main()
