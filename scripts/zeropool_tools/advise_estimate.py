# SPDX-License-Identifier: MIT
"""From runs in turns to one figure with an interval: the processor time that the pool saves, its causes, its verdict.

Two views of the saving. Direct: median processor time under glibc minus that under the pool; unbiased, but as noisy as the machine.
By faults: the difference of page faults, which hardly varies, times what a fault costs here, and two calls for each block that
glibc always maps; precise, but blind to other causes.
They are joined by their precision where they agree, and the direct one stands alone where they do not.
"""
import os
from dataclasses import dataclass, field

from . import stats
from .stats_report import LEVELS, PAGE, number, sizes_of

WORTH = 0.03  # share of the processor time from which a difference counts
NOISE = 0.06  # of one run's processor time, where too few runs show it
NOISE_WHEN_BUSY = 0.09
LEAST_NOISE = 0.01
START_S = 0.001  # by how much starts of a program differ
SHORT_S = 0.01  # of processor time; what takes less has nothing to save
OF_FAULTS = 0.35  # how far the cost of a fault in the program may be from what is measured here
OTHER_CAUSES = 0.012  # of the processor time, of which faults tell nothing
UNKNOWN_CAUSES = 0.05  # the same where no statistics tell how many large blocks there were
CALLS_S = 4e-6  # what the system calls for one large block may take besides
MUCH_MEMORY, MUCH_RATIO = 32 << 20, 1.5
ONE_SIDED = 1.28 / 2
YES, NO, HARM = "yes", "no", "do not use it"


@dataclass
class Estimate:
    saved_s: float
    low_s: float
    high_s: float
    base_s: float  # processor time under glibc
    faults: float  # under glibc minus under the pool
    disagree: bool = False
    causes: list = field(default_factory=list)  # [(name, seconds)], the largest first

    @property
    def share(self):
        return self.saved_s / self.base_s if self.base_s else 0.0

    @property
    def bounds(self):
        return (self.low_s / self.base_s, self.high_s / self.base_s) if self.base_s else (0.0, 0.0)


def middle(runs, key):
    return stats.median([getattr(run, key) for run in runs])


def busy():
    return os.getloadavg()[0] > 1.2 * len(os.sched_getaffinity(0))


def uncertainty(runs):
    """Standard error of the median of their processor time."""
    times = [run.cpu_s for run in runs]
    n, typical = len(times), stats.median(times)
    assumed = (NOISE_WHEN_BUSY if busy() else NOISE) * typical
    if n >= 4:
        seen = stats.spread(times) * typical
        assumed = max(LEAST_NOISE * typical, (seen * (n - 1) + assumed) / n)
    return (1.25 * assumed + START_S) / n ** 0.5


def huge_pages(base):
    """Whether memory came in pieces larger than a page, so that faults do not tell how much."""
    peak = middle(base, "peak")
    return peak > MUCH_MEMORY and middle(base, "faults") * PAGE < peak / 2


def estimate(base, other, fault_ns, requests=None, mapping_s=0.0):
    """What `other` saves against `base`, two lists of runs.

    requests: how many were for large blocks, where statistics tell; mapping_s: what it takes to map those that glibc always maps.
    """
    base_s, other_s = middle(base, "cpu_s"), middle(other, "cpu_s")
    direct, error = base_s - other_s, (uncertainty(base) ** 2 + uncertainty(other) ** 2) ** 0.5
    faults = middle(base, "faults") - middle(other, "faults")
    by_faults = faults * fault_ns / 1e9 + mapping_s
    doubt = OF_FAULTS * abs(by_faults) + START_S / 2
    doubt += UNKNOWN_CAUSES * base_s if requests is None else OTHER_CAUSES * base_s + CALLS_S * requests
    found = Estimate(direct, 0.0, 0.0, base_s, faults)
    if huge_pages(base) or abs(direct - by_faults) > 2 * (error ** 2 + doubt ** 2) ** 0.5:
        found.disagree = not huge_pages(base)
    else:
        weight, weight_by_faults = error ** -2, doubt ** -2
        found.saved_s = (direct * weight + by_faults * weight_by_faults) / (weight + weight_by_faults)
        error = (weight + weight_by_faults) ** -0.5
    found.low_s, found.high_s = max(found.saved_s - 2 * error, -10 * base_s), min(base_s, found.saved_s + 2 * error)
    return found


