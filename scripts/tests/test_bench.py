# SPDX-License-Identifier: MIT
"""zeropool bench: bounds and verdicts, selection of rows, and whole runs with stand-ins for the benchmark programs."""
import json
import os
import signal
import subprocess
import time
import unittest

import support
from zeropool_tools import bench, bench_bounds, bench_real, bench_rows, bench_run, bench_table, bench_threads, variants
from zeropool_tools.bench_bounds import Absolute, Against, BestPeer, Elsewhere
from zeropool_tools.errors import UsageError


def results(**figures):
    """Results with one variant per keyword: {row: {key: [value per round]}}."""
    chosen = [variants.Variant(name.replace("_", "-")) for name in figures]
    found = bench_run.Results(chosen)
    for name, rows in figures.items():
        for row, keys in rows.items():
            n = max(len(values) for values in keys.values())
            runs = [{key: values[i] for key, values in keys.items() if i < len(values)} for i in range(n)]
            found.runs.setdefault(row, {})[name.replace("_", "-")] = runs
    return found


def row(name="a", *bounds, **more):
    return bench_rows.Row(name, "group", f"label of {name}", ("program",), more.pop("measures", (bench_rows.SECONDS,)),
                          bounds, **more)


class Bounds(support.Case):
    def judge(self, bound, found, name="a"):
        return bound.judge(found, row(name), "zeropool")

    def test_best_peer(self):
        found = results(glibc={"a": {"seconds": [3.0] * 7}}, tcmalloc={"a": {"seconds": [2.0] * 7}},
                        zeropool={"a": {"seconds": [1.5] * 7}})
        verdict = self.judge(BestPeer("seconds", 1.0), found)
        self.assertEqual((verdict.value, verdict.against, verdict.word), (0.75, "tcmalloc", "met"))
        found.runs["a"]["zeropool"] = [{"seconds": 2.5}] * 7
        self.assertEqual(self.judge(BestPeer("seconds", 1.0), found).word, "missed")

    def test_the_pool_is_not_its_own_peer(self):
        found = results(glibc={"a": {"seconds": [3.0]}}, zeropool={"a": {"seconds": [2.0]}},
                        zeropool_2={"a": {"seconds": [1.0]}})
        self.assertEqual((found.peers, found.subjects), (["glibc"], ["zeropool", "zeropool-2"]))
        self.assertEqual(self.judge(BestPeer("seconds", 1.0), found).against, "glibc")

    def test_within_the_noise(self):
        found = results(glibc={"a": {"seconds": [1.0, 1.2, 0.9, 1.1, 1.0, 1.05]}},
                        zeropool={"a": {"seconds": [1.1, 0.9, 1.0, 1.0, 1.2, 1.0]}})
        verdict = self.judge(Against("seconds", "glibc", 1.0), found)
        self.assertTrue(verdict.word.endswith("?"), verdict)
        self.assertLess(verdict.low, 1)
        self.assertGreater(verdict.high, 1)

    def test_absolute(self):
        found = results(zeropool={"a": {"ratio": [1.02, 1.04, 1.03]}})
        self.assertEqual(self.judge(Absolute("ratio", 1.05, "x"), found).word, "met")
        self.assertEqual(self.judge(Absolute("ratio", 1.01, "x"), found).word, "missed")

    def test_another_row(self):
        found = results(tcmalloc={"b": {"ns": [4.0]}}, zeropool={"a": {"ns": [6.0]}, "b": {"ns": [5.5]}})
        self.assertEqual(self.judge(Elsewhere("ns", "b", "tcmalloc", 1.25), found).value, 1.5)
        self.assertAlmostEqual(self.judge(Elsewhere("ns", "b", None, 1.2), found).value, 6 / 5.5)

    def test_what_is_missing_is_not_met(self):
        found = results(glibc={"a": {"seconds": [1.0]}}, zeropool={"b": {"seconds": [1.0]}})
        for bound in (BestPeer("seconds", 1.0), Against("seconds", "glibc", 1.0), Absolute("seconds", 1.0, "x"),
                      Against("seconds", "jemalloc", 1.0), Elsewhere("seconds", "z", "glibc", 1.0)):
            verdict = self.judge(bound, found)
            self.assertIsNone(verdict.met)
            self.assertEqual(verdict.word, bench_bounds.UNKNOWN)

    def test_geometric_means(self):
        found = results(glibc={"a": {"wall_s": [2.0]}, "b": {"wall_s": [1.0]}},
                        zeropool={"a": {"wall_s": [1.0]}, "b": {"wall_s": [0.5]}})
        rows = [row("a"), row("b"), row("not-run")]
        self.assertAlmostEqual(bench_bounds.mean_ratio(found, rows, "wall_s", "zeropool", "glibc"), 0.5)
        self.assertIsNone(bench_bounds.mean_ratio(found, rows, "cpu_s", "zeropool", "glibc"))
        wall, memory = bench_real.mean_verdicts(found, rows, "zeropool")
        self.assertEqual((wall.word, memory.word), ("met", bench_bounds.UNKNOWN))


