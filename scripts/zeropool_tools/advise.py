# SPDX-License-Identifier: MIT
"""zeropool advise: runs a program once with statistics and says whether its large allocations are worth the pool, and how."""
import os
import shlex
import signal
import tempfile
import time

from . import calibrate, elf, foreground, saved, stats_report, variants
from .errors import OK, say
from .options import Command, Option
from .session import check_command
from .stats_report import LEVELS, number, sizes_of
from .table import count, seconds, size
from .words import plural

WORTH, LITTLE = 0.05, 0.01  # of the processor time
COMMAND = Command(
    "advise", "[options] -- CMD...",
    "Runs CMD once with the pool and its statistics, and says plainly whether large allocations cost it time under glibc, and\n"
    "which threshold, preset and next allocator to use, with the figures. CMD's input and output are its own.",
    (Option("--help", "this text", "-h"),),
    """Exit status: that of CMD (128+n when signal n ended it), 2 wrong usage, 125 zeropool failed, 126, 127 CMD cannot be
executed or was not found.

Example: zeropool advise -- python3 job.py""")


def main(words):
    values, argv = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    if not argv:
        COMMAND.fail("no command given")
    argv = check_command(argv)
    pool = variants.resolve("zeropool")
    variants.probe(pool, os.environ)
    obstacles = elf.obstacles(argv[0])
    for obstacle in obstacles:
        say(f"warning: {obstacle}")
    with tempfile.TemporaryDirectory(prefix="zeropool-advise-") as folder:
        path = os.path.join(folder, "stats")
        status, wall_s, cpu_s = run(argv, {**pool.environment(os.environ), "ZEROPOOL_STATS": path})
        reports = read(path)
    if not reports:
        say("no statistics: the pool was not in any process that ended by exit"
            + ("" if obstacles else " (a signal or _exit ends a program without them)"))
        say(f"next: zeropool doctor {shlex.quote(argv[0])}")
        return status
    fault_ns = calibrate.page_fault_ns()
    for line in advice(reports, saved.of(reports, fault_ns), cpu_s, wall_s, argv):
        say(line)
    return status


def run(argv, env):
    """(status as a shell gives it, wall seconds, processor seconds). Signals are the program's; we outlive it."""
    with foreground.held() as mask:
        started = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, env, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ], setsigmask=mask)
        raw, usage, _ = foreground.wait(pid)
        wall_s = time.perf_counter() - started
    code = os.waitstatus_to_exitcode(raw)
    return 128 - code if code < 0 else code, wall_s, usage.ru_utime + usage.ru_stime


def read(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        return stats_report.parse(file.read(), "statistics")


def advice(reports, saving, cpu_s, wall_s, argv):
    """The lines to say, the verdict first and the next command last."""
    total = stats_report.add(reports)
    command = shlex.join(argv)
    requests = sum(number(row, level) for row in sizes_of(total) for level in LEVELS)
    took = f"{seconds(wall_s)}, {seconds(cpu_s)} of processor time"
    who = plural(len(reports), "process", "processes")
    if not requests:
        return [f"no: not one request of 32 KiB or more in {who} ({took}); the pool has nothing to do here",
                f"next: zeropool compare -a glibc,jemalloc,mimalloc,tcmalloc -- {command}   (small blocks)"]
    without_s = cpu_s + saving.likely_s
    share = saving.likely_s / without_s if without_s else 0.0
    known = (f"under glibc they would cost about {seconds(saving.likely_s)} more ({seconds(saving.low_s)} to {seconds(saving.high_s)}), "
             f"{100 * share:.0f} % of its processor time")
    if share >= WORTH:
        lines = [f"yes: large allocations cost this program time; {known}"]
    elif share >= LITTLE:
        lines = [f"a little: {known}"]
    else:
        lines = [f"no: large allocations hardly cost this program time; {known}"]
    low, high = stats_report.faults_avoided(total)
    lines.append(f"seen: {plural(requests, 'request', shown=count(requests))} of 32 KiB and more in {who} ({took}), at most {size(number(total, 'bytes_live_peak'))} live; "
                 f"{count(low)} to {count(high)} page faults avoided")
    lines += [threshold(total), preset(total), next_allocator(reports)]
    if number(total, "refused"):
        refused = number(total, "refused")
        lines.append(f"too large for the pool, or over a limit: {plural(refused, 'request', shown=count(refused))}, served by glibc")
    lines.append(f"next: zeropool compare -- {command}   ({'confirms it, with memory beside time' if share >= LITTLE else 'if in doubt'})")
    return lines


def threshold(total):
    """A higher one only where it spares nearly all calls and loses nearly none of the bytes."""
    rows = sorted(sizes_of(total), key=lambda row: row["from"])
    calls = [sum(number(row, level) for level in LEVELS) for row in rows]
    warm = [number(row, "bytes_warm") for row in rows]
    for i in range(len(rows) - 1, 0, -1):
        if sum(warm[:i]) < 0.01 * sum(warm) and sum(calls[:i]) > 0.9 * sum(calls):
            return (f"threshold: --threshold {rows[i]['from'] >> 10}K would do: below it are {100 * sum(calls[:i]) / sum(calls):.0f} % of the "
                    f"requests and {100 * sum(warm[:i]) / sum(warm):.1f} % of the reused bytes")
    return "threshold: the default (32K) fits"


def preset(total):
    """The presets are all one; what may help is to keep more."""
    rows = sizes_of(total)
    warm = sorted((number(row, "bytes_warm") for row in rows), reverse=True)
    peak = number(total, "bytes_live_peak")
    purged, reused = number(total, "bytes_purged"), sum(warm)
    if purged > reused / 5 and purged > 64 << 20:
        return (f"preset: balanced, but {size(purged)} went back to the kernel and {size(reused)} were reused: "
                f"--retain {max(1, peak >> 20)}M keeps more, at the price of memory")
    return "preset: balanced (the default) fits"


def next_allocator(reports):
    threads = max(number(report, "n_threads") for report in reports)
    if threads > 1:
        return (f"next allocator: up to {threads} threads, whose small blocks glibc serves; --next jemalloc or mimalloc may be faster: "
                "zeropool compare -a glibc,zeropool,zeropool+jemalloc,zeropool+mimalloc")
    return "next allocator: glibc is fine for the small blocks of one thread"