def verdict(found, base, other):
    """YES, NO or HARM."""
    low, high = found.bounds
    if found.base_s < SHORT_S and abs(found.saved_s) < SHORT_S:
        return NO
    # One side, nine times of ten: the interval of 95 % has two.
    if found.share >= WORTH and found.share > ONE_SIDED * (found.share - low):
        return YES
    if found.share <= -WORTH and high < 0:
        return HARM
    more = middle(other, "peak") - middle(base, "peak")
    if more > MUCH_MEMORY and middle(other, "peak") > MUCH_RATIO * middle(base, "peak"):
        return HARM
    return NO


def clear(found):
    """Whether more rounds would not change the answer."""
    low, high = found.bounds
    if found.base_s < SHORT_S:
        return True
    half = (high - low) / 2
    decided = low > WORTH or high < -WORTH or -WORTH < low and high < WORTH
    return half < 0.04 and decided or half < 0.01


def causes(found, base, pool, report, fault_ns, page_clear_ns):
    """Splits found.saved_s: [(what, seconds)]. A negative one is what the pool pays itself."""
    system = middle(base, "sys_s") - middle(pool, "sys_s")
    faults = found.faults * fault_ns / 1e9
    clearing = found.faults * page_clear_ns / 1e9
    if faults > 0 and 0 < system < faults:  # huge pages, or cheaper ones than those that were measured
        clearing *= system / faults
        faults = system
    zeroed = sum(number(row, "bytes_cleared") for row in sizes_of(report)) / PAGE * page_clear_ns / 1e9
    rest = found.saved_s - faults + zeroed
    calls = min(max(0.0, system - faults), max(0.0, rest))
    rest -= calls
    parts = [("refaults: pages that glibc gave back and took anew", faults - clearing),
             ("zeroing of these pages by the kernel", clearing),
             ("zeroing by the pool for calloc", -zeroed),
             ("trimming and mapping: system calls that give memory back and take it", calls)]
    grown = number(report, "grown_in_place") + number(report, "moved_by_tables")
    if grown and rest > 0:
        parts.append((f"growth: {grown} reallocs without a copy, and what is left over", rest))
    elif number(report, "n_threads") > 1 and rest > 0:
        parts.append(("cross-thread: locks and memory that other threads freed, and what is left over", rest))
    else:
        parts.append(("other: caches, the calls themselves, noise", rest))
    least = 0.005 * found.base_s
    return sorted(((name, value) for name, value in parts if abs(value) > least), key=lambda part: -abs(part[1]))


def through_malloc(base, pool, report):
    """(faults under glibc, how many of them touched blocks of malloc that are large enough for the pool)."""
    fresh = number(report, "bytes_fresh") / PAGE
    all_faults = middle(base, "faults")
    return all_faults, max(0.0, min(all_faults, all_faults - middle(pool, "faults") + fresh))


def by_rates(base, other, fault_ns):
    """(low, high) of the saved share, from what page faults take in two runs of any length; `other` may be None: then from 0 on."""
    bounds = []
    for cost_ns in (fault_ns * (1 - OF_FAULTS), fault_ns * (1 + OF_FAULTS)):
        before, after = (min(0.95, run.faults * cost_ns / 1e9 / run.cpu_s) if run and run.cpu_s else 0.0 for run in (base, other))
        bounds.append(1 - (1 - before) / (1 - after))
    return (min(bounds) if other else 0.0), max(bounds)


def requests_of(report, start=0):
    return sum(number(row, level) for row in sizes_of(report) for level in LEVELS if row["from"] >= start)
