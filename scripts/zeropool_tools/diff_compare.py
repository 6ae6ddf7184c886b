# SPDX-License-Identifier: MIT
"""Two comparisons against one another: the same allocator before and after.

The runs of the two were not interleaved, so whole rounds are drawn from each on its own (bootstrap 95 % interval). With ratios
to the baseline a round gives one ratio, its two runs being neighbours in time; that takes out what the machine did meanwhile.
"""
import math
import random
import shlex
from dataclasses import dataclass

from . import html, results, stats, table
from .errors import ToolError

RESAMPLES = 2000
MACHINE = ("cpu", "cpus", "usable_cpus", "memory_bytes")


@dataclass(frozen=True)
class Growth:
    """Something that costs more in B, or that nothing can be said of."""
    what: str
    percent: float
    doubt: str = ""  # why the growth does not count
    few: bool = False  # too few rounds for any verdict

    def by(self):
        return "from nothing" if self.percent == math.inf else f"by {self.percent:.1f} %"


def show(sides, paths, values):
    """Prints the table; ([Growth], next command)."""
    names = common(sides, values["only"], paths)
    metric, base = values["metric"], common_baseline(sides)
    if sides[0]["command"] != sides[1]["command"]:
        print(f"note: different commands: {shlex.join(sides[0]['command'])} and {shlex.join(sides[1]['command'])}")
    same = same_machine(sides)
    if not same:
        print("note: A and B come from different machines" + ("" if values["absolute"] else ", so only ratios to the baseline are judged"))
    rows, found = [], []
    for name in names:
        relative = base is not None and name != base and not values["absolute"]
        series = [values_of(side, name, metric, base if relative else None) for side in sides]
        change = Change(*series)
        figures = [f"{stats.median(s):.3f}" if relative else html.FORMATS[metric](stats.median(s)) for s in series]
        rows.append([name, f"ratio to {base}" if relative else "absolute", *figures, change.cell(), change.word()])
        # With --relative the baseline's own change is the machine's, and nobody's fault; alone it is what was asked for.
        if relative or values["absolute"] or base is None or names == [base] or (same and not values["relative"]):
            found += change.growth(f"{metric} of {name}{f' relative to {base}' if relative else ''}")
    print(f"{metric}, medians: A is {paths[0]}, B is {paths[1]}")
    print(table.align(rows, ("allocator", "measure", "A", "B", "B / A [95 %]", "verdict"), left=2), flush=True)
    return found, f"{results.again(sides[1])}   (more rounds narrow the intervals)"


def common(sides, only, paths):
    names = [v["name"] for v in sides[0]["variants"] if v["name"] in {w["name"] for w in sides[1]["variants"]}]
    if only:
        if only not in names:
            raise ToolError(f"{only} is not in both {paths[0]} and {paths[1]}")
        return [only]
    if not names:
        raise ToolError(f"{paths[0]} and {paths[1]} have no allocator in common")
    return names


def same_machine(sides):
    """Whether figures may be held against one another; where a result does not say, they may."""
    machines = [side.get("machine") if isinstance(side.get("machine"), dict) else {} for side in sides]
    return all(machines[0].get(key) == machines[1].get(key) for key in MACHINE if key in machines[0] and key in machines[1])


def common_baseline(sides):
    return sides[0]["baseline"] if sides[0]["baseline"] == sides[1]["baseline"] else None


def values_of(side, name, metric, base):
    runs = {v["name"]: v["runs"] for v in side["variants"]}
    own = [run[metric] for run in runs[name]]
    if base is None:
        return own
    return [stats.safe_ratio(mine, theirs[metric]) for mine, theirs in zip(own, runs.get(base, ()))] or own


class Change:
    """The ratio of the medians of two unpaired samples, and its interval."""

    def __init__(self, before, after):
        self.n = min(len(before), len(after))
        self.value = stats.safe_ratio(stats.median(after), stats.median(before))
        rng = random.Random(stats.SEED)
        drawn = sorted(stats.safe_ratio(stats.median(rng.choices(after, k=len(after))),
                                        stats.median(rng.choices(before, k=len(before)))) for _ in range(RESAMPLES))
        self.low, self.high = drawn[int(RESAMPLES * 0.025)], drawn[int(RESAMPLES * 0.975) - 1]

    @property
    def significant(self):
        return self.n >= stats.MIN_ROUNDS_FOR_VERDICT and (self.low > 1 or self.high < 1)

    @property
    def percent(self):
        return math.inf if self.value == math.inf else 100 * (self.value - 1)

    def cell(self):
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def growth(self, what):
        """[] where B costs no more than A."""
        if self.n < stats.MIN_ROUNDS_FOR_VERDICT:
            return [Growth(what, self.percent, f"{stats.rounds_in_words(self.n)} too few (at least {stats.MIN_ROUNDS_FOR_VERDICT})", True)]
        if self.percent <= 0:
            return []
        doubt = "" if self.significant else f"that may be chance (interval of B / A {self.low:.3f} to {self.high:.3f})"
        return [Growth(what, self.percent, doubt)]

    def word(self):
        if self.n < stats.MIN_ROUNDS_FOR_VERDICT:
            return f"too few rounds ({self.n})"
        if not self.significant:
            return "no significant change"
        return f"{abs(self.percent):.1f} % {'more' if self.percent > 0 else 'less'}"