def all_rows():
    return bench_rows.micro_rows() + bench_threads.thread_rows()


class Rows(support.Case):
    def test_names_are_unique_and_groups_are_not_names(self):
        rows = all_rows()
        names = [r.name for r in rows]
        self.assertEqual(len(names), len(set(names)))

    def test_every_bound_has_its_measure_and_its_row(self):
        rows = {r.name: r for r in all_rows()}
        for each in rows.values():
            for bound in each.bounds:
                self.assertIn(bound.key, [m.key for m in each.measures], each.name)
                if isinstance(bound, Elsewhere):
                    self.assertIn(bound.row, rows)

    def test_every_program_is_built(self):
        with open(os.path.join(support.ROOT, "workloads", "micro", "meson.build"), encoding="utf-8") as file:
            text = file.read()
        for each in all_rows():
            if not each.argv[0].startswith("/"):
                self.assertIn(f"'{each.argv[0]}'", text)

    def test_selection(self):
        rows = bench_rows.micro_rows()
        self.assertTrue(all(r.quick for r in bench.select(rows, None, True)))
        self.assertEqual(len(bench.select(rows, None, False)), len(rows))
        self.assertEqual({r.group for r in bench.select(rows, ["calloc"], False)}, {"calloc"})
        # The 1 GiB pair is held against the 64 KiB and the 32 KiB pair, which come along.
        self.assertEqual([r.name for r in bench.select(rows, ["pair-1G"], False)], ["pair-32K", "pair-64K", "pair-1G"])
        self.assertEqual([r.name for r in bench.select(rows, ["live-1M*t8"], False)], ["live-1M-8M-t8"])
        with self.assertRaisesRegex(UsageError, "did you mean 'live'"):
            bench.select(rows, ["lve"], False)

    def test_rows_of_threads_run_only_where_named(self):
        rows = all_rows()
        for quick in (False, True):
            self.assertNotIn("threads", {r.group for r in bench.select(rows, None, quick)})
        self.assertEqual(len(bench.select(rows, ["threads"], False)), len(bench_threads.thread_rows()))
        self.assertEqual([r.name for r in bench.select(rows, ["threads-hop-t8*"], False)],
                         ["threads-hop-t8", "threads-hop-t8-one", "threads-hop-t8-spread"])

    def test_rows_of_threads(self):
        rows = {r.name: r for r in bench_threads.thread_rows()}
        for name in ("set-16K-64K", "set-64K-512K", "set-1M-8M", "set-5M-25M", "requests-16K-256K", "requests-64K-4M",
                     "handoff-16K-64K", "hop", "batches"):
            found = [n for n in rows if n.startswith(f"threads-{name}-t")]
            for threads in (8, 16, 64):
                self.assertIn(f"threads-{name}-t{threads}", found)
            self.assertIn("--pin=one", rows[f"threads-{name}-t8-one"].argv)
            self.assertIn("--pin=spread", rows[f"threads-{name}-t8-spread"].argv)
        self.assertIn("--live=128", rows["threads-set-16K-64K-t8"].argv)
        self.assertIn("--pairs=4", rows["threads-handoff-16K-64K-t8"].argv)
        self.assertEqual([b.limit for b in rows["threads-set-16K-64K-t8"].bounds], [1.0, 1.08])
        self.assertEqual([b.limit for b in rows["threads-set-1M-8M-t64"].bounds], [1.0, 1.05])
        self.assertTrue(all(r.settle_mib <= 4096 for r in rows.values()))

    def test_bounds_over_all_rows_of_threads(self):
        figures = {f"r{i}": {"seconds": [0.9 if i else 1.1]} for i in range(10)}
        found = results(glibc={name: {"seconds": [1.0]} for name in figures}, zeropool=figures)
        rows = [bench_rows.Row(name, "threads", name, (), (), (BestPeer("seconds", 1.0),)) for name in figures]
        share, worst = (v for _, v in bench.judge(found, rows)[1])
        self.assertEqual((share.value, share.word), (0.1, "met"))
        self.assertAlmostEqual(worst.value, 1.1)
        self.assertEqual(worst.word, "met")
        found.runs["r1"]["zeropool"] = [{"seconds": 1.2}]
        self.assertEqual([v.word for _, v in bench.judge(found, rows)[1]], ["missed", "missed"])
        self.assertEqual(bench.judge(found, rows[:1])[1], [])

    def test_disturbed(self):
        times = {"user_s": 0.5, "sys_s": 0.3}
        self.assertFalse(bench_run.disturbed({"wall_s": 0.9, **times}))
        self.assertTrue(bench_run.disturbed({"wall_s": 1.1, **times}))
        self.assertFalse(bench_run.disturbed({"wall_s": 0.4, **times}))  # several threads
        self.assertFalse(bench_run.disturbed({"wall_s": 0.02, "user_s": 0.01, "sys_s": 0.0}))  # too short to tell

    def test_rounds(self):
        self.assertEqual([bench_run.rounds_of(row(rounds=f), 5) for f in (1, 3, 0.2, 0.01)], [5, 15, 1, 1])


