# SPDX-License-Identifier: MIT
"""Runs the rows of the benchmark: in each round every variant once, in random order, on memory that is ready."""
import json
import os
import random
import tempfile
import time
from dataclasses import dataclass, field

from . import stats
from .runner import Runner, status_in_words, tail

SETTLE = "settle"
# A program that never sleeps and yet was off the processor for this share of its time (and this many seconds) shared it
# with somebody else, or waited for memory of the host. Such a run is repeated, whichever allocator it was.
DISTURBED_SHARE, DISTURBED_S, REPEATS = 0.2, 0.02, 2


class LineRunner(Runner):
    """A Runner that hands out what the program printed."""

    def run_line(self, argv, env, timeout_s):
        """(figures of the process, its standard output, what went wrong or '')."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                       (os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, err.fileno(), 2)]
            started, pid = self.start(argv, env, actions)
            try:
                late = self.watch(pid, started, timeout_s, None, 0.5)
                _, raw, usage = os.wait4(pid, 0)
                wall = time.perf_counter() - started
            finally:
                self.end_all(pid)
            code = os.waitstatus_to_exitcode(raw)
            failure = f"took longer than {timeout_s:g} s" if late else ""
            if code and not late:
                words = tail(err).strip().splitlines()
                failure = status_in_words(128 - code if code < 0 else code) + (f": {words[-1][:200]}" if words else "")
            out.seek(0)
            figures = {"wall_s": wall, "user_s": usage.ru_utime, "sys_s": usage.ru_stime,
                       "cpu_s": usage.ru_utime + usage.ru_stime, "minor_faults": usage.ru_minflt,
                       "peak_rss_bytes": usage.ru_maxrss * 1024}
            return figures, out.read().decode(errors="replace"), failure


@dataclass
class Results:
    """Figures by row, variant and round, and which variants are the pool's and which its peers."""
    variants: list
    runs: dict = field(default_factory=dict)  # row name -> {variant name: [figures]}
    failures: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    repeated: int = 0

    @property
    def subjects(self):
        return [v.name for v in self.variants if is_pool(v)]

    @property
    def peers(self):
        return [v.name for v in self.variants if not is_pool(v)]

    def values(self, row, variant, key):
        """One value per round; empty where the row, the variant or the figure is missing."""
        runs = self.runs.get(row, {}).get(variant, [])
        return [run[key] for run in runs if key in run] if all(key in run for run in runs) else []

    def median(self, row, variant, key):
        values = self.values(row, variant, key)
        return stats.median(values) if values else None


def is_pool(variant):
    """Has this variant our library in it?"""
    return any("zeropool" in os.path.basename(path) for path in variant.preload) or variant.name.startswith("zeropool")


def waited_s(figures):
    """Wall time in which not even one thread ran."""
    return max(0.0, figures["wall_s"] - figures["user_s"] - figures["sys_s"])


def disturbed(figures):
    return waited_s(figures) > max(DISTURBED_S, DISTURBED_SHARE * figures["wall_s"])


def rounds_of(row, asked):
    return max(1, round(row.rounds * asked))


class Bench:
    def __init__(self, rows, variants, asked_rounds, micro, real, bar, seed):
        self.rows, self.variants, self.asked = rows, variants, asked_rounds
        self.micro, self.real, self.bar = micro, real, bar
        self.random = random.Random(seed)
        self.runner = LineRunner()
        self.results = Results(variants)
        self.done, self.started = 0, time.monotonic()
        self.total = sum(rounds_of(row, asked_rounds) for row in rows) * len(variants)

    def all(self):
        """Runs every row; results.runs holds complete rounds only, also when interrupted."""
        try:
            for row in self.rows:
                self.row(row)
        finally:
            self.runner.end_all()
        return self.results

    def command(self, row):
        if row.name in self.real.programs:
            return self.real.prepare(row)
        program = row.argv[0] if row.argv[0].startswith("/") else os.path.join(self.micro, row.argv[0])
        return [program, *row.argv[1:]], dict(os.environ)

    def row(self, row):
        argv, env = self.command(row)
        env = {**env, **row.env}
        if not os.access(argv[0], os.X_OK):
            self.results.notes.append(f"{row.name} left out: no {argv[0]}")
            self.done += rounds_of(row, self.asked) * len(self.variants)
            return
        broken, reference = set(), None
        rounds = {v.name: [] for v in self.variants}
        for number in range(rounds_of(row, self.asked)):
            this = {}
            for variant in self.random.sample(self.variants, len(self.variants)):
                self.show(row, number, variant)
                self.done += 1
                if variant.name in broken:
                    continue
                figures, text, failure = self.once(row, argv, env, variant)
                if not failure and row.json:
                    failure = merge(figures, text)
                elif not failure:
                    reference = reference or text
                    failure = "" if text == reference else "printed something else than another allocator"
                if failure:
                    broken.add(variant.name)
                    rounds.pop(variant.name)
                    self.results.failures.append(f"{row.name} under {variant.name}: {failure}")
                    continue
                this[variant.name] = figures
            for name, figures in this.items():
                rounds[name].append(figures)
        self.results.runs[row.name] = rounds

    def once(self, row, argv, env, variant):
        """One run, repeated while it is disturbed; the least disturbed counts."""
        best = None
        for attempt in range(REPEATS + 1):
            self.settle(row, env)
            result = self.runner.run_line(argv, variant.environment(env), row.timeout_s)
            if best is None or result[2] or waited_s(result[0]) < waited_s(best[0]):
                best = result
            if result[2] or not row.busy or not disturbed(result[0]):
                break
            self.results.repeated += attempt < REPEATS
        return best

    def settle(self, row, env):
        if row.settle_mib:
            self.runner.run_line([os.path.join(self.micro, SETTLE), f"--bytes={row.settle_mib}M"], env, 300)

    def show(self, row, number, variant):
        passed = time.monotonic() - self.started
        left = passed / self.done * (self.total - self.done) if self.done else None
        self.bar.update(self.done / self.total, f"{row.name} round {number + 1} {variant.name}", left)


def merge(figures, text):
    """Puts the program's own figures over those of the process; returns what is wrong with them, or ''."""
    try:
        figures.update(json.loads(text))
    except ValueError:
        return f"printed no JSON: {text[:80]!r}"
    return ""
