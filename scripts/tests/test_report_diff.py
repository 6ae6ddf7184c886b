# SPDX-License-Identifier: MIT
"""zeropool report and diff: every kind of result, thresholds, and files that are broken or of something else."""
import copy
import csv
import json
import os
import unittest
import xml.etree.ElementTree

import support
from support import run

from zeropool_tools import flame, folded, record_store, results

STACKS = {("p", "main", "work"): 900_000, ("p", "main", "free", "munmap_[k]"): 100_000}


def comparison(walls, baseline="glibc"):
    """A stored comparison; walls: {name: [seconds]}."""
    rounds = len(next(iter(walls.values())))
    made = {"schema": results.SCHEMA, "zeropool": "0", "time": "2024-01-01T00:00:00Z", "command": ["prog", "an arg"],
            "machine": {**results.machine()}, "baseline": baseline, "rounds": rounds, "settings": {}, "interrupted": False,
            "seconds": 1, "output": None, "variants": [], "notes": ["a note"]}
    for name, seconds in walls.items():
        runs = [{"round": i + 1, "wall_s": w, "user_s": w / 2, "sys_s": w / 2, "cpu_s": w, "faults": 1000, "peak_rss_bytes": 1 << 20}
                for i, w in enumerate(seconds)]
        columns = {m: [r[m] for r in runs] for m in results.METRICS}
        base = {m: columns[m] for m in results.METRICS} if name == baseline else \
            {m: [r[m] for r in made["variants"][0]["runs"]] for m in results.METRICS}
        made["variants"].append({"name": name, "preload": [], "tunables": "", "runs": runs, "median": {m: c[0] for m, c in columns.items()},
                                 "spread": {m: 0 for m in columns}, "memory": None,
                                 "ratio": None if name == baseline else results.ratios(columns, base)})
    return made


class Results(support.Case):
    def store(self, content, name="x.json"):
        return self.write(os.path.join(self.folder(), name), content if isinstance(content, str) else json.dumps(content))

    def recording(self, factor=1.0, samples=2000, name="glibc", **more):
        folder = self.folder()
        stacks = {s: int(w * factor) for s, w in STACKS.items()}
        item = {"name": name, "folder": "", "unit": "us", "total": sum(stacks.values()), "samples": samples, "wall_s": 1.0,
                "kinds": {"program": stacks["p", "main", "work"], "unmap": stacks["p", "main", "free", "munmap_[k]"]}, **more}
        self.write(os.path.join(folder, "stacks.folded"), folded.to_text(stacks))
        self.write(os.path.join(folder, "record.json"), json.dumps({
            "schema": record_store.SCHEMA, "command": ["prog"], "event": "cpu", "notes": [], "variants": [item]}))
        return folder