class Table(support.Case):
    def test_durations(self):
        self.assertEqual([bench_table.duration(v) for v in (6.31e-9, 0, 4.12e-7, 1e-6, 9.999e-4, 0.5, 12.34)],
                         ["6.31 ns", "0 ns", "412 ns", "1 us", "1000 us", "500 ms", "12.3 s"])

    def test_one_line_per_measure_and_bound(self):
        found = results(glibc={"a": {"seconds": [1.0], "peak_rss_bytes": [1 << 20]}},
                        zeropool={"a": {"seconds": [2.0], "peak_rss_bytes": [1 << 21]}})
        each = row("a", BestPeer("seconds", 1.0), Against("seconds", "glibc", 3.0),
                   Against("peak_rss_bytes", "glibc", 1.05), measures=(bench_rows.SECONDS, bench_rows.PEAK))
        verdicts, extra = bench.judge(found, [each])
        lines = bench_table.text(found, [each], verdicts, extra).splitlines()[2:]
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[0], r"label of a\s+time\s+1 s\s+2 s\s+<= 1.00 x best peer\s+2 \(glibc\)\s+missed")
        self.assertRegex(lines[1], r"<= 3.00 x glibc\s+2\s+met")
        self.assertRegex(lines[2], r"peak RSS\s+1.0 MiB\s+2.0 MiB\s+<= 1.05 x glibc\s+2\s+missed")
        self.assertEqual(bench_table.tally(verdicts, extra), "1 of 3 bounds met, 2 missed")


