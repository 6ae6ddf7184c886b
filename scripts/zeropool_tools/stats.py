# SPDX-License-Identifier: MIT
"""Medians, intervals and verdicts for paired rounds.

In every round each variant runs once, so slow drift of the machine hits both sides of a pair: resampling draws whole
rounds, never single runs. A difference counts only if two views agree: the bootstrap 95 % interval of the ratio of
medians excludes 1, and an exact test of the pairs gives p < 0.05 (signed-rank, strong where noise is even, or sign
test, strong where single runs are far late). In simulations with both kinds of noise the interval alone errs in up
to 6 % of comparisons of identical programs, both together in 1-3 %, and a true difference of 3 % is found as often.
"""
import math
import random
from dataclasses import dataclass

from .words import plural

SEED = 20240229  # fixed: the same runs give the same interval every time they are looked at
MIN_ROUNDS_FOR_VERDICT = 6  # with 5 pairs neither test can reach p < 0.05


@dataclass(frozen=True)
class Ratio:
    value: float
    low: float
    high: float
    p: float  # the smaller one of the two tests
    n: int

    @property
    def decidable(self):
        return self.n >= MIN_ROUNDS_FOR_VERDICT

    @property
    def significant(self):
        return self.decidable and self.p < 0.05 and (self.low > 1.0 or self.high < 1.0)

    @property
    def half_width(self):
        return (self.high - self.low) / 2


def median(values):
    ordered = sorted(values)
    n = len(ordered)
    if not n:
        raise ValueError("median of nothing")
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2


def spread(values):
    """Relative spread that single outliers do not move: 1.4826 x MAD / median, about sigma/mean for normal noise."""
    middle = median(values)
    if not middle:
        return 0.0
    return 1.4826 * median([abs(v - middle) for v in values]) / middle


def sigma(values):
    """Standard deviation of the sample; None of a single value."""
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def outliers(values):
    """How many values lie far out: more than 5 spreads, and more than 5 %, above the median."""
    middle = median(values)
    limit = middle * (1 + max(0.05, 5 * spread(values)))
    return sum(v > limit for v in values)


def safe_ratio(a, b):
    if b == 0:
        return 1.0 if a == 0 else math.inf
    return a / b


def interval(mine, base, resamples=2000, seed=SEED):
    """The bootstrap percentile 95 % interval of median(mine) / median(base), rounds drawn as pairs."""
    n = len(mine)
    if n != len(base) or not n:
        raise ValueError("pairs wanted")
    rng = random.Random(seed)
    ratios = []
    for _ in range(resamples):
        drawn = rng.choices(range(n), k=n)
        ratios.append(safe_ratio(median([mine[i] for i in drawn]), median([base[i] for i in drawn])))
    ratios.sort()
    return ratios[int(resamples * 0.025)], ratios[int(resamples * 0.975) - 1]


def signed_rank_p(mine, base):
    """Exact two-sided p of the Wilcoxon signed-rank test on the logarithms of the paired ratios.

    Ties get middle ranks, kept whole by doubling; equal pairs drop out.
    """
    steps = [math.log(safe_ratio(a, b)) if a > 0 and b > 0 else float(a - b) for a, b in zip(mine, base)]
    steps = sorted((s for s in steps if s), key=abs)
    n = len(steps)
    if not n:
        return 1.0
    ranks, start = [], 0
    while start < n:
        end = start
        while end < n and abs(steps[end]) == abs(steps[start]):
            end += 1
        ranks += [start + 1 + end] * (end - start)  # twice the mean of the ranks start+1 .. end
        start = end
    total = sum(ranks)
    ways = [0] * (total + 1)
    ways[0] = 1
    for rank in ranks:
        for s in range(total, rank - 1, -1):
            ways[s] += ways[s - rank]
    up = sum(r for r, s in zip(ranks, steps) if s > 0)
    low = min(up, total - up)
    return min(1.0, 2 * sum(ways[:low + 1]) / 2 ** n)


def sign_p(mine, base):
    """Exact two-sided p of the sign test: how often is one side ahead? Equal pairs drop out."""
    ahead = sum(a > b for a, b in zip(mine, base))
    behind = sum(a < b for a, b in zip(mine, base))
    n = ahead + behind
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(ahead, behind) + 1)) / 2 ** n)


def compare(mine, base, resamples=2000, seed=SEED):
    """The Ratio of two paired samples, mine over base."""
    low, high = interval(mine, base, resamples, seed)
    p = min(signed_rank_p(mine, base), sign_p(mine, base))
    return Ratio(safe_ratio(median(mine), median(base)), low, high, p, len(mine))


def precise_enough(mine, base, half_width=0.01, resamples=400):
    """Whether more rounds are not worth their time: the interval is within +-1 %, or a fifth of the difference.

    Looks at the width and never at the verdict: stopping as soon as a difference shows would find differences in noise.
    """
    ratio = compare(mine, base, resamples)
    return ratio.half_width <= max(half_width, abs(ratio.value - 1) / 5)


def rounds_in_words(n):
    """With its verb: `1 round is`, `3 rounds are`."""
    return f"{plural(n, 'round')} {'is' if n == 1 else 'are'}"


def in_words(ratio, what="time"):
    """The verdict as the middle of a sentence."""
    if not ratio.decidable:
        return (f"{ratio.value:.2f} x the {what}, but {rounds_in_words(ratio.n)} too few for a verdict "
                f"(at least {MIN_ROUNDS_FOR_VERDICT})")
    percent = abs(1 - ratio.value) * 100
    if not ratio.significant and (ratio.low > 1.0 or ratio.high < 1.0):
        return (f"perhaps {percent:.1f} % {'less' if ratio.value < 1 else 'more'} {what} (interval {ratio.low:.3f} to {ratio.high:.3f}), "
                f"but the rounds, pair by pair, do not agree enough (p = {ratio.p:.2f}); more rounds would tell")
    if not ratio.significant:
        return f"no significant difference in {what} (interval {ratio.low:.3f} to {ratio.high:.3f})"
    change = f"{percent:.1f} % {'less' if ratio.value < 1 else 'more'} {what}"
    if ratio.value >= 2:
        change = f"{ratio.value:.1f} x the {what}"
    return f"{change} (interval {ratio.low:.3f} to {ratio.high:.3f})"
