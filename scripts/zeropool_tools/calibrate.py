# SPDX-License-Identifier: MIT
"""What a page fault costs on this machine, measured here and not in the program that is looked at.

Memory is written twice with memcpy, once untouched and once warm; the difference is what the kernel's part of a first
write costs: the fault, clearing the page, and giving it back. Huge pages are kept out of it.
"""
import mmap
import time

PAGE = mmap.PAGESIZE
BYTES = 16 << 20
ROUNDS = 5


def page_fault_ns(rounds=ROUNDS, size=BYTES):
    """Nanoseconds per 4 KiB page that is touched for the first time and given back.

    Processor time, and the best of some rounds: other programs only ever add to it.
    """
    source = bytes(size)
    costs = []
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        advise(area, "MADV_NOHUGEPAGE")
        for _ in range(rounds):
            advise(area, "MADV_DONTNEED")
            started = time.thread_time_ns()
            area[:] = source
            fresh = time.thread_time_ns()
            area[:] = source
            warm = time.thread_time_ns()
            advise(area, "MADV_DONTNEED")
            given_back = time.thread_time_ns()
            costs.append((fresh - started) - (warm - fresh) + (given_back - warm))
    return max(0.0, min(costs) / (size // PAGE))


def advise(area, name):
    try:
        area.madvise(getattr(mmap, name))
    except (AttributeError, OSError):
        pass  # a kernel without it has no huge pages to keep out
