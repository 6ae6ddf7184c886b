# SPDX-License-Identifier: MIT
"""What advise says: the verdict first, then figures, causes, memory, rivals, settings and the next command."""
import os
import shlex

from . import advise_settings, stats_report
from .advise_estimate import HARM, NO, SHORT_S, WORTH, YES, busy, middle, requests_of, through_malloc
from .advise_measure import GLIBC, POOL
from .stats_report import number
from .table import count, seconds, size
from .words import plural


def share(value):
    return f"{100 * value:.0f} %"


def interval(found):
    low, high = found.bounds
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def first(found, answer, base, pool, who="CMD"):
    """The line of the verdict."""
    change = (f"{seconds(middle(pool, 'cpu_s'))} of processor time instead of {seconds(middle(base, 'cpu_s'))} under glibc, "
              f"wall time {seconds(middle(pool, 'wall_s'))} instead of {seconds(middle(base, 'wall_s'))}")
    if answer == YES:
        return f"yes: the pool saves {who} {share(found.share)} of its processor time ({interval(found)}); {change}"
    if answer == HARM and found.share <= -WORTH:
        return f"do not use it: the pool costs {who} {share(-found.share)} more processor time (saving: {interval(found)}); {change}"
    if answer == HARM:
        return (f"do not use it: it takes {size(middle(pool, 'peak'))} of memory instead of {size(middle(base, 'peak'))} and saves "
                f"{share(found.share)} of the processor time ({interval(found)}); {change}")
    if found.base_s < SHORT_S:
        return f"no: {who} is too short to save anything; {change}"
    if found.share >= WORTH or found.share <= -WORTH:
        return (f"no: no difference can be told from the noise of this machine, saving {interval(found)} of the processor time; {change}")
    return f"no: the pool makes no difference that counts, {share(found.share)} of the processor time ({interval(found)}); {change}"


def measured_line(result, found, total, base, pool):
    n = result.rounds
    text = (f"measured: {plural(n, 'run')} each under glibc and the pool, in turns; page faults {count(middle(base, 'faults'))} and "
            f"{count(middle(pool, 'faults'))}")
    requests = requests_of(total)
    text += f"; {plural(requests, 'request', shown=count(requests))} of 32 KiB and more in {plural(total['processes'], 'process', 'processes')}" \
        if total["processes"] else "; no statistics of the pool (a signal or _exit ends a program without them)"
    if requests:
        text += f", at most {size(number(total, 'bytes_live_peak'))} live"
    if found.disagree:
        text += "; faults alone do not explain the difference"
    if busy():
        text += f"; the machine is busy (load {os.getloadavg()[0]:.0f}), so wall times say little"
    return text


def memory_line(base, pool):
    ratio = middle(pool, "peak") / max(1, middle(base, "peak"))
    return (f"memory: the largest process needs {size(middle(pool, 'peak'))} at its peak instead of {size(middle(base, 'peak'))} "
            f"({ratio:.2f} x)")


def rival_lines(result, rivals, estimates, base):
    """Each plain alternative that was run."""
    lines = []
    for name, found in estimates.items():
        runs = result.of(name)
        lines.append(f"instead of it: {rivals[name]} saves {share(found.share)} ({interval(found)}) with "
                     f"{middle(runs, 'peak') / max(1, middle(base, 'peak')):.2f} x the memory of glibc")
    return lines


def own_memory_line(base, pool, total, argv):
    """Where most faults are no business of malloc."""
    faults, ours = through_malloc(base, pool, total)
    if faults < 20000 or ours > faults / 2:
        return []
    return [f"own memory: {count(faults)} page faults, {count(ours)} of them in blocks that malloc was asked for; the rest is memory that "
            f"the program maps itself, or small blocks{'; USE_ZEND_ALLOC=0 makes PHP ask malloc' if is_php(argv) else ''}"]


def is_php(argv):
    return os.path.basename(os.path.realpath(argv[0])).startswith("php")


def advice(result, found, answer, parts, rivals, estimates, argv, again, who="CMD"):
    """All lines of a measured answer."""
    base, pool = result.of(GLIBC), result.of(POOL)
    total = stats_report.add(result.reports)
    lines = [first(found, answer, base, pool, who), measured_line(result, found, total, base, pool)]
    if parts and answer != NO:
        lines.append("by cause: " + "; ".join(f"{name}: {'-' if value < 0 else ''}{seconds(abs(value))}" for name, value in parts))
    lines.append(memory_line(base, pool))
    lines += rival_lines(result, rivals, estimates, base) + own_memory_line(base, pool, total, argv)
    if result.unwaited:
        lines.append(f"children that nobody waits for took {count(result.unwaited)} page faults; what they did at their very end is not counted")
    if result.first.status:
        lines.append(f"{who} ended with status {result.first.status}, under glibc as under the pool")
    if answer == YES:
        lines.append(f"settings: {advise_settings.fitting(total, result.reports)}")
        if number(total, "refused"):
            refused = number(total, "refused")
            lines.append(f"too large for the pool, or over a limit: {plural(refused, 'request', shown=count(refused))}, served by glibc")
        lines.append(f"next: {again}   (all allocators, with memory beside time)" if who != "CMD" else
                     f"next: zeropool run -- {shlex.join(argv)}")
    elif answer == NO and not requests_of(total):
        lines.append(f"next: zeropool compare -a glibc,jemalloc,mimalloc,tcmalloc -- {shlex.join(argv)}   (small blocks)" if who == "CMD"
                     else f"next: {again}")
    else:
        lines.append(f"next: {again}   (if in doubt)")
    return lines


def unfinished(result, bounds, argv):
    """What is known where no round was complete: what page faults take under glibc, and under the pool as far as it ran."""
    base, pool = result.partial.get(GLIBC) or result.first, result.partial.get(POOL)
    low, high = bounds
    took = f"{seconds(base.cpu_s)} of processor time and {count(base.faults)} page faults under glibc"
    if pool:
        took += f", {seconds(pool.cpu_s)} and {count(pool.faults)} under the pool until the interruption"
    if high < WORTH:
        verdict = f"no: interrupted, but page faults take too little time: a pool saves at most {share(high)} of the processor time; {took}"
    elif low >= WORTH:
        verdict = f"yes: interrupted, but by the page faults that the pool spares it saves {share(low)} to {share(high)} of the processor time; {took}"
    else:
        verdict = f"perhaps: interrupted; a pool saves at most {share(high)} of the processor time, which is what page faults take; {took}"
    return [verdict, f"next: zeropool advise --once -- {shlex.join(argv)}   (two whole runs measure it)"]