class Report(Results):
    def test_recording(self):
        folder = self.recording()
        for path in (folder, os.path.join(folder, "record.json")):
            result = run("report", path)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stdout, r"work +0.900 s +90.0 %")
            self.assertIn("zeropool: next: zeropool diff", result.stderr)
        target = os.path.join(folder, "t.md")
        self.assertEqual(run("report", "--markdown", target, folder).returncode, 0)
        with open(target, encoding="utf-8") as file:
            self.assertIn("| work | 0.900 s |", file.read())

    def test_comparison(self):
        one = comparison({"glibc": [1.0] * 8, "zeropool": [0.5] * 8})
        path = self.store(one)
        page = os.path.join(os.path.dirname(path), "p.html")
        result = run("report", "--html", page, path)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("50.0 % less time", result.stdout)
        self.assertTrue(os.path.getsize(page) > 1000)
        several = self.store([{**one, "label": "first"}, {**one, "label": "second"}])
        self.assertRegex(run("report", several).stdout, "(?s)first: 8 rounds.*second: 8 rounds")
        self.assert_fails(run("report", "--html", page, several), 2, "single comparison")
        self.assert_fails(run("report", "--csv", page, several), 2, "single comparison")
        self.assertEqual(run("report", "--csv", page, path).returncode, 0)
        with open(page, encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        self.assertEqual((len(lines), lines[0]["allocator"], lines[15]["allocator"]), (16, "glibc", "zeropool"))
        self.assertEqual([float(line["wall_s"]) for line in lines], [1.0] * 8 + [0.5] * 8)
        self.assertEqual(lines[9]["round"], "2")

    def test_folded_stacks(self):
        path = self.store(folded.to_text(STACKS), "stacks.folded")
        target = path + ".svg"
        result = run("report", "--svg", target, "--top", "1", path)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("work", result.stdout)
        xml.etree.ElementTree.parse(target)

    def test_statistics(self):
        line = {"pid": 1, "zeropool": "0", "command": "prog", "gets": 7, "sizes": [{"from": 1 << 20, "tcache": 6, "fresh": 1,
                "bytes_warm": 6 << 20, "bytes_fresh": 1 << 20}], "bytes_live_peak": 1 << 20}
        one = self.store(line)
        result = run("report", one)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"(?m)^process 1 \(prog\)$")
        self.assertRegex(result.stdout, r"(?m)^1.0 MiB to 2.0 MiB +7 +85.7 %")
        self.assertNotIn("{", result.stdout)
        self.assertIn("next: zeropool stat --each", result.stderr)
        two = self.store(json.dumps(line) + "\n" + json.dumps({**line, "pid": 2}) + "\n")
        self.assertIn("all 2 processes", run("report", two).stdout)
        total = self.store(run("stat", "--json", two).stdout)
        for command in ("report", "stat"):
            result = run(command, total)
            self.assertEqual((result.returncode, "all 2 processes" in result.stdout), (0, True), result.stderr)
        self.assert_fails(run("report", self.store({"schema": "zeropool-stats-sum-1", "reports": 3})), 125, "not statistics")

    def test_benchmark(self):
        document = {"schema": "zeropool-bench-1", "time": "2024-01-01T00:00:00Z", "command": ["zeropool", "bench"], "rounds": 1,
                    "seconds": 61, "interrupted": False, "machine": results.machine(), "notes": ["a note"], "failures": [], "over_rows": [],
                    "variants": [{"name": "glibc"}, {"name": "zeropool"}], "rows": [
                        {"name": "pair-64K", "label": "malloc+free 64 KiB", "median": {"glibc": {"ns": 17.0}, "zeropool": {"ns": 6.0, "odd_s": 2}},
                         "verdicts": [{"measure": "ns", "bound": "<= 1 x best peer", "value": 0.35, "against": "glibc", "verdict": "met"}]}]}
        result = run("report", self.store(document))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"malloc\+free 64 KiB  time +17 ns +6 ns +<= 1 x best peer +0.35 \(glibc\) +met\n +odd s +- +2 s")
        self.assertIn("note: a note", result.stdout)
        del document["rows"][0]["label"]
        self.assert_fails(run("report", self.store(document)), 125, "damaged")

    def test_unknown_json_lines(self):
        result = run("report", self.store('{"pid": 1, "zeropool": "0"}\n{"pid": 2, "zeropool": "0"}\n'))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn('"pid": 2', result.stdout)

    def test_bad_input(self):
        good = comparison({"glibc": [1.0] * 8, "zeropool": [0.5] * 8})
        lacking = copy.deepcopy(good)
        del lacking["variants"][1]["median"]
        for content, text in (("{", "not readable as JSON"), ("[" * 100000, "not readable as JSON"), ("{}", "no result of zeropool"),
                              ("[]", "no result of zeropool"), ("hello\n", "no result of zeropool"), ("", "empty"),
                              ("\x7fELF\x80", "no result"), (json.dumps(lacking), "damaged"), ("PERFILE2 and no more", "perf"),
                              (json.dumps({**good, "variants": []}), "damaged"), (json.dumps({**good, "rounds": "x"}), "damaged"),
                              (json.dumps({"schema": record_store.SCHEMA}), "damaged")):
            with self.subTest(content=content[:30]):
                self.assert_fails(run("report", self.store(content)), 125, text)
        self.assert_fails(run("report", "/nonexistent"), 125, "No such file")
        self.assert_fails(run("report", self.folder()), 125, "record.json is missing")
        self.assert_fails(run("report"), 2, "no folder or file")
        self.assert_fails(run("report", "a", "b"), 2, "one folder or file")
        self.assert_fails(run("report", "--svg", "x.svg", self.store(good)), 2, "--svg does not fit a comparison")
        self.assert_fails(run("report", "--top", "x", "a"), 2, "whole number")

    def test_stored_folder_cannot_lead_elsewhere(self):
        self.assert_fails(run("report", self.recording(**{"folder": "../../etc"})), 125, "damaged")


