# SPDX-License-Identifier: MIT
"""Statistics of one process, or the sum over a process tree, as text: where requests were served, and what that saved.

What was saved lies between two bounds (see saved.py).
"""
import json

from .errors import ToolError
from .table import align, count, seconds, size
from .words import plural

PAGE = 4096
SUM_SCHEMA = "zeropool-stats-sum-1"
GLIBC_MAPS_FROM = 32 << 20  # M_MMAP_THRESHOLD's maximum on 64 bits
LEVELS = ("tcache", "shard", "dirty", "mixed", "fresh")
BYTES = ("bytes_warm", "bytes_cleared", "bytes_emptied", "bytes_fresh")
HEADINGS = ("request size", "requests", "thread cache", "shard", "heap, warm", "heap, mixed", "fresh", "warm bytes", "fresh bytes")
SUMS = ("gets", "tcache_hits", "shard_hits", "steals", "heap_dirty", "heap_fresh", "refused", "evictions", "purges",
        "grown_in_place", "moved_by_tables", "bytes_purged", "bytes_fresh", "bytes_live", "bytes_cached", "bytes_dirty",
        "bytes_muzzy", "bytes_clean", "bytes_holes", "bytes_mapped", "user_us", "system_us", "minor_faults", "n_threads")
PEAKS = ("bytes_live_peak", "max_rss_bytes", "wall_ns")


def reports_of(objects, where):
    """The reports in parsed JSON: lines of --stats, or sums of 'stat --json', which hold theirs."""
    found = []
    for each in objects:
        inner = each.get("reports") if isinstance(each, dict) and each.get("schema") == SUM_SCHEMA else [each]
        for report in inner if isinstance(inner, list) else [None]:
            if not isinstance(report, dict) or not isinstance(report.get("gets"), int):
                raise ToolError(f"{where}: not statistics of zeropool")
            found.append(report)
    return found


def parse(text, where):
    """The reports in a file of lines, or in a sum. A broken line, such as a killed writer leaves, is named."""
    try:
        whole = json.loads(text)
        if isinstance(whole, dict) and whole.get("schema") == SUM_SCHEMA:
            return reports_of([whole], where)
    except (ValueError, RecursionError):
        pass  # several lines
    reports = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            report = json.loads(line)
        except ValueError as error:
            raise ToolError(f"{where}:{number}: not JSON: {error}") from error
        if not isinstance(report, dict) or not isinstance(report.get("gets"), int):
            raise ToolError(f"{where}:{number}: not a line of zeropool statistics")
        reports.append(report)
    return reports


def number(report, key):
    value = report.get(key, 0)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def counted(report, key, noun):
    return plural(number(report, key), noun, shown=count(number(report, key)))


def sizes_of(report):
    return [s for s in report.get("sizes", []) if isinstance(s, dict) and number(s, "from")] \
        if isinstance(report.get("sizes"), list) else []


def add(reports):
    """One report for all. Peaks of memory are the largest of one process: they need not coincide in time."""
    total = {key: sum(number(r, key) for r in reports) for key in SUMS}
    total |= {key: max((number(r, key) for r in reports), default=0) for key in PEAKS}
    sizes = {}
    for report in reports:
        for row in sizes_of(report):
            into = sizes.setdefault(row["from"], {})
            for key in (*LEVELS, *BYTES):
                into[key] = into.get(key, 0) + number(row, key)
    total["sizes"] = [{"from": start, **values} for start, values in sorted(sizes.items())]
    total["processes"] = len(reports)
    return total


def warm_bytes(report, start=0, zeroed=True):
    """Bytes handed out with their pages in place; with those that had to be zero first, or without."""
    total = 0
    for row in sizes_of(report):
        if row["from"] >= start:
            total += number(row, "bytes_warm") - number(row, "bytes_emptied") - (0 if zeroed else number(row, "bytes_cleared"))
    return max(0, total)


def faults_avoided(report):
    """(lower, upper) number of page faults that did not happen."""
    return warm_bytes(report, GLIBC_MAPS_FROM, zeroed=False) // PAGE, warm_bytes(report) // PAGE


def hit_rate(report):
    """Share of requests that were served without untouched memory; None without requests."""
    served = sum(number(row, level) for row in sizes_of(report) for level in LEVELS)
    fresh = sum(number(row, "fresh") + number(row, "mixed") for row in sizes_of(report))
    return (served - fresh) / served if served else None


def percent(part, whole):
    return f"{100 * part / whole:.1f} %" if whole else "-"


