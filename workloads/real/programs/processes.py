# SPDX-License-Identifier: MIT
"""multiprocessing with arrays: pools under each start method, queues, shared memory, fork with threads running."""
import hashlib
import multiprocessing
import os
import threading
from multiprocessing import shared_memory

import numpy as np


def digest(array):
    """Checksum of an array."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8)).hexdigest()[:32]


def transform(array):
    """What a worker does: temporaries of the size of its argument."""
    return (array * 3 + array[::-1]) % 1009


def fill(name, count, start):
    """Write a pattern into shared memory."""
    block = shared_memory.SharedMemory(name=name)
    view = np.ndarray(count, dtype=np.int64, buffer=block.buf)
    view[start::2] = np.arange(start, count, 2) * 7
    del view
    block.close()


def produce(queue, number):
    """Send arrays of growing size."""
    for size in (1_000, 30_000, 500_000):
        queue.put((number, size, np.arange(size, dtype=np.int32) * number))


def pools():
    """The same map under each start method."""
    parts = [np.arange(400_000, dtype=np.int64) + number for number in range(6)]
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            results = pool.map(transform, parts, chunksize=1)
        print(method, digest(np.concatenate(results)))


def queues():
    """Several producers, one consumer."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=produce, args=(queue, number)) for number in (1, 2, 3)]
    for worker in workers:
        worker.start()
    got = sorted((queue.get() for _ in range(9)), key=lambda item: item[:2])
    for worker in workers:
        worker.join()
    print("queue", digest(np.concatenate([item[2] for item in got])), [worker.exitcode for worker in workers])


def sharing():
    """One block of shared memory, written by two processes."""
    count = 2_000_000
    block = shared_memory.SharedMemory(create=True, size=count * 8)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=fill, args=(block.name, count, start)) for start in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    view = np.ndarray(count, dtype=np.int64, buffer=block.buf)
    print("shared", digest(view))
    del view
    block.close()
    block.unlink()


def fork_under_threads():
    """Fork while other threads allocate and free; the children allocate at once."""
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            np.ones(200_000).sum()

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    statuses = []
    for number in range(30):
        child = os.fork()
        if child == 0:
            blocks = [np.full(50_000 + 10_000 * number, number) for _ in range(20)]
            os._exit(0 if all((block == number).all() for block in blocks) else 1)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()
    print("forked", statuses)


def main():
    """All steps."""
    pools()
    queues()
    sharing()
    fork_under_threads()


if __name__ == "__main__":
    main()