class Diff(Results):
    def test_comparisons(self):
        steady = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01]
        before = self.store(comparison({"glibc": steady, "zeropool": [0.5 * s for s in steady]}))
        worse = self.store(comparison({"glibc": [2 * s for s in steady], "zeropool": [1.2 * s for s in steady]}))
        result = run("diff", "--threshold", "10", "--relative", before, worse)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("wall_s of zeropool relative to glibc grew by 20.0 %, the threshold is 10 %", result.stderr)
        self.assertNotIn("of glibc grew", result.stderr, "the machine's own speed is nobody's fault")
        self.assertEqual(run("diff", "--threshold", "25", "--relative", before, worse).returncode, 0)
        self.assertEqual(run("diff", before, worse).returncode, 0)
        self.assertEqual(run("diff", "--threshold", "1", worse, before).returncode, 0)
        self.assertEqual(run("diff", before, worse, "--threshold", "10").returncode, 1, "options may come last")
        self.assertEqual(run("diff", before, "--threshold=10", "--", worse).returncode, 1)
        absolute = run("diff", "--threshold", "50", "--absolute", before, worse)
        self.assertEqual(absolute.returncode, 1)
        self.assertIn("wall_s of glibc grew by 100.0 %", absolute.stderr)
        self.assertEqual(run("diff", "--threshold", "0", "--metric", "faults", before, worse).returncode, 0)

    def test_slower_under_all_allocators_alike(self):
        steady = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01]
        before = comparison({"glibc": steady, "zeropool": [0.5 * s for s in steady]})
        after = comparison({"glibc": [1.25 * s for s in steady], "zeropool": [0.625 * s for s in steady]})
        paths = self.store(before), self.store(after)
        result = run("diff", "--threshold", "5", *paths)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("wall_s of glibc grew by 25.0 %, the threshold is 5 %", result.stderr)
        self.assertNotIn("nothing grew", result.stderr)
        self.assertEqual(run("diff", "--threshold", "30", *paths).returncode, 0)
        self.assertEqual(run("diff", "--threshold", "5", "--relative", *paths).returncode, 0)
        self.assertEqual(run("diff", "--threshold", "5", *reversed(paths)).returncode, 0)
        self.assertEqual(run("diff", "--threshold", "5", "--only", "zeropool", *paths).returncode, 0)
        elsewhere = self.store({**after, "machine": {**after["machine"], "cpu": "another"}})
        result = run("diff", "--threshold", "5", paths[0], elsewhere)
        self.assertEqual((result.returncode, "different machines" in result.stdout), (0, True), result.stdout)
        self.assert_fails(run("diff", "--absolute", "--relative", *paths), 2, "either --absolute or --relative")

    def test_noise_and_few_rounds(self):
        few = [self.store(comparison({"glibc": [1.0] * n, "zeropool": [w] * n})) for w, n in ((0.5, 3), (0.9, 3), (0.5, 1))]
        result = run("diff", "--threshold", "5", *few[:2])
        self.assertEqual(result.returncode, 125)
        self.assertIn("too few rounds", result.stdout)
        self.assertIn("3 rounds are too few (at least 6); --threshold can judge nothing", result.stderr)
        self.assertIn("1 round is too few", run("diff", "--threshold", "5", few[0], few[2]).stderr)
        self.assertEqual(run("diff", *few[:2]).returncode, 0)
        noisy = [[1, 2, 1.5, 1.2, 1.9, 1.1, 1.7, 1.4], [1.6, 1.1, 1.9, 1.3, 2.1, 1.2, 1.5, 1.8]]
        loud = [self.store(comparison({"glibc": [1.0] * 8, "zeropool": w})) for w in noisy]
        result = run("diff", "--threshold", "1", *loud)
        self.assertEqual((result.returncode, "no significant change" in result.stdout), (0, True), result.stdout)
        self.assertRegex(result.stderr, r"relative to glibc grew by [\d.]+ %, but that may be chance \(interval")

    def test_recordings(self):
        one, two = self.recording(), self.recording(1.5)
        target = os.path.join(one, "d.svg")
        result = run("diff", "--threshold", "20", "--svg", target, one, two)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("processor time of glibc grew by 50.0 %", result.stderr)
        self.assertRegex(result.stdout, r"work +0.900 s +1.350 s +\+0.450 s")
        xml.etree.ElementTree.parse(target)
        self.assertEqual(run("diff", "--threshold", "20", two, one).returncode, 0)
        noise = run("diff", "--threshold", "20", one, self.recording(1.5, samples=8))
        self.assertEqual(noise.returncode, 0, "all noise")
        self.assertIn("grew by 50.0 %, but with so few samples", noise.stderr)
        self.assertEqual(run("diff", "--threshold", "20", one, self.recording(1.5, name="zeropool")).returncode, 1, "one each")

    def test_bad_input(self):
        good = self.store(comparison({"glibc": [1.0] * 8, "zeropool": [0.5] * 8}))
        other = self.store(comparison({"mimalloc": [1.0] * 8}, "mimalloc"))
        folder = self.recording()
        for words, status, text in (((good,), 2, "two results"), ((good, folder), 125, "different commands"),
                                    ((good, other), 125, "no allocator in common"), ((good, "/nonexistent"), 125, "No such file"),
                                    (("--threshold", "x", good, good), 2, "a number"), (("--metric", "x", good, good), 2, "wall_s"),
                                    (("--only", "x", good, good), 125, "x is not in both"), (("--svg", "x.svg", good, good), 2, "recordings"),
                                    ((good, self.store("[1]")), 125, "neither a recording"), ((good, self.store("{]")), 125, "JSON"),
                                    ((folder, self.recording(unit="parsecs")), 125, "damaged")):
            with self.subTest(words=words):
                self.assert_fails(run("diff", *words), status, text)
        os.unlink(os.path.join(folder, "stacks.folded"))
        result = run("diff", folder, self.recording())
        self.assertEqual((result.returncode, len(result.stderr.splitlines())), (125, 1), result.stderr)


class Amounts(unittest.TestCase):
    def test_units(self):
        self.assertEqual([flame.amount(*a) for a in ((1_234_000, "us"), (-3 << 20, "bytes"), (12345, "faults"))],
                         ["1.234 s", "-3.0 MiB", "12 345 faults"])


if __name__ == "__main__":
    unittest.main()
