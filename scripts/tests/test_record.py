# SPDX-License-Identifier: MIT
"""zeropool record: what it writes, that figures and stacks are right, exit statuses, and every way in which perf may be missing."""
import json
import os
import re
import shutil
import signal
import subprocess
import time
import unittest

import support
from support import ZEROPOOL, compile_c, environment, run

from zeropool_tools import folded, perf, perf_images, perf_symbols, record_probes, record_store

BUSY = r"""
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
static volatile unsigned long sink;
__attribute__((noinline)) void spin(unsigned long n) { for (unsigned long i = 0; i < n; i++) sink += i; }
__attribute__((noinline)) void touch(size_t bytes) { char *p = malloc(bytes); memset(p, 1, bytes); sink += p[77]; free(p); }
int main(int argc, char **argv) {
  for (int i = 0; i < 4; i++) touch(48u << 20);
  spin(60000000);
  puts("done");
  fputs("to stderr\n", stderr);
  return argc > 1 ? atoi(argv[1]) : 0;
}
"""


def perf_works():
    return bool(shutil.which("perf")) and perf.privileged()


def busy():
    return compile_c("busy-program", BUSY, "-fno-builtin")


class Folding(unittest.TestCase):
    TEXT = ("prog name 12/13  5.000000:    2004008 cpu-clock: \n"
            "\tffffffff81 clear_page_erms ([kernel.kallsyms])\n\tffffffff82 asm_exc_page_fault ([kernel.kallsyms])\n"
            "\t    1234 memset@@GLIBC_2.2.5 (/lib/libc.so.6)\n\t    1300 [unknown] (/opt/lib x.so)\n\t    13ff [unknown] (/opt/lib x.so)\n"
            "\t    2000 std::map<int; (lambda)>::f(int) (/opt/prog (deleted))\n\tffffffffffffffff [unknown] ([unknown])\n\n"
            "prog name 12/13  5.100000:    2004008 cpu-clock: \n\t  99 _int_free (/lib/libc.so.6)\n\n"
            "prog name 12/13  5.200000: PERF_RECORD_LOST lost 7\n")

    def test_names_kinds_and_counts(self):
        profile = folded.fold(self.TEXT.splitlines(True), "us")
        self.assertEqual(dict(profile.stacks), {
            ("prog name", "[stack cut off]", "std::map<int: (lambda)>::f(int)", "[lib x.so]", "memset", "asm_exc_page_fault_[k]",
             "clear_page_erms_[k]"): 2004, ("prog name", "_int_free"): 2004})
        self.assertEqual(dict(profile.kinds), {"page faults": 2004, "allocator": 2004})
        self.assertEqual((profile.samples, profile.lost, profile.truncated, profile.unknown), (2, 7, 1, 0))

    def test_text_and_back(self):
        stacks = folded.fold(self.TEXT.splitlines(True), "us").stacks
        self.assertEqual(folded.from_text(folded.to_text(stacks)), stacks)
        for broken in ("a;b\n", "a;b x\n", "a;b -3\n", " 5\n"):
            with self.assertRaises(ValueError):
                folded.from_text(broken)

    def test_images(self):
        lines = ["a 1/1 1.0: PERF_RECORD_COMM exec: a:1/1", "a 1/1 1.1: cpu-clock: ", "a 1/1 1.2: PERF_RECORD_FORK(2:2):(1:1)",
                 "a 2/2 1.3: cpu-clock: ", "b 2/2 1.4: PERF_RECORD_COMM exec: b c:2/2", "b c 2/2 1.5: cpu-clock: ", "b c 2/2 1.6: "]
        images = perf_images.find(lines)
        self.assertEqual([images.of_sample[k] for k in (("1", "1.1"), ("2", "1.3"), ("2", "1.5"), ("2", "1.6"))], [1, 1, 2, 2])
        self.assertEqual(sorted(map(tuple, images.passes())), [(1,), (2,)])

    def test_symbol_offsets(self):
        library = record_probes.LIBC[0]
        found = perf_symbols.offsets(library, {"malloc", "calloc", "no_such_function"})
        self.assertEqual(set(found), {"malloc", "calloc"})
        self.assertEqual(perf_symbols.offsets("/bin/sh", {"malloc"}), {})
        self.assertEqual(perf_symbols.offsets(os.path.join(support.ROOT, "README.md"), {"malloc"}), {})


