# SPDX-License-Identifier: MIT
"""What the first touch of memory costs on this machine, measured here and not in the program that is looked at.

Memory is written twice with memcpy, once untouched and once warm; the difference is what the kernel's part of a first
write costs: the fault, clearing the page, and giving it back. Once with 4 KiB pages, once with huge ones. The area is larger than
most caches, because the kernel's clearing also brings a page into the cache, which a warm write then has to do itself.
"""
import functools
import mmap
import resource
import time

PAGE = mmap.PAGESIZE
HUGE = 2 << 20
BYTES = 48 << 20
CHUNK = 64 << 10  # memcpy writes larger ones past the cache, which programs seldom do
ROUNDS = 6


def page_fault_ns(rounds=ROUNDS, size=BYTES):
    """Nanoseconds per 4 KiB page that is touched for the first time and given back.

    Processor time, and the best of some rounds: other programs only ever add to it.
    """
    return measure("MADV_NOHUGEPAGE", rounds, size)[0] / (size // PAGE)


@functools.cache
def huge_fault_ns(rounds=ROUNDS, size=BYTES):
    """The same per huge page of 2 MiB; None where the kernel grants none."""
    cost, faults = measure("MADV_HUGEPAGE", rounds, size)
    return cost / (size // HUGE) if faults < 2 * size // HUGE + 8 else None


@functools.cache
def page_clear_ns(rounds=ROUNDS, size=BYTES):
    """Nanoseconds to write 4 KiB that are there and not in a cache: what clearing a page costs without the fault."""
    source, best = bytes(CHUNK), float("inf")
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        fill(area, source)
        for _ in range(rounds):
            started = time.thread_time_ns()
            fill(area, source)
            best = min(best, time.thread_time_ns() - started)
    return best / (size // PAGE)


@functools.cache
def mapping_ns(rounds=200, size=40 << 20):
    """Nanoseconds of processor time to map a large block and unmap it, untouched, best of several batches."""
    costs = []
    for _ in range(ROUNDS):
        started = time.thread_time_ns()
        for _ in range(rounds):
            mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
        costs.append((time.thread_time_ns() - started) / rounds)
    return min(costs)


def measure(advice, rounds, size):
    """(nanoseconds for the whole area, page faults of the round with the fewest)."""
    source = bytes(CHUNK)
    costs, faults = [], []
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        advise(area, advice)
        for _ in range(rounds):
            advise(area, "MADV_DONTNEED")
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
            started = time.thread_time_ns()
            fill(area, source)
            fresh = time.thread_time_ns()
            faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
            fill(area, source)
            warm = time.thread_time_ns()
            advise(area, "MADV_DONTNEED")
            given_back = time.thread_time_ns()
            costs.append((fresh - started) - (warm - fresh) + (given_back - warm))
    return max(0.0, min(costs)), min(faults)


def fill(area, source):
    for start in range(0, len(area), len(source)):
        area[start:start + len(source)] = source


def advise(area, name):
    try:
        area.madvise(getattr(mmap, name))
    except (AttributeError, OSError):
        pass  # a kernel without it has no huge pages to keep out
