# SPDX-License-Identifier: MIT
"""zeropool advise: estimates and verdicts from given runs, and runs of real programs with the real library.

What it says of many programs, against compare, is advise_judge.py's to tell; a few of them are checked here.
"""
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import advise_judge
import support
from support import ROOT, ZEROPOOL, environment, run

from zeropool_tools import advise_estimate, advise_live, advise_settings, saved
from zeropool_tools.advise_measure import Run

BUILT = os.path.join(ROOT, "build", "shim", "libzeropool-preload.so")
MIB = 1 << 20
PYTHON = sys.executable
FAULT_NS = 1000.0


def runs(*times, faults=0, peak=10 * MIB, system=0.0):
    return [Run(t, t - system, system, t, faults, peak, 0, "digest") for t in times]


def report(start, calls, **more):
    return {"gets": calls, "minor_faults": 10 ** 6, "n_threads": 1, "bytes_fresh": 64 * MIB, "bytes_live_peak": 128 * MIB,
            "max_rss_bytes": 128 * MIB, **more,
            "sizes": [{"from": start, "tcache": calls, "bytes_warm": start * calls, "bytes_fresh": start}]}


class Verdict(unittest.TestCase):
    def judge(self, base, pool, requests=10):
        found = advise_estimate.estimate(base, pool, FAULT_NS, requests)
        return found, advise_estimate.verdict(found, base, pool)

    def test_faults_that_explain_the_time(self):
        found, word = self.judge(runs(2.0, faults=1000000), runs(1.0))
        self.assertEqual(word, "yes")
        self.assertAlmostEqual(found.share, 0.5, 2)
        self.assertLess(found.low_s, 1.0)
        self.assertGreater(found.high_s, 1.0)

    def test_faults_steady_a_noisy_machine(self):
        """Processor times that are 20 % off tell nothing where faults are the same and no large block is asked for."""
        found, word = self.judge(runs(1.0, 1.2), runs(0.9, 1.1), requests=0)
        self.assertEqual(word, "no")
        self.assertLess(abs(found.share), 0.05)

    def test_a_difference_without_faults(self):
        found, word = self.judge(runs(1.0, 1.01, 0.99, 1.0, 1.0), runs(0.5, 0.51, 0.5, 0.49, 0.5))
        self.assertEqual(word, "yes")
        self.assertTrue(found.disagree)
        self.assertAlmostEqual(found.share, 0.5, 2)

    def test_do_not_use_it(self):
        slower = self.judge(runs(1.0, 1.0, 1.01, 0.99), runs(1.3, 1.31, 1.3, 1.29))
        larger = self.judge(runs(1.0), runs(1.0, peak=200 * MIB))
        self.assertEqual((slower[1], larger[1]), ("do not use it", "do not use it"))

    def test_short_programs(self):
        self.assertEqual(self.judge(runs(0.002), runs(0.003))[1], "no")

    def test_clear(self):
        def clear(base, pool, requests):
            return advise_estimate.clear(advise_estimate.estimate(base, pool, FAULT_NS, requests))

        self.assertFalse(clear(runs(1.0), runs(0.97), None))
        self.assertTrue(clear(runs(1.0), runs(0.97), 0))  # no large block, no fault more: chance
        self.assertTrue(clear(runs(*[1.0] * 12), runs(*[1.0] * 12), 0))

    def test_causes_add_up(self):
        base, pool = runs(2.0, faults=800000, system=1.2), runs(1.0, faults=1000, system=0.1)
        found = advise_estimate.estimate(base, pool, FAULT_NS, 100)
        parts = advise_estimate.causes(found, base, pool, report(64 * MIB, 100, n_threads=4), FAULT_NS, 200.0)
        self.assertAlmostEqual(sum(value for _, value in parts), found.saved_s, 1)
        self.assertTrue(parts[0][0].startswith("refaults"), parts)

    def test_interrupted(self):
        base, pool = runs(2.0, faults=1000000)[0], runs(0.5, faults=100)[0]
        low, high = advise_estimate.by_rates(base, pool, FAULT_NS)
        self.assertTrue(0.3 < low < 0.5 < high < 0.7, (low, high))
        self.assertEqual(advise_estimate.by_rates(base, None, FAULT_NS)[0], 0.0)