class Usage(support.Case):
    def test_bad_words(self):
        for words, text in ((("-F", "0", "true"), "whole number"), (("-e", "x", "true"), "cpu, faults or alloc"), ((), "no command"),
                            (("--nonsense",), "unknown option"), (("--compare", "-a", "glibc", "true"), "at least two"),
                            (("-a", "glibc,zeropool", "true"), "need --compare"), (("-a", "foo", "true"), "record: unknown allocator"),
                            (("--compare", "-a", "glibc,glibc", "true"), "twice"), (("--workloads", "true"), "takes no command")):
            with self.subTest(words=words):
                self.assert_fails(run("record", *words), 2, text)

    def test_command_that_cannot_run(self):
        self.assert_fails(run("record", "--", "no-such-program"), 127, "not found")
        self.assert_fails(run("record", "--", "/etc/passwd"), 126, "not executable")

    def test_folder_in_the_way(self):
        here = self.folder()
        self.write(os.path.join(here, "mine"), "text")
        result = run("record", "-o", here, "true")
        self.assertEqual((result.returncode, os.listdir(here)), (2 if perf_works() else 125, ["mine"]), result.stderr)

    def test_no_perf(self):
        path = self.folder()
        for name in ("sh", "true", "setsid"):
            os.symlink(shutil.which(name), os.path.join(path, name))
        self.assert_fails(run("record", "--", "true", env=environment(PATH=path)), 125, "perf is not installed",
                          "apt-get install linux-perf")
        self.write(os.path.join(path, "perf"), "#!/bin/sh\necho 'no perf for this kernel' >&2\nexit 2\n")
        self.assert_fails(run("record", "--", "true", env=environment(PATH=path)), 125, "no perf for this kernel")

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("setpriv"), "only root can give up its rights")
    def test_without_rights(self):
        level = perf.read_number(perf.PARANOID)
        here = self.folder()
        os.chmod(here, 0o777)
        os.chmod(support.folder(), 0o755)
        env = environment(ZEROPOOL_LIB=None, HOME=here)
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ZEROPOOL, "record", "-o", f"{here}/r"]
        result = subprocess.run([*words, "-e", "alloc", "true"], env=env, capture_output=True, text=True, timeout=60, check=False)
        if result.returncode == 126 or "denied" in result.stderr:
            self.skipTest("the source tree is closed to other users")
        self.assert_fails(result, 125, "only root", "sudo zeropool record -e alloc")
        result = subprocess.run([*words, "sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"], env=env,
                                capture_output=True, text=True, timeout=60, check=False)
        if level is not None and level >= 2:
            self.assertIn("sysctl kernel.perf_event_paranoid=1", result.stderr)
        if level is not None and level <= 2:
            self.assertEqual(result.returncode, 0, result.stderr)