class Command(support.Case):
    """The whole command, with shell scripts in the place of the programs."""

    def build(self, **programs):
        micro = os.path.join(self.folder(), "workloads", "micro")
        os.makedirs(micro)
        for name in ("settle", *programs):
            body = programs.get(name, "echo '{}'")
            self.write(os.path.join(micro, name), f"#!/bin/sh\n{body}\n")
        return os.path.dirname(os.path.dirname(micro))

    def bench(self, build, *words, **more):
        return support.run("bench", "--build", build, "-q", "-a", "glibc,zeropool", *words, **more)

    # Twice as fast with the library, so that the verdicts are known.
    PAIR = ('case $LD_PRELOAD in *zeropool*) ns=5 ;; *) ns=10 ;; esac\n'
            'echo "{\\"program\\":\\"pair\\",\\"ns\\":$ns,\\"peak_rss_bytes\\":1000000}"')

    def test_table_and_json(self):
        here = self.folder()
        result = self.bench(self.build(pair=self.PAIR), "--only", "pair-1G,pair-32K", "-n", "3", "--json", f"{here}/j",
                            "--markdown", f"{here}/m")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"malloc\+free 1 GiB\s+time\s+10 ns\s+5 ns")
        self.assertIn("1 of 1 bounds met", result.stdout)
        self.assertIn("could not be evaluated", result.stdout)  # tcmalloc did not run
        with open(f"{here}/j", encoding="utf-8") as file:
            document = json.load(file)
        self.assertEqual(document["schema"], bench.SCHEMA)
        self.assertEqual([r["name"] for r in document["rows"]], ["pair-32K", "pair-64K", "pair-1G"])
        self.assertEqual(len(document["rows"][0]["runs"]["zeropool"]), 3 * bench_rows.SHORT_ROUNDS)
        self.assertEqual(document["rows"][2]["verdicts"][1]["verdict"], "met")
        self.assertIn("wall_s", document["rows"][0]["runs"]["glibc"][0])
        with open(f"{here}/m", encoding="utf-8") as file:
            self.assertIn("| malloc+free 1 GiB | time | 10 ns | 5 ns |", file.read())

    def test_failures_are_told(self):
        for body, text in (("exit 3", "exited with status 3"), ("echo nonsense", "printed no JSON"),
                           ("kill -SEGV $$", "SIGSEGV"), ("echo oops >&2; exit 1", "oops")):
            broken = f"case $LD_PRELOAD in *zeropool*) {body}; exit ;; esac\n{self.PAIR}"
            result = self.bench(self.build(pair=broken), "--only", "pair-32K", "-n", "2")
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertIn("pair-32K under zeropool: ", result.stderr)
            self.assertIn(text, result.stderr)
            self.assertRegex(result.stdout, r"malloc\+free 32 KiB\s+time\s+10 ns\s+-")

    # A stand-in for setsid and a program under a library that counts: 500 requests, in 5 of them the lock was held by another.
    COUNTS = ('printf \'{"gets": 0, "counters": {"gets_tcache": 0, "gets_heap": 0, "heap_locked": 0, "heap_contended": 0}}\\n'
              '{"gets": 500, "counters": {"gets_tcache": 400, "gets_heap": 100, "heap_locked": 250, '
              '"heap_contended": 5}}\\n\' >"$ZEROPOOL_STATS"')

    def test_counters(self):
        here, library = self.folder(), os.path.join(self.folder(), variants.SHIM)
        self.write(library, "")
        result = support.run("bench", "--build", self.build(pair=self.COUNTS), "--counters", "--only", "pair-32K,small-perl",
                             "--json", f"{here}/j", env=support.environment(ZEROPOOL_LIB=library))
        self.assertEqual(result.returncode, 0, result.stderr)
        # thread cache, shard, other shards, heap, looks, moved, to shards, to heap, heap locks, contended
        self.assertRegex(result.stdout, r"pair-32K\s+500\s+800\s+0.0\s+0.0\s+200\s+0.0\s+0.0\s+0.0\s+0.0\s+500\s+10.0\s+0.0")
        self.assertNotIn("small-perl", result.stdout)
        with open(f"{here}/j", encoding="utf-8") as file:
            self.assertEqual(json.load(file)["rows"]["pair-32K"]["heap_contended"], 5)

    def test_counters_that_are_not_there(self):
        library = os.path.join(self.folder(), variants.SHIM)
        self.write(library, "")
        for body, word in (('echo "{}" >"$ZEROPOOL_STATS"', "-Dcounters=true"), ("true", "no statistics"), ("exit 3", "status 3")):
            result = support.run("bench", "--build", self.build(pair=body), "--counters", "--only", "pair-32K",
                                 env=support.environment(ZEROPOOL_LIB=library))
            self.assert_fails(result, 125, word)

    def test_a_program_that_is_missing_is_told(self):
        result = self.bench(self.build(pair=self.PAIR), "--only", "pair-32K,shift", "-n", "1")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("shift left out", result.stdout)

    def test_every_row_of_the_list_is_shown(self):
        result = support.run("bench", "--list")
        self.assertEqual(result.returncode, 0, result.stderr)
        for each in all_rows():
            self.assertIn(each.name, result.stdout)

    def test_usage(self):
        self.assertEqual(support.run("bench", "--help").returncode, 0)
        self.assert_fails(support.run("bench", "--onyl", "pair"), 2, "--onyl", "--only")
        self.assert_fails(support.run("bench", "--only", "pear"), 2, "pear", "pair")
        self.assert_fails(support.run("bench", "extra"), 2, "extra")
        self.assert_fails(support.run("bench", "-a", "glibc,foo", "--only", "pair-64K"), 2, "bench: unknown allocator 'foo'")
        self.assert_fails(support.run("bench", "--build", self.folder()), 125, "ninja")
        self.assert_fails(self.bench(self.build(), "--json", "/nowhere/x"), 125, "/nowhere")

    def test_interrupt_shows_complete_rows(self):
        build = self.build(pair=self.PAIR, grow="sleep 30")
        words = ["bench", "--build", build, "-q", "-a", "glibc,zeropool", "-n", "1", "--only", "pair-32K,grow-2"]
        child = subprocess.Popen([support.ZEROPOOL, *words], env=support.environment(), stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        time.sleep(3)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
        self.assertEqual(child.returncode, 130, err)
        self.assertIn("malloc+free 32 KiB", out)
        self.assertNotIn("realloc", out)
        self.assertIn("2 of 3 rows", err)


class RealPrograms(support.Case):
    def make(self, **program):
        here = self.folder()
        entry = {"name": "x", "argv": ["/bin/echo", "{scale}"], "env": {"A": "1"}, "packages": ["x"],
                 "needs": ["/bin/sh"], **program}
        self.write(os.path.join(here, "list.json"), json.dumps({"programs": [entry]}))
        return bench_real.RealPrograms(here)

    def test_prepare_and_clean_up(self):
        with self.make(prepare=["/usr/bin/touch", "{dir}/ready"], argv=["/bin/ls", "{dir}"]) as real:
            argv, env = real.prepare(real.rows[0])
            self.assertEqual(os.listdir(argv[1]), ["ready"])
            self.assertEqual(env["A"], "1")
            scratch = argv[1]
        self.assertFalse(os.path.exists(scratch))

    def test_what_is_not_installed_is_noted(self):
        with self.make(needs=["/nowhere/*"]) as real:
            self.assertEqual(real.rows, [])
            self.assertIn("apt-get install x", real.notes[0])
        with bench_real.RealPrograms("/nowhere") as real:
            self.assertIn("left out", real.notes[0])


if __name__ == "__main__":
    unittest.main()