class Settings(unittest.TestCase):
    def test_threshold(self):
        many = report(32 * MIB, 10)
        many["sizes"].insert(0, {"from": 32768, "tcache": 900, "bytes_warm": 32768, "bytes_fresh": 0})
        self.assertIn("--threshold 32768K", advise_settings.threshold(many))
        self.assertEqual(advise_settings.fitting(report(32768, 10), []), "the defaults fit")

    def test_retain_and_threads(self):
        purged = report(32 * MIB, 10, bytes_purged=1 << 30, n_threads=8)
        text = advise_settings.fitting(purged, [purged])
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


class Usage(support.Case):
    def test_usage(self):
        self.assert_fails(run("advise"), 2, "no command given")
        self.assert_fails(run("advise", "/nowhere/x"), 127, "not found")
        self.assert_fails(run("advise", "--pid", "1", "--", "true"), 2, "either --pid or a command")
        self.assert_fails(run("advise", "--server", "true"), 2, "belong together")
        self.assert_fails(run("advise", "--pid", str(1 << 29), "--seconds", "0.1"), 125, "there is none")


@unittest.skipUnless(os.path.exists(BUILT), "the library is not built")
class Programs(support.Case):
    def advise(self, *words, **more):
        return run("advise", "-q", *words, env=environment(ZEROPOOL_LIB=BUILT), **more)

    def stored(self, *words):
        path = os.path.join(self.folder(), "json")
        result = self.advise("--json", path, *words)
        self.assertTrue(os.path.exists(path), result.stderr)
        with open(path, encoding="utf-8") as file:
            return result, json.load(file)

    def test_output_status_and_yes(self):
        result = self.advise("--once", "--", PYTHON, "-c",
                             "import sys; print(sys.stdin.read())\nfor i in range(60): b = bytes(b'x') * (40 << 20)\nraise SystemExit(3)")
        self.assertEqual((result.returncode, result.stdout), (3, "\n"), result.stderr)
        self.assertRegex(result.stderr, r"zeropool: yes: the pool saves CMD [0-9]+ % .*\n.*1 run each")
        for text in ("by cause: refaults", "memory: ", "settings: ", "next: zeropool run --"):
            self.assertIn(text, result.stderr)

    def test_no(self):
        self.assertIn("zeropool: no: ", self.advise("--", "true").stderr)

    def test_every_run_reads_the_input_that_was_redirected(self):
        path = self.write(os.path.join(self.folder(), "in"), "some words\n" * 1000)
        with open(path, encoding="utf-8") as file:
            result, stored = None, os.path.join(self.folder(), "json")
            result = self.advise("--max-time", "5", "--json", stored, "--", "wc", "-l", stdin=file)
        self.assertEqual(result.stdout, "1000\n")
        with open(stored, encoding="utf-8") as file:
            data = json.load(file)
        self.assertEqual(len({each["output"] for each in data["runs"]["glibc"] + data["runs"]["zeropool"]}), 1)

    def test_a_program_that_fails_under_the_pool(self):
        result = self.advise("--once", "--", "sh", "-c", 'case $LD_PRELOAD in *zeropool*) exit 7 ;; esac')
        self.assertIn("do not use it: under the pool CMD exited with status 7, under glibc it exited with status 0", result.stderr)

    def test_children_count_however_they_end(self):
        with tempfile.TemporaryDirectory() as folder:
            todo = advise_judge.programs(folder)
            for name in ("children not waited for", "multiprocessing, bytes of 34 MB"):
                _, data = self.stored("--once", "--", *todo[name][0])
                self.assertEqual(data["verdict"], "yes", (name, data["share"]))
                self.assertGreater(data["runs"]["glibc"][0]["faults"], 150000, name)

    def test_a_few_programs(self):
        """Blocks that are filled, and blocks that are hardly touched, which must not be taken for filled ones."""
        with tempfile.TemporaryDirectory() as folder:
            todo = advise_judge.programs(folder)
            _, filled = self.stored("--once", "--", *todo["fill 64 MiB"][0])
            _, sparse = self.stored("--once", "--", *todo["64 MiB, 8 pages touched"][0])
        self.assertEqual(filled["verdict"], "yes")
        self.assertGreater(filled["share"], 0.5)
        self.assertLess(sparse["saved_s"], 3.0)

    def test_interrupted(self):
        process = subprocess.Popen([ZEROPOOL, "advise", "-q", "--", PYTHON, "-c", "while True: b = bytes(b'x') * (40 << 20)"],
                                   env=environment(ZEROPOOL_LIB=BUILT), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, preexec_fn=support.default_signals)
        self.addCleanup(process.kill)
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)
        self.assertIn("zeropool: perhaps: interrupted; a pool saves at most", said)
        self.assertIn("next: zeropool advise --once -- ", said)

    def test_interrupted_later(self):
        """A complete round of each is there: the second signal of a run under the pool tells when."""
        here = self.folder()
        program = self.write(f"{here}/program", f"#!/bin/sh\necho $LD_PRELOAD >>{here}/log\nif [ $(wc -l <{here}/log) -gt 3 ]; then exec sleep 60; fi\n")
        process = subprocess.Popen([ZEROPOOL, "advise", "-q", "--", program], env=environment(ZEROPOOL_LIB=BUILT), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=support.default_signals)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if os.path.exists(f"{here}/log"):
                with open(f"{here}/log", encoding="utf-8") as file:
                    if len(file.read().splitlines()) > 3:
                        break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)
        self.assertIn("interrupted; the figures are those of 1 complete run each", said)

    def test_a_pipe_is_not_lost_silently(self):
        process = subprocess.Popen([ZEROPOOL, "advise", "-q", "--once", "--", "cat"], env=environment(ZEROPOOL_LIB=BUILT), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, said = process.communicate("text\n", timeout=60)
        self.assertEqual(out, "")
        self.assertIn("--input FILE", said)

    def test_server(self):
        here = self.folder()
        server = self.write(f"{here}/server.py", SERVER)
        client = self.write(f"{here}/client.py", CLIENT)
        result, data = self.stored("--max-time", "10", "--ready", "TCP:auto", "--server", f"{PYTHON} -I {server} {{port}}",
                                   "--client", f"{PYTHON} -I {client} {{port}}")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(data["verdict"], "yes", result.stderr)
        self.assertIn("saves the server", result.stderr)
        words = shlex.split(result.stderr.partition("next: ")[2].partition("   (")[0])
        self.assertEqual(words[:3], ["zeropool", "compare", "--ready"])

    def test_running_processes(self):
        code = "import time\nend = time.time() + 60\nwhile time.time() < end: b = bytes(b'x') * (40 << 20)"
        env = environment(ZEROPOOL_LIB=BUILT)
        plain = subprocess.Popen([PYTHON, "-c", code])
        self.addCleanup(plain.wait)
        self.addCleanup(plain.kill)
        time.sleep(1)
        self.assertIn("perhaps: in 1 s process", self.advise("--pid", str(plain.pid), "--seconds", "1").stderr)
        plain.kill()
        for more, text in (({"ZEROPOOL_LIVE": "on"}, "yes: in 1 s the pool saved process"), ({}, "start it with ZEROPOOL_LIVE=on")):
            pooled = subprocess.Popen([ZEROPOOL, "run", PYTHON, "-c", code], env={**env, **more})
            self.addCleanup(pooled.wait)
            self.addCleanup(pooled.kill)
            time.sleep(1.5)
            self.assertIn(text, self.advise("--pid", str(pooled.pid), "--seconds", "1").stderr)
            pooled.kill()

    def test_difference_of_reports(self):
        before, after = report(MIB, 10), report(MIB, 30)
        self.assertEqual(advise_live.difference(before, after)["sizes"][0]["bytes_warm"], 20 * MIB)


SERVER = """
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
while True:
    connection, _ = listener.accept()
    if connection.recv(16):
        for i in range(20): block = bytes(b"x") * (40 << 20)
        connection.sendall(b"done")
    connection.close()
"""
CLIENT = """
import socket, sys
c = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
c.sendall(b"go")
c.recv(16)
"""

if __name__ == "__main__":
    unittest.main()
