# SPDX-License-Identifier: MIT
"""Which settings of the pool fit a program, from its statistics. Each answer is '' where the default does."""
from .stats_report import LEVELS, number, sizes_of
from .table import size


def threshold(total):
    """A higher one only where it spares nearly all calls and loses nearly none of the bytes."""
    rows = sorted(sizes_of(total), key=lambda row: row["from"])
    calls = [sum(number(row, level) for level in LEVELS) for row in rows]
    warm = [number(row, "bytes_warm") for row in rows]
    for i in range(len(rows) - 1, 0, -1):
        if sum(warm[:i]) < 0.01 * sum(warm) and sum(calls[:i]) > 0.9 * sum(calls):
            return (f"--threshold {rows[i]['from'] >> 10}K would do: below it are {100 * sum(calls[:i]) / sum(calls):.0f} % of the "
                    f"requests and {100 * sum(warm[:i]) / sum(warm):.1f} % of the reused bytes")
    return ""


def retain(total):
    """To keep more, where much went back to the kernel beside what was reused."""
    rows = sizes_of(total)
    warm = sorted((number(row, "bytes_warm") for row in rows), reverse=True)
    peak = number(total, "bytes_live_peak")
    purged, reused = number(total, "bytes_purged"), sum(warm)
    if purged > reused / 5 and purged > 64 << 20:
        return (f"{size(purged)} went back to the kernel and {size(reused)} were reused: "
                f"--retain {max(1, peak >> 20)}M keeps more, at the price of memory")
    return ""


def next_allocator(reports):
    threads = max(number(report, "n_threads") for report in reports) if reports else 0
    if threads > 1:
        return (f"up to {threads} threads, whose small blocks glibc serves; --next jemalloc or mimalloc may be faster: "
                "zeropool compare -a glibc,zeropool,zeropool+jemalloc,zeropool+mimalloc")
    return ""


def fitting(total, reports):
    """What to say of the settings, as one text."""
    found = [text for text in (threshold(total), retain(total), next_allocator(reports)) if text]
    return "; ".join(found) or "the defaults fit"
