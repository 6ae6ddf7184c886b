# SPDX-License-Identifier: MIT
"""Statistics: known values, and by simulation how often verdicts are right. All seeds are fixed."""
import math
import random
import unittest

from zeropool_tools import stats


def pairs(rng, n, effect=1.0, noise=0.01, outlier=0.1, drift=0.01):
    """n rounds of two variants: normal noise, one run in ten up to 30 % late, a shift common to both of a round."""
    mine, base = [], []
    for _ in range(n):
        shift = rng.gauss(0, drift)
        for values, factor in ((mine, effect), (base, 1.0)):
            late = 1 + rng.uniform(0.03, 0.3) if rng.random() < outlier else 1.0
            values.append(factor * late * math.exp(shift + rng.gauss(0, noise)))
    return mine, base


def automatic(rng, effect, **noise):
    """What a session does without -n."""
    from zeropool_tools.session import AUTO_MAX, AUTO_MIN, AUTO_STEP
    mine, base = pairs(rng, AUTO_MIN, effect, **noise)
    while len(mine) < AUTO_MAX and not stats.precise_enough(mine, base, resamples=120):
        more = pairs(rng, AUTO_STEP, effect, **noise)
        mine += more[0]
        base += more[1]
    return stats.compare(mine, base, resamples=300)


class Basics(unittest.TestCase):
    def test_median(self):
        self.assertEqual(stats.median([3, 1, 2]), 2)
        self.assertEqual(stats.median([4, 1, 2, 3]), 2.5)
        self.assertRaises(ValueError, stats.median, [])

    def test_spread_ignores_an_outlier(self):
        self.assertEqual(stats.spread([1, 1, 1, 1, 9]), 0)
        self.assertAlmostEqual(stats.spread([0.9, 1.0, 1.1]), 0.14826)
        self.assertEqual(stats.spread([0, 0]), 0)

    def test_outliers(self):
        self.assertEqual(stats.outliers([1.0, 1.01, 0.99, 1.0, 1.5]), 1)
        self.assertEqual(stats.outliers([1.0, 1.01, 0.99, 1.0, 1.04]), 0)

    def test_signed_rank_known_values(self):
        # All n pairs on one side: p = 2 / 2^n.
        for n in (1, 5, 6, 10):
            self.assertAlmostEqual(stats.signed_rank_p([1 + i / 100 for i in range(1, n + 1)], [1] * n), 2 / 2 ** n)
        self.assertEqual(stats.signed_rank_p([1, 2, 3], [1, 2, 3]), 1.0)
        # Hollander and Wolfe's depression data: W = 5 of n = 9, p = 0.0391.
        x = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
        y = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
        self.assertAlmostEqual(stats.signed_rank_p([math.exp(v) for v in x], [math.exp(v) for v in y]), 0.0390625)

    def test_sign_known_values(self):
        self.assertEqual(stats.sign_p([2] * 6, [1] * 6), 2 / 64)
        self.assertEqual(stats.sign_p([2] * 14 + [0], [1] * 15), 2 * 16 / 2 ** 15)
        self.assertEqual(stats.sign_p([1, 1], [1, 1]), 1.0)
        self.assertEqual(stats.sign_p([1, 2], [2, 1]), 1.0)

    def test_equal_and_zero_values(self):
        same = stats.compare([5] * 10, [5] * 10)
        self.assertEqual((same.value, same.low, same.high, same.significant), (1, 1, 1, False))
        self.assertEqual(stats.compare([0] * 8, [0] * 8).value, 1)
        self.assertEqual(stats.compare([2] * 8, [0] * 8).value, math.inf)

    def test_same_data_same_interval(self):
        mine, base = pairs(random.Random(3), 12)
        self.assertEqual(stats.compare(mine, base), stats.compare(mine, base))

    def test_words(self):
        words = stats.in_words
        self.assertIn("too few for a verdict", words(stats.Ratio(0.5, 0.4, 0.6, 0.06, 5)))
        self.assertIn("no significant difference", words(stats.Ratio(0.99, 0.97, 1.01, 0.4, 20)))
        self.assertAlmostEqual(stats.sigma([2, 4, 4, 4, 5, 5, 7, 9]), 2.138, 3)
        self.assertEqual((stats.sigma([1]), stats.sigma([3, 3, 3])), (None, 0))
        # The interval says one thing and the pairs another: neither "no difference" nor a difference.
        for ratio in (stats.Ratio(0.98, 0.96, 0.99, 0.2, 20), stats.Ratio(0.74, 0.532, 0.974, 0.06, 6)):
            self.assertNotIn("no significant", words(ratio))
            self.assertRegex(words(ratio), r"perhaps \d+\.0 % less time \(interval .*\), but .*p = 0\.\d\d")
        self.assertIn("1 round is too few", words(stats.Ratio(1.0, 1.0, 1.0, 1.0, 1)))
        self.assertIn("5 rounds are too few", words(stats.Ratio(1.0, 1.0, 1.0, 1.0, 5)))
        self.assertIn("50.0 % less time", words(stats.Ratio(0.5, 0.48, 0.52, 0.001, 20)))
        self.assertIn("7.0 % more time", words(stats.Ratio(1.07, 1.03, 1.1, 0.001, 20)))
        self.assertIn("2.5 x the time", words(stats.Ratio(2.5, 2.4, 2.6, 0.001, 20)))


class Simulation(unittest.TestCase):
    TRIES = 200

    def significant(self, seed, effect, n, **noise):
        rng = random.Random(seed)
        return sum(stats.compare(*pairs(rng, n, effect, **noise), resamples=300).significant
                   for _ in range(self.TRIES)) / self.TRIES

    def test_identical_variants_rarely_differ(self):
        for seed, n, noise in ((1, 10, 0.01), (2, 15, 0.02), (3, 40, 0.03)):
            self.assertLessEqual(self.significant(seed, 1.0, n, noise=noise, drift=noise), 0.05)

    def test_interval_covers_the_truth(self):
        rng = random.Random(4)
        hits = 0
        for _ in range(self.TRIES):
            ratio = stats.compare(*pairs(rng, 15, 0.8, noise=0.02), resamples=300)
            hits += ratio.low <= 0.8 <= ratio.high
        self.assertGreaterEqual(hits / self.TRIES, 0.92)

    def test_large_differences_are_found_in_few_rounds(self):
        self.assertGreaterEqual(self.significant(5, 0.8, 8, noise=0.02), 0.95)

    def test_default_rounds(self):
        for seed, noise, power in ((6, 0.005, 0.95), (7, 0.01, 0.97), (8, 0.02, 0.9)):
            rng, tries = random.Random(seed), 80
            false = sum(automatic(rng, 1.0, noise=noise, drift=noise).significant for _ in range(tries)) / tries
            found = sum(automatic(rng, 1.03, noise=noise, drift=noise).significant for _ in range(tries)) / tries
            self.assertLessEqual(false, 0.05, noise)
            self.assertGreaterEqual(found, power, noise)


if __name__ == "__main__":
    unittest.main()
