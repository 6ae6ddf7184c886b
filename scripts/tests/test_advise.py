# SPDX-License-Identifier: MIT
"""zeropool advise: the verdicts from given statistics, and one run of a real program with the real library."""
import os
import sys
import unittest

import support
from support import ROOT, environment, run

from zeropool_tools import advise, saved

BUILT = os.path.join(ROOT, "build", "shim", "libzeropool-preload.so")
MIB = 1 << 20


def report(start, calls, **more):
    return {"gets": calls, "minor_faults": 10 ** 6, "n_threads": 1, "bytes_fresh": 64 * MIB, "bytes_live_peak": 128 * MIB,
            "max_rss_bytes": 128 * MIB, **more,
            "sizes": [{"from": start, "tcache": calls, "bytes_warm": start * calls, "bytes_fresh": start}]}


def said(reports, cpu_s):
    return advise.advice(reports, saved.of(reports, 1000.0), cpu_s, cpu_s, ["job"])


class Verdict(unittest.TestCase):
    def test_yes(self):
        lines = said([report(64 * MIB, 100)], 1.0)
        self.assertTrue(lines[0].startswith("yes: "), lines)
        self.assertIn("1.589 s", lines[0])
        self.assertIn("61 %", lines[0])
        self.assertIn("zeropool compare -- job", lines[-1])

    def test_no(self):
        self.assertTrue(said([report(1 * MIB, 100)], 1.0)[0].startswith("no: "))
        self.assertTrue(said([{"gets": 0, "sizes": []}], 1.0)[0].startswith("no: not one request"))

    def test_a_little(self):
        self.assertTrue(said([report(64 * MIB, 1)], 0.5)[0].startswith("a little: "))

    def test_threshold(self):
        many = report(32 * MIB, 10)
        many["sizes"].insert(0, {"from": 32768, "tcache": 900, "bytes_warm": 32768, "bytes_fresh": 0})
        self.assertIn("--threshold 32768K", advise.threshold(many))
        self.assertIn("default", advise.threshold(report(32768, 10)))

    def test_retain_and_threads(self):
        purged = report(32 * MIB, 10, bytes_purged=1 << 30, n_threads=8)
        text = "\n".join(said([purged], 1.0))
        self.assertIn("--retain 128M", text)
        self.assertIn("up to 8 threads", text)


class HugePages(unittest.TestCase):
    def test_small_and_huge(self):
        few = report(64 * MIB, 100, minor_faults=1638)  # a tenth of 16384 fresh pages
        one = saved.one(few, 1000.0, 51200.0)
        self.assertAlmostEqual(one.huge, 0.9, 2)
        self.assertAlmostEqual(one.high_s, 1.6384 * (0.1 + 0.9 * 0.1), 2)

    def test_untouched(self):
        small, huge = saved.paging(report(64 * MIB, 100, minor_faults=100, max_rss_bytes=MIB))
        self.assertLess(small + huge, 0.02)


class Command(support.Case):
    def test_usage(self):
        self.assert_fails(run("advise"), 2, "no command given")
        self.assert_fails(run("advise", "/nowhere/x"), 127, "not found")

    @unittest.skipUnless(os.path.exists(BUILT), "the library is not built")
    def test_program(self):
        env = environment(ZEROPOOL_LIB=BUILT)
        result = run("advise", "--", sys.executable, "-c", "for i in range(60): b = bytes(b'x') * (40 << 20)\nprint('out')\nraise SystemExit(3)",
                     env=env)
        self.assertEqual((result.returncode, result.stdout), (3, "out\n"), result.stderr)
        self.assertRegex(result.stderr, r"zeropool: yes: large allocations cost")
        self.assertIn("next: zeropool compare", result.stderr)
        result = run("advise", "--", "true", env=env)
        self.assertIn("zeropool: no: ", result.stderr)

    @unittest.skipUnless(os.path.exists(BUILT), "the library is not built")
    def test_no_statistics(self):
        result = run("advise", "--", "sh", "-c", "kill -TERM $$", env=environment(ZEROPOOL_LIB=BUILT))
        self.assertEqual(result.returncode, 143)
        self.assertIn("no statistics", result.stderr)


if __name__ == "__main__":
    unittest.main()
