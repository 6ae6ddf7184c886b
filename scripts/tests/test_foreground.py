# SPDX-License-Identifier: MIT
"""Commands that run a program of the user in the foreground: signals reach the program, and nothing is left behind."""
import glob
import os
import signal
import subprocess
import time
import unittest

import support
from support import ROOT, ZEROPOOL, default_signals, environment
from test_record import perf_works

TRACER = os.path.join(ROOT, "build", "workloads", "replay", "libzeropool-trace.so")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
COUNTS = """import os, signal, sys, time
got = []
for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(each, lambda number, _: got.append(number))
open(sys.argv[1], "w").close()
while not got: time.sleep(0.01)
time.sleep(float(sys.argv[2]))
sys.exit(len(got))
"""


class Signals(support.Case):
    def start(self, *words, **more):
        """The running command, once its program has made the file `started` in self.here."""
        process = subprocess.Popen([ZEROPOOL, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=self.here,
                                   stderr=subprocess.PIPE, start_new_session=True, env=environment(TMPDIR=self.here),
                                   preexec_fn=more.pop("preexec_fn", default_signals), **more)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + 60
        while not os.path.exists(f"{self.here}/started") and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertTrue(os.path.exists(f"{self.here}/started"))
        return process

    def end(self, process, number, group=False):
        (os.killpg if group else os.kill)(process.pid, number)
        return process.wait(timeout=60)

    def left(self):
        return [name for name in os.listdir(self.here) if name not in ("started", "program.py")]

    def setUp(self):
        self.here = self.folder()
        self.sleeper = ("sh", "-c", f"touch {self.here}/started; exec sleep 60")
        self.counter = ("/usr/bin/python3", self.write(f"{self.here}/program.py", COUNTS), f"{self.here}/started")

    def check(self, *words):
        for number in SIGNALS:
            with self.subTest(words=words, signal=number):
                if os.path.exists(f"{self.here}/started"):
                    os.unlink(f"{self.here}/started")
                self.assertEqual(self.end(self.start(*words, "--", *self.sleeper), number), 128 + number)
                self.assertEqual([name for name in self.left() if name.startswith((".", "zeropool-"))], [])

    @unittest.skipUnless(os.path.exists(TRACER), "workloads/replay is not built")
    def test_trace(self):
        self.check("trace", "-o", "t.zpt")

    def test_advise(self):
        self.check("advise")

    @unittest.skipUnless(perf_works(), "perf is missing or not permitted here")
    def test_record(self):
        self.check("record", "-o", "r")

    def test_program_that_ends_by_itself_gets_one(self):
        process = self.start("advise", "--", *self.counter, "0")
        self.assertEqual(self.end(process, signal.SIGTERM, group=True), 1)

    def test_program_that_takes_its_time_gets_it(self):
        process = self.start("advise", "--", *self.counter, "0.5")
        self.assertEqual(self.end(process, signal.SIGTERM), 1)

    def test_ignored_signals_stay_ignored(self):
        def ignore():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        process = self.start("advise", "--", "sh", "-c", f"touch {self.here}/started; sleep 0.7; exit 5", preexec_fn=ignore)
        self.assertEqual(self.end(process, signal.SIGHUP), 5)


class OwnWork(support.Case):
    """Signals while no program runs: temporary files go, one line says why."""

    def test_stopped_while_it_starts(self):
        for delay in range(0, 100, 4):
            process = subprocess.Popen([ZEROPOOL, "stat", "--fault-ns", "1", "-"], env=environment(), stdin=subprocess.PIPE, text=True,
                                       stderr=subprocess.PIPE, start_new_session=True, preexec_fn=default_signals)
            time.sleep(delay / 1000)
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=60)
            # What Python does before our first lines is beyond us; what they load is not.
            if "Fatal Python error" not in said:
                self.assertNotRegex(said, "importlib|zeropool_tools/", delay)

    def test_stopped_while_it_works(self):
        here = self.folder()
        script = ("import os, sys, tempfile, time\nsys.path.insert(0, sys.argv[1])\nfrom zeropool_tools import cli\n"
                  "def work(words):\n    with tempfile.TemporaryDirectory(dir=sys.argv[2]) as place:\n"
                  "        open(place + '/ready', 'w').close()\n        time.sleep(60)\n"
                  "cli.dispatch = work\nsys.exit(cli.main(['x']))\n")
        for number in SIGNALS:
            process = subprocess.Popen(["/usr/bin/python3", "-I", "-B", "-c", script, support.SCRIPTS, here], text=True,
                                       stderr=subprocess.PIPE, start_new_session=True, preexec_fn=default_signals)
            while not glob.glob(f"{here}/*/ready") and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
            self.assertEqual((process.returncode, os.listdir(here)), (128 + number, []))
            self.assertEqual(said, "zeropool: interrupted\n" if number == signal.SIGINT else f"zeropool: ended by {number.name}\n")


class Output(support.Case):
    """Standard output that is full, closed or not read: one line at most, and no traceback."""

    def test_every_command(self):
        for words in (("doctor", "--json"), ("bench", "--list"), ("top", "-n", "1"), ("compare", "--help"),
                      ("compare", "-q", "-n", "1", "-w", "0", "-a", "glibc,zeropool", "--", "true")):
            with self.subTest(words=words):
                with open("/dev/full", "wb") as full:
                    result = subprocess.run([ZEROPOOL, *words], env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
                self.assertEqual((result.returncode, result.stderr.splitlines()[-1]), (125, "zeropool: standard output: No space left on device"))
                self.assertEqual(result.stderr.count("No space"), 1)
                result = subprocess.run(["sh", "-c", '"$@" >&- <&-', "sh", ZEROPOOL, *words], env=environment(), stderr=subprocess.PIPE,
                                        text=True, check=False)
                self.assertIn(result.returncode, (0, 1))
                self.assertNotIn("Traceback", result.stderr)
                result = subprocess.run(["sh", "-c", '"$@" | true', "sh", ZEROPOOL, *words], env=environment(), stderr=subprocess.PIPE,
                                        text=True, check=False)
                self.assertNotRegex(result.stderr, "Traceback|Exception")


if __name__ == "__main__":
    unittest.main()
