# SPDX-License-Identifier: MIT
"""zeropool advise --pid: what a running process says of itself within some seconds, without stopping it.

Under the pool, with its live page: bounds of what it saved, from its counters. Without the pool: what its page faults cost,
which no allocator can save more than.
"""
import time

from . import calibrate, live, saved, stats_report, unwaited
from .advise_estimate import WORTH
from .errors import OK, ToolError, say
from .stats_report import number
from .table import count, seconds


def main(pid, duration_s):
    pool = has_pool(pid)
    page = live.pages().get(pid)
    if pool and not page:
        raise ToolError(f"process {pid} has the pool but no page to read; start it with ZEROPOOL_LIVE=on, or use: zeropool advise -- CMD")
    before = unwaited.figures(pid)
    if before is None:
        raise ToolError(f"process {pid}: there is none")
    time.sleep(duration_s)
    after = unwaited.figures(pid)
    if after is None or after[0] != before[0]:
        raise ToolError(f"process {pid} ended within the {duration_s:g} s; use: zeropool advise -- CMD")
    faults, cpu_s, fault_ns = after[1] - before[1], after[2] - before[2], calibrate.page_fault_ns()
    newer = live.pages().get(pid) if page else None
    for line in pooled(page, newer, cpu_s, duration_s, fault_ns) if newer else plain(pid, faults, cpu_s, duration_s, fault_ns):
        say(line)
    return OK


def has_pool(pid):
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            return "libzeropool-preload" in file.read()
    except FileNotFoundError as error:
        raise ToolError(f"process {pid}: there is none") from error
    except OSError:
        return False


def difference(before, after):
    """What was counted in between; peaks and levels are those of the end."""
    rows = {row["from"]: row for row in stats_report.sizes_of(before)}
    found = dict(after)
    found["sizes"] = [{"from": row["from"], **{key: number(row, key) - number(rows.get(row["from"], {}), key)
                                               for key in (*stats_report.LEVELS, *stats_report.BYTES)}}
                      for row in stats_report.sizes_of(after)]
    for key in ("bytes_fresh", "minor_faults"):
        found[key] = max(0, number(after, key) - number(before, key))
    return found


def pooled(before, after, cpu_s, duration_s, fault_ns):
    change = difference(before.report, after.report)
    saving = saved.one(change, fault_ns)
    shares = [value / (cpu_s + value) if cpu_s + value else 0.0 for value in (saving.low_s, saving.high_s)]
    word = "no" if shares[1] < WORTH else "yes" if shares[0] >= WORTH else "perhaps"
    if not after.updated_ns > before.updated_ns:
        return [f"process {after.pid} wrote nothing into its page meanwhile: it rests, or is stopped"]
    return [f"{word}: in {duration_s:g} s the pool saved process {after.pid} between {100 * shares[0]:.0f} and {100 * shares[1]:.0f} % of the "
            f"processor time that it would take under glibc ({seconds(cpu_s)} under the pool), judged by its counters alone",
            "next: zeropool advise -- CMD   (runs it under both, and measures)"]


def plain(pid, faults, cpu_s, duration_s, fault_ns):
    cost = min(cpu_s, faults * fault_ns / 1e9)
    share = cost / cpu_s if cpu_s else 0.0
    figures = (f"in {duration_s:g} s process {pid} took {count(faults)} page faults, about {100 * share:.0f} % of its "
               f"{seconds(cpu_s)} of processor time")
    if share < WORTH:
        return [f"no: {figures}; a pool cannot save more"]
    return [f"perhaps: {figures}; a pool saves at most that, and only what large blocks of malloc cause",
            "next: zeropool advise -- CMD   (runs it under both; or start it with ZEROPOOL_LIVE=on zeropool run -- CMD and look again)"]
