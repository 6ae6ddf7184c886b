# SPDX-License-Identifier: MIT
"""Bounds: what the pool is held against in a row, and whether it keeps to it.

A bound is a ratio of medians of the same run. Its 95 % interval comes from the rounds as pairs (stats.interval); where
that contains the limit the verdict stands with a question mark: more rounds would be needed to be sure.
"""
import math
from dataclasses import dataclass

from . import stats

MET, MISSED, UNKNOWN = "met", "missed", "not measured"


@dataclass(frozen=True)
class Verdict:
    key: str
    bound: str  # in words
    limit: float
    value: float = None  # what has to be at most `limit`
    low: float = None
    high: float = None
    against: str = ""  # the variant on the other side of the ratio

    @property
    def met(self):
        return None if self.value is None else self.value <= self.limit

    @property
    def sure(self):
        return self.value is not None and not self.low <= self.limit <= self.high

    @property
    def word(self):
        if self.value is None:
            return UNKNOWN
        return (MET if self.met else MISSED) + ("" if self.sure or self.low == self.high else "?")


def ratio_verdict(key, words, limit, mine, base, against):
    """mine and base are values per round; None where they are missing."""
    if not mine or not base or not stats.median(base):
        return Verdict(key, words, limit, against=against)
    value = stats.safe_ratio(stats.median(mine), stats.median(base))
    if len(mine) == len(base):
        low, high = stats.interval(mine, base)
    else:
        low = high = value
    return Verdict(key, words, limit, value, low, high, against)


@dataclass(frozen=True)
class BestPeer:
    """At most `limit` times the best of the other allocators."""
    key: str
    limit: float

    def words(self):
        return f"<= {self.limit:.2f} x best peer"

    def judge(self, results, row, subject):
        peers = {name: results.values(row.name, name, self.key) for name in results.peers}
        peers = {name: values for name, values in peers.items() if values}
        best = min(peers, key=lambda name: stats.median(peers[name]), default="")
        return ratio_verdict(self.key, self.words(), self.limit, results.values(row.name, subject, self.key),
                             peers.get(best), best)


@dataclass(frozen=True)
class Against:
    """At most `limit` times another allocator."""
    key: str
    base: str
    limit: float

    def words(self):
        return f"<= {self.limit:.2f} x {self.base}"

    def judge(self, results, row, subject):
        return ratio_verdict(self.key, self.words(), self.limit, results.values(row.name, subject, self.key),
                             results.values(row.name, self.base, self.key), self.base)


@dataclass(frozen=True)
class Absolute:
    """The figure is a ratio already, which the program measured in itself."""
    key: str
    limit: float
    base: str

    def words(self):
        return f"<= {self.limit:.2f} x {self.base}"

    def judge(self, results, row, subject):
        mine = results.values(row.name, subject, self.key)
        return ratio_verdict(self.key, self.words(), self.limit, mine, [1.0] * len(mine), self.base)


@dataclass(frozen=True)
class Elsewhere:
    """At most `limit` times the figure of another row: of allocator `base`, or of the same one where that is None."""
    key: str
    row: str
    base: str
    limit: float

    def words(self):
        return f"<= {self.limit:.2f} x {self.base + ' ' if self.base else ''}{self.row}"

    def judge(self, results, row, subject):
        return ratio_verdict(self.key, self.words(), self.limit, results.values(row.name, subject, self.key),
                             results.values(self.row, self.base or subject, self.key), self.base or self.row)


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values and all(v > 0 for v in values) else None


def mean_ratio(results, rows, key, subject, base):
    """Geometric mean over rows of the ratio of medians subject / base; None where nothing can be said."""
    ratios = []
    for row in rows:
        mine, other = results.values(row.name, subject, key), results.values(row.name, base, key)
        if mine and other:
            ratios.append(stats.safe_ratio(stats.median(mine), stats.median(other)))
    return geometric_mean(ratios)
