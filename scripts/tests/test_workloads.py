# SPDX-License-Identifier: MIT
"""zeropool record --workloads: its page from given recordings, hot lines from perf's text, and what is stored fits it."""
import glob
import os
import re
import unittest
from unittest import mock
from xml.etree import ElementTree

import support
from support import ROOT, run

from zeropool_tools import annotated, perf, perf_page, suite

PAGE = os.path.join(ROOT, "docs", "perf-analysis.md")
ANNOTATE = """ Percent |	Source code & Disassembly of libx.so for cpu-clock (40 samples, percent: local period)
---------------
    0.00 :   1000:   push   %rbp
   75.00 :   1004:   mov    (%rax),%rdx   # 2000 <x>
    1.00 :   1008:   ret
   24.00 :   100a:   nop
"""


def item(name, kinds, stacks):
    return {"name": name, "total": sum(stacks.values()), "unit": "us", "kinds": kinds, "stacks": stacks, "samples": 100, "unknown": 1, "lost": 0}


def recording():
    return {"label": "job", "command": ["build/job", "--x"], "machine": {"usable_cpus": 2, "kernel": "6.1.0-9-special"}, "variants": [
        item("glibc", {"program": 10 ** 6, "page faults": 3 * 10 ** 6}, {("job", "main"): 10 ** 6, ("job", "main", "fault_[k]"): 3 * 10 ** 6}),
        item("zeropool", {"program": 10 ** 6}, {("job", "main"): 10 ** 6})]}


class Page(unittest.TestCase):
    def test_text(self):
        inner = {**recording(), "label": "pair", "what": "calls only", "functions": [
            annotated.Function("malloc", 40, [annotated.Line(75.0, "core/a.c:7", "return x;")])]}
        text = perf_page.text([recording()], [inner], 997)
        self.assertIn("job: zeropool against glibc: 4.000 s -> 1.000 s (-75 %): page faults -3.00 s", text)
        self.assertIn("| `fault` (kernel) | 3.00 | 0.00 | -3.00 |", text)
        self.assertIn(" 75.0 %  core/a.c:7  return x;", text)
        self.assertIn("Linux 6.1,", text)
        self.assertIn("At most 1.0 %", text)

    def test_hot_lines(self):
        places = "/src/core/a.c:3\n??:0\n/src/core/a.c:3 (discriminator 2)\n"
        for addresses, expected in ((places, [(99.0, "core/a.c:3")]), ("??:0\n??:0\n??:0\n", [(75.0, "+0x4"), (24.0, "+0xa")])):
            with mock.patch.object(perf, "call", side_effect=[ANNOTATE, addresses]):
                found = annotated.function("perf", "data", "/x/libx.so", "f", "/src")
            self.assertEqual(found.samples, 40)
            self.assertEqual([(line.percent, line.where) for line in found.lines], expected)
        with mock.patch.object(perf, "call", return_value=""):
            self.assertIsNone(annotated.function("perf", "data", "/x/libx.so", "f", "/src"))


class Stored(support.Case):
    def test_pictures(self):
        with open(PAGE, encoding="utf-8") as file:
            text = file.read()
        named = set(re.findall(r"perf/([\w-]+\.svg)", text))
        self.assertEqual(named, {f"{name}-{kind}.svg" for name in suite.PROGRAMS for kind in ("baseline", "optimized", "diff")})
        there = glob.glob(os.path.join(ROOT, "docs", "perf", "*.svg"))
        self.assertEqual(named, {os.path.basename(path) for path in there})
        for path in there:
            ElementTree.parse(path)
        unknown = float(re.search(r"At most ([\d.]+) % of the samples", text)[1])
        self.assertLess(unknown, 5.0)

    def test_usage(self):
        self.assert_fails(run("record", "--workloads", "--", "true"), 2, "takes no command")
        self.assert_fails(run("record", "--workloads", "--compare"), 2, "--workloads chooses")


if __name__ == "__main__":
    unittest.main()
