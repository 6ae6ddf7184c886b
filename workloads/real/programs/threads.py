# SPDX-License-Identifier: MIT
"""Threads with large buffers: a pipeline of queues, a pool that releases the lock, short-lived threads."""
import hashlib
import queue
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor


def pattern(number, size):
    """Bytes that depend on both arguments."""
    return bytes((number * 31 + index) % 251 for index in range(251)) * (size // 251 + 1)


def pipeline():
    """Read, transform and hash as three threads; every buffer is freed by another thread than its maker."""
    first, second = queue.Queue(8), queue.Queue(8)
    total = hashlib.sha256()

    def transform():
        while (item := first.get()) is not None:
            second.put(bytearray(item).translate(bytes(range(255, -1, -1))))
        second.put(None)

    def collect():
        while (item := second.get()) is not None:
            total.update(item)

    threads = [threading.Thread(target=step) for step in (transform, collect)]
    for thread in threads:
        thread.start()
    for number in range(120):
        first.put(pattern(number, 40_000 * (number % 20 + 1)))
    first.put(None)
    for thread in threads:
        thread.join()
    print("pipeline", total.hexdigest()[:32])


def parallel():
    """zlib and hashlib work without the interpreter lock."""
    blocks = [pattern(number, 2_000_000) for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        packed = list(pool.map(zlib.compress, blocks))
        restored = list(pool.map(zlib.decompress, packed))
    assert restored == blocks
    print("parallel", hashlib.sha256(b"".join(packed)).hexdigest()[:32])


def churn():
    """Threads that allocate, hand over and exit."""
    results = []
    for start in range(0, 300, 10):
        group = [threading.Thread(target=lambda n=number: results.append(pattern(n, 100_000 + n * 1000)))
                 for number in range(start, start + 10)]
        for thread in group:
            thread.start()
        for thread in group:
            thread.join()
        if len(results) > 100:
            results = results[50:]
    print("churn", len(results), sum(len(result) for result in sorted(results)[:40]) > 0)


def main():
    """All steps."""
    pipeline()
    parallel()
    churn()


main()
