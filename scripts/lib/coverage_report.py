# SPDX-License-Identifier: MIT
"""Merges what gcov says about every object of a build folder; prints branch and line coverage by folder.

usage: coverage_report.py BUILD [--missing] [--files]

A branch counts as taken when any object or process took it. What the file core/tests/coverage.exclude names is left out, with its
reason. Exit status 0, or 1 when nothing was measured.
"""
import collections
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
EXCLUDE = os.path.join(ROOT, "core", "tests", "coverage.exclude")
FOLDERS = tuple(f"core/{name}" for name in sorted(os.listdir(os.path.join(ROOT, "core")))
                if name not in ("tests", "include") and os.path.isdir(os.path.join(ROOT, "core", name))) + ("shim",)


def measured_files(build):
    for folder, _, names in os.walk(os.path.realpath(build)):
        for name in names:
            if name.endswith(".gcda"):
                yield os.path.join(folder, name)


def folder_of(path):
    """core/heap for core/heap/heap.c, None for what is not the product."""
    folder = os.path.dirname(path)
    return folder if folder in FOLDERS else None


def read_rules():
    """(file, pattern, reason) of each line that is left out."""
    rules = []
    with open(EXCLUDE, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip() and not line.startswith("#"):
                fields = [field.strip() for field in line.split(" | ")]
                if len(fields) != 3:
                    sys.exit(f"{EXCLUDE}:{number}: wants 'file | pattern | reason'")
                rules.append((fields[0], re.compile(fields[1]), fields[2]))
    return rules


class Coverage:
    """Counts of lines and branches, merged over objects."""

    def __init__(self, build):
        self.build = os.path.realpath(build)
        self.lines = collections.defaultdict(bool)  # (file, line) -> executed
        self.branches = collections.defaultdict(bool)  # (file, line, function, index) -> taken

    def add(self, gcda):
        out = subprocess.run(["gcov", "--branch-probabilities", "--json-format", "--stdout", gcda], cwd=self.build,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
        for text in out.splitlines():
            if text.strip():
                for file in json.loads(text)["files"]:
                    self._add_file(file)

    def _add_file(self, file):
        path = os.path.relpath(os.path.realpath(os.path.join(self.build, file["file"])), ROOT)
        if not folder_of(path):
            return
        for line in file["lines"]:
            self.lines[path, line["line_number"]] |= line["count"] > 0
            for index, branch in enumerate(line["branches"]):
                # A count below zero: a process ended while its other threads went on counting.
                key = path, line["line_number"], line.get("function_name", ""), index
                self.branches[key] |= branch["count"] > 0

    def leave_out(self, rules):
        """Removes what the rules name; returns {rule: branches removed}."""
        removed = collections.Counter()
        sources = {}
        for key in list(self.branches):
            path, number = key[:2]
            if path not in sources:
                with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
                    sources[path] = stream.read().splitlines()
            text = sources[path][number - 1]
            for rule in rules:
                if re.fullmatch(rule[0], path) and rule[1].search(text.strip()):
                    removed[rule] += 1
                    del self.branches[key]
                    break
        return removed

    def totals(self, group):
        """{group: [branches taken, branches, lines run, lines]}"""
        sums = collections.defaultdict(lambda: [0, 0, 0, 0])
        for key, taken in self.branches.items():
            for name in (group(key[0]), "all"):
                sums[name][0] += taken
                sums[name][1] += 1
        for key, run in self.lines.items():
            for name in (group(key[0]), "all"):
                sums[name][2] += run
                sums[name][3] += 1
        return sums

    def missing(self):
        """(file, line, branches not taken, branches)"""
        by_line = collections.defaultdict(list)
        for key, taken in self.branches.items():
            by_line[key[:2]].append(taken)
        return [(*where, taken.count(False), len(taken)) for where, taken in sorted(by_line.items()) if not all(taken)]


def main(words):
    options = {word for word in words if word.startswith("--")}
    folders = [word for word in words if not word.startswith("--")]
    if len(folders) != 1 or options - {"--missing", "--files"}:
        sys.exit(__doc__)
    coverage = Coverage(folders[0])
    for gcda in measured_files(folders[0]):
        coverage.add(gcda)
    if not coverage.branches:
        print(f"coverage: nothing was measured below {folders[0]}")
        return 1
    removed = coverage.leave_out(read_rules())
    if "--missing" in options:
        for path, number, n, of in coverage.missing():
            with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
                text = stream.read().splitlines()[number - 1].strip()
            print(f"{path}:{number}: {n} of {of} not taken: {text[:110]}")
    print(f"{'':28} {'branches':>22} {'lines':>22}")
    for name, (taken, n, run, n_lines) in sorted(
            coverage.totals((lambda path: path) if "--files" in options else folder_of).items(),
            key=lambda item: (item[0] == "all", item[0])):
        print(f"{name:28} {f'{taken} of {n}':>14} {100 * taken / max(n, 1):5.1f} % "
              f"{f'{run} of {n_lines}':>14} {100 * run / max(n_lines, 1):5.1f} %")
    for (path, pattern, reason), n in removed.items():
        print(f"left out: {n} branches of {path}, {pattern.pattern}: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
