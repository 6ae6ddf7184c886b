# SPDX-License-Identifier: MIT
"""Who calls the allocator, with lines; record of a running process; the unit of folded stacks."""
import json
import os
import signal
import subprocess
import time
import unittest

import support
from support import ZEROPOOL, compile_c, environment, run
from test_record import perf_works

from zeropool_tools import callers, folded

SOURCE = """#include <stdlib.h>
#include <string.h>
static void __attribute__((noinline)) work(size_t n) {
  char *volatile p = malloc(n);
  memset(p, 1, n);
  free(p);
}
int main(void) { for (;;) work(100000); }
"""


class Frames(unittest.TestCase):
    def test_caller(self):
        frames = [("1", "clear_page_[k]+0x3", "[kernel.kallsyms]"), ("2", "_int_malloc+0x120", "/lib/libc.so.6"),
                  ("3", "malloc+0x1f", "/lib/libc.so.6"), ("4", "work+0x12", "/opt/prog"), ("5", "main+0x99", "/opt/prog")]
        self.assertEqual(folded.caller_of(frames), ("work", 18, "/opt/prog"))
        self.assertIsNone(folded.caller_of(frames[3:]))
        self.assertIsNone(folded.caller_of(frames[:3]))
        frames[3] = ("4", "[unknown]", "/opt/prog")
        self.assertEqual(folded.caller_of(frames), ("[prog]", None, "/opt/prog"))

    def test_names_lose_their_offset(self):
        self.assertEqual(folded.clean("__GI___libc_malloc+0x1f"), "__libc_malloc")
        self.assertEqual(folded.clean("malloc@plt+0x4"), "malloc")
        self.assertEqual(folded.clean("operator+"), "operator+")

    def test_stacks_without_lines(self):
        stacks = {("prog", "main", "work", "malloc", "_int_malloc"): 7, ("prog", "main", "cfree"): 3, ("prog", "main"): 5}
        self.assertEqual(callers.of_stacks(stacks), [["work", "", 7], ["main", "", 3]])

    def test_damaged_recordings(self):
        self.assertEqual(callers.rows([["a", "b"]], "us", 1, 9), [])
        self.assertEqual(callers.rows([["a", "f.c:3", 500000]], "us", 1000000, 9), [["a", "0.500 s", "50.0 %", "f.c:3"]])


class Units(support.Case):
    def test_folded_stacks(self):
        path = self.write(os.path.join(self.folder(), "x.folded"), "p;main;malloc 1500000\np;main 500000\n", 0o600)
        self.assertIn("1 500 000 samples", run("report", path).stdout)
        result = run("report", "--unit", "us", path)
        self.assertRegex(result.stdout, r"malloc +1.500 s +75.0 %")
        self.assertRegex(result.stdout, r"(?m)^main +1.500 s +75.0 % +-$")
        self.assert_fails(run("report", "--unit", "s", path), 2, "us, faults, bytes or samples")


@unittest.skipUnless(perf_works(), "perf is missing or not permitted here")
class Running(support.Case):
    def start(self):
        program = compile_c("calls-malloc", SOURCE, "-g", "-fno-omit-frame-pointer")
        process = subprocess.Popen([program])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_lines_of_a_running_process(self):
        process, place = self.start(), os.path.join(self.folder(), "r")
        result = run("record", "-p", str(process.pid), "--seconds", "2", "-F", "999", "-o", place)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIsNone(process.poll(), "it goes on")
        shown = run("report", place).stdout
        # The source came from standard input, which addr2line calls <stdin>.
        self.assertRegex(shown, r"(?m)^work +[\d.]+ s +[\d.]+ % +\S*<stdin>:4$")
        self.assertRegex(shown, r"(?m)^work +[\d.]+ s +[\d.]+ % +\S*<stdin>:6$")
        self.assertRegex(run("report", os.path.join(place, "stacks.folded")).stdout, r"(?m)^work +[\d.]+ s ", "microseconds as such")
        with open(os.path.join(place, "record.json"), encoding="utf-8") as file:
            data = json.load(file)["variants"][0]
        self.assertGreater(data["cpu_s"], 0)
        self.assertEqual(data["name"], f"pid-{process.pid}")

    def test_interrupt_ends_the_recording_only(self):
        process, place = self.start(), os.path.join(self.folder(), "r")
        recorder = subprocess.Popen([ZEROPOOL, "record", "-p", str(process.pid), "--seconds", "600", "-o", place], env=environment(),
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=support.default_signals)
        self.addCleanup(recorder.kill)
        time.sleep(6)
        recorder.send_signal(signal.SIGINT)
        self.assertEqual(recorder.wait(timeout=60), 0)
        self.assertIsNone(process.poll())
        self.assertTrue(os.path.exists(os.path.join(place, "stacks.folded")))

    def test_usage(self):
        self.assert_fails(run("record", "-p", str(1 << 29)), 125, "there is none")
        self.assert_fails(run("record", "-p", "1", "--", "true"), 2, "-p PID takes no command")
        self.assert_fails(run("record", "-p", "1", "-e", "alloc"), 2, "-e alloc needs the start")


if __name__ == "__main__":
    unittest.main()