def size_rows(report):
    rows, everything = [], {}
    for row in sizes_of(report) + [None]:
        values = everything if row is None else row
        n = sum(number(values, level) for level in LEVELS)
        label = "all" if row is None else f"{size(row['from'])} to {size(2 * row['from'])}"
        rows.append([label, count(n), *(percent(number(values, level), n) for level in LEVELS),
                     size(number(values, "bytes_warm")), size(number(values, "bytes_fresh"))])
        if row is not None:
            for key in (*LEVELS, *BYTES):
                everything[key] = everything.get(key, 0) + number(row, key)
    return rows


def saved_text(report, fault_ns, saving):
    low, high = faults_avoided(report)
    if not high:
        return "page faults avoided: none"
    lines = [f"page faults avoided: {count(low)} to {count(high)} at {fault_ns:.0f} ns each (measured here; 4 KiB pages)",
             f"time saved against glibc: between {seconds(saving.low_s)} and {seconds(saving.high_s)}; 'zeropool advise' measures it"
             + (f"; {saving.huge * 100:.0f} % of the memory has huge pages, which fault less" if saving.huge >= 0.01 else "")]
    lines.append("  at least: blocks of 32 MiB and more, which glibc maps anew each time, without those of calloc; at most:")
    lines.append("  against an allocator that maps every block; less where a program does not touch it, or has huge pages")
    cleared = sum(number(row, "bytes_cleared") for row in sizes_of(report))
    emptied = sum(number(row, "bytes_emptied") for row in sizes_of(report))
    if cleared or emptied:
        lines.append(f"zeroed blocks that were warm: {size(cleared)} cleared by memset, {size(emptied)} given back instead")
    return "\n".join(lines)


def text(report, fault_ns, title, saving):
    """The whole report of one process or of a sum."""
    lines = [title, ""]
    if number(report, "gets") or sizes_of(report):
        lines += [align(size_rows(report), HEADINGS), ""]
        lines.append(saved_text(report, fault_ns, saving))
    else:
        lines.append("no request was large enough for the pool")
    lines.append(f"memory: {size(number(report, 'bytes_live'))} live, {size(number(report, 'bytes_cached'))} in caches, "
                 f"{size(number(report, 'bytes_dirty'))} idle and warm (the kernel may take {size(number(report, 'bytes_muzzy'))}), "
                 f"{size(number(report, 'bytes_live_peak'))} at the peak; "
                 f"{size(number(report, 'bytes_purged'))} given back in {counted(report, 'purges', 'call')}")
    lines.append(f"rare events: {counted(report, 'steals', 'steal')} from other shards, "
                 f"{counted(report, 'evictions', 'eviction')}, {counted(report, 'refused', 'request')} refused, realloc: "
                 f"{count(number(report, 'grown_in_place'))} grown in place, {count(number(report, 'moved_by_tables'))} moved "
                 "without copying")
    if number(report, "minor_faults"):
        lines.append(f"process: {seconds(number(report, 'wall_ns') / 1e9)} wall, {seconds(number(report, 'user_us') / 1e6)} user, "
                     f"{seconds(number(report, 'system_us') / 1e6)} system, {counted(report, 'minor_faults', 'page fault')}, "
                     f"peak RSS {size(number(report, 'max_rss_bytes'))}")
    threads = report.get("threads")
    if isinstance(threads, list) and len(threads) > 1:
        lines += ["", align(thread_rows(threads), ("thread", "cache hits", "slow gets", "slow puts", "shard hits", "steals",
                                                   "cached"))]
    return "\n".join(lines)


def thread_rows(threads):
    keys = ("tcache_hits", "slow_gets", "slow_puts", "shard_hits", "steals")
    return [[str(i), *(count(number(t, key)) for key in keys), size(number(t, "bytes_cached"))]
            for i, t in enumerate((t for t in threads if isinstance(t, dict)), 1)]


def process_rows(reports, fault_ns):
    """One line per process, the busiest first."""
    rows = []
    for report in sorted(reports, key=lambda r: -warm_bytes(r)):
        rate = hit_rate(report)
        rows.append([str(number(report, "pid")), str(number(report, "parent")), str(report.get("command", "?"))[:24],
                     count(number(report, "gets")), "-" if rate is None else f"{rate * 100:.1f} %",
                     size(number(report, "bytes_live_peak")), count(faults_avoided(report)[1]),
                     seconds(faults_avoided(report)[1] * fault_ns / 1e9)])
    return rows


PROCESS_HEADINGS = ("pid", "parent", "command", "requests", "warm", "peak", "faults avoided", "at most")