@unittest.skipUnless(perf_works(), "perf is missing or not permitted here; on Debian, as root: apt-get install linux-perf")
class Recording(support.Case):
    def record(self, *words, env=None, status=0):
        folder = os.path.join(self.folder(), "r")
        result = run("record", "-o", folder, *words, env=env)
        self.assertEqual(result.returncode, status, result.stderr)
        return result, folder, record_store.load(folder)

    def stacks(self, *parts):
        return record_store.read_stacks(os.path.join(*parts, "stacks.folded"))

    def test_one_program(self):
        result, folder, stored = self.record("-F", "1999", busy())
        self.assertTrue(result.stdout.startswith("done\n"))
        self.assertIn("to stderr\n", result.stderr)
        self.assertIn("zeropool: next: open ", result.stderr)
        for name in ("perf.data", "stacks.folded", "flamegraph.svg", "report.txt", "annotate.txt", "record.json"):
            self.assertGreater(os.path.getsize(os.path.join(folder, name)), 300, name)
        item = stored["variants"][0]
        self.assertLess(abs(item["total"] / 1e6 - item["cpu_s"]), 0.05 + 0.25 * item["cpu_s"])
        self.assertLess(abs(item["total"] - sum(item["kinds"].values())), item["samples"], "rounded to a microsecond each")
        self.assertGreater(item["kinds"]["page faults"], 0)
        self.assertGreater(item["kinds"]["unmap"], 0)
        self.assertLess(item["unknown"], 0.05 * item["samples"])
        functions = folded.by_function(self.stacks(folder))
        self.assertGreater(functions["spin"][0], 0)
        self.assertGreater(functions["touch"][1], 0)
        main = sum(w for s, w in self.stacks(folder).items() if "main" in s)
        self.assertGreater(main / item["total"], 0.9, "stacks reach back to main")
        self.assertIn("spin", subprocess.run(["perf", "report", "--stdio", "-g", "none", "-i", f"{folder}/perf.data"], text=True,
                                             capture_output=True, check=True).stdout)

    def test_exit_status_and_signal(self):
        self.record(busy(), "7", status=7)
        self.record("sh", "-c", "kill -9 $$", status=137)

    def test_recording_is_replaced(self):
        _, folder, _ = self.record("true")
        self.assertEqual(run("record", "-o", folder, "true").returncode, 0)

    def test_a_good_recording_survives_a_bad_one(self):
        _, folder, stored = self.record("-F", "1999", busy())
        self.write(os.path.join(folder, "mine"), "text")
        before = sorted(os.listdir(folder))
        for number, (words, status, why) in enumerate(((("sh", "-c", "exit 3"), 3, "exited with status 3"),
                                                       (("sh", "-c", "kill -9 $$"), 137, "SIGKILL")), 2):
            result = run("record", "-o", folder, *words)
            self.assertEqual(result.returncode, status, result.stderr)
            self.assertRegex(result.stderr, f"keeps the good recording that it holds, as this one .*{why}")
            self.assertIn(f"wrote {folder}-{number}/", result.stderr)
            self.assertEqual(record_store.load(f"{folder}-{number}")["command"][0], "/usr/bin/sh" if os.path.exists("/usr/bin/sh") else "/bin/sh")
            self.assertEqual(record_store.load(folder), stored)
        # The tool itself fails: nothing new, and nothing is lost.
        path = self.folder()
        self.write(os.path.join(path, "perf"), "#!/bin/sh\n[ \"$1\" = --version ] && echo perf version 6 && exit\n"
                   "echo trouble >&2\nexit 1\n")
        result = run("record", "-o", folder, busy(), env=environment(PATH=f"{path}:/usr/bin:/bin"))
        self.assertEqual(result.returncode, 125, result.stderr)
        self.assertEqual(sorted(os.listdir(folder)), before)
        self.assertEqual(run("record", "-o", f"{folder}-none", busy(), env=environment(PATH=f"{path}:/usr/bin:/bin")).returncode, 125)
        self.assertFalse(os.path.exists(f"{folder}-none"))
        # A good one replaces it, whatever allocators it had, and leaves what is not its own.
        result = run("record", "--compare", "-a", "glibc,x=glibc", "-o", folder, busy())
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertFalse(os.path.exists(os.path.join(folder, "perf.data")))
        self.assertTrue({"mine", "glibc", "x", "diff.svg"} <= set(os.listdir(folder)))

    def test_faults(self):
        _, folder, stored = self.record("-e", "faults", busy())
        self.assertGreater(stored["variants"][0]["total"], 4 * 48 * 256 * 0.8)
        functions = folded.by_function(self.stacks(folder))
        self.assertGreater(functions["touch"][1] / stored["variants"][0]["total"], 0.8)

    @unittest.skipUnless(os.access(record_probes.EVENTS, os.W_OK), "uprobes cannot be set here")
    def test_alloc(self):
        _, folder, stored = self.record("-e", "alloc", busy())
        self.assertGreaterEqual(stored["variants"][0]["total"], 4 * (48 << 20))
        self.assertLess(stored["variants"][0]["total"], 5 * (48 << 20))
        self.assertIn("touch", folded.by_function(self.stacks(folder)))
        with open(record_probes.EVENTS, encoding="ascii") as file:
            self.assertNotIn("zeropool_", file.read())

    def test_programs_within_programs(self):
        # The C library lies elsewhere in every one of them; see perf_images.
        _, folder, _ = self.record("-F", "1999", "sh", "-c", f"{busy()} && {busy()}")
        stacks = {s: w for s, w in self.stacks(folder).items() if s[0] == "busy-program"}
        # Only what its own function spends: how much loading, ending and page faults take beside it is the machine's affair. Read the
        # plain way, nine of ten of these stacks end after one frame.
        spinning = {s: w for s, w in stacks.items() if "spin" in s}
        self.assertGreater(sum(spinning.values()), 0)
        self.assertGreater(sum(w for s, w in spinning.items() if "main" in s) / sum(spinning.values()), 0.9)

    def test_compare(self):
        result, folder, stored = self.record("--compare", "-a", "glibc,glibc-retain", busy())
        self.assertNotIn("done", result.stdout)
        for name in ("baseline.svg", "optimized.svg", "diff.svg", "glibc/flamegraph.svg", "glibc-retain/report.txt"):
            self.assertTrue(os.path.isfile(os.path.join(folder, name)), name)
        with open(os.path.join(folder, "glibc", "output.txt"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "done\n")
        self.assertRegex(result.stdout, r"glibc-retain against glibc: [\d.]+ s -> [\d.]+ s \(-\d+ %\): .*page faults -")
        before, after = stored["variants"]
        self.assertLess(after["kinds"]["page faults"] + after["kinds"]["unmap"],
                        before["kinds"]["page faults"] + before["kinds"]["unmap"])

    def test_what_the_program_sees(self):
        library = support.library()
        self.record("-a", "zeropool", "sh", "-c", f'[ "$LD_PRELOAD" = "{library}:libm.so.6" ] && [ -z "$LC_ALL" ]',
                    env=environment(LD_PRELOAD="libm.so.6", LC_ALL=None))

    def test_interrupt_keeps_what_there_is(self):
        folder = os.path.join(self.folder(), "r")
        with subprocess.Popen([ZEROPOOL, "record", "-o", folder, "--", "sh", "-c", "while :; do :; done"], env=environment(),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                              preexec_fn=support.default_signals) as child:
            time.sleep(3)
            os.killpg(child.pid, signal.SIGINT)
            out, _ = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 130)
        self.assertIn(b"processor time", out)
        self.assertGreater(record_store.load(folder)["variants"][0]["samples"], 0)

    def test_interrupted_compare_recommends_what_exists(self):
        folder = os.path.join(self.folder(), "r")
        # The second run, under zeropool, is interrupted before it has one sample; or the first one is.
        for script in ("kill -INT $PPID; sleep 1", f'[ -z "$LD_PRELOAD" ] && {{ {busy()}; exit; }}; kill -INT $PPID; sleep 5'):
            result = run("record", "--compare", "-F", "1999", "-o", folder, "--", "sh", "-c", script)
            self.assertIn(result.returncode, (0, 130), result.stderr)
            self.assertIn("interrupted; what was recorded until then is kept", result.stderr)
            for path in re.findall(r"open (\S+) in a browser", result.stderr):
                self.assertTrue(os.path.isfile(path), result.stderr)

    def test_default_folder_is_numbered(self):
        here = self.folder()
        for _ in range(2):
            run("record", "true", cwd=here)
        self.assertEqual(sorted(os.listdir(here)), ["zeropool-record-true", "zeropool-record-true-2"])

    def test_numpy_names(self):
        try:
            subprocess.run(["/usr/bin/python3", "-c", "import numpy"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            self.skipTest("no numpy")
        _, _, stored = self.record("/usr/bin/python3", os.path.join(support.SCRIPTS, "examples", "numpy_temporaries.py"), "8")
        item = stored["variants"][0]
        self.assertLess(item["unknown"], 0.05 * item["samples"], json.dumps(item))
        self.assertLess(item["truncated"], 0.05 * item["samples"])


class Advice(unittest.TestCase):
    def test_symbols(self):
        self.assertIn("libc6-dbg", perf.symbols_advice("/usr/lib/x86_64-linux-gnu/libc.so.6"))
        self.assertIn("python3.11-dbg", perf.symbols_advice("/usr/bin/python3.11"))
        self.assertRegex(perf.symbols_advice("/opt/nobody/x.so"), "build it with -g")

    def test_explanations(self):
        self.assertRegex(perf.explain("Error:\nAccess ... perf_event_paranoid setting is 4\n"), re.compile("sysctl.*docker run", re.S))
        self.assertIn("disk is full", perf.explain("failed to write perf data, error: No space left on device"))
        self.assertIn("odd", perf.explain("odd"))


if __name__ == "__main__":
    unittest.main()
