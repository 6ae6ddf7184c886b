# SPDX-License-Identifier: MIT
"""zeropool compare from the outside: results in every format, what must be equal, interruption, wrong input."""
import json
import os
import pty
import re
import signal
import subprocess
import time
import unittest
import xml.etree.ElementTree

import support
from support import ZEROPOOL, environment, run

TWO = ("-a", "glibc,zeropool")
FAST = ("compare", "-q", "-n", "2", "-w", "0", *TWO)


class Output(support.Case):
    def test_table_and_files(self):
        here = self.folder()
        files = {kind: os.path.join(here, kind) for kind in ("json", "csv", "markdown", "html")}
        result = run("compare", "-n", "6", *TWO, *(w for k, f in files.items() for w in (f"--{k}", f)), "--rss-every",
                     "5", "--", "sh", "-c", "sleep 0.03; echo \"<text>\"")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"(?m)^glibc +[\d.]+ ms +[\d.]+ m?s +[\d.]+ m?s to [\d.]+ m?s .* 1 +1 +1$")
        self.assertRegex(result.stdout, r"(?m)^zeropool +[\d.]+ ms .* \[\d\.\d\d, \d\.\d\d\] +\d\.\d\d +\d\.\d\d$")
        self.assertIn("zeropool against glibc: ", result.stdout)
        self.assertIn("mean tree RSS", result.stdout)
        self.assertIn("zeropool: next: zeropool ", result.stderr)
        with open(files["json"], encoding="utf-8") as file:
            data = json.load(file)
        self.assertEqual((data["schema"], data["rounds"], data["baseline"]), ("zeropool-compare-1", 6, "glibc"))
        self.assertEqual([len(v["runs"]) for v in data["variants"]], [6, 6])
        self.assertEqual(data["output"]["bytes"], 7)
        self.assertTrue(data["variants"][0]["memory"]["points"])
        with open(files["csv"], encoding="utf-8") as file:
            self.assertRegex(file.read(), r"^allocator,round,wall_s,user_s,.*\nglibc,1,0\.\d+,(.*\n){11}zeropool,6,.*\n$")
        with open(files["markdown"], encoding="utf-8") as file:
            self.assertIn("| allocator | wall |", file.read())
        with open(files["html"], encoding="utf-8") as file:
            page = file.read()
        self.assertIn("&lt;text&gt;", page)
        self.assertNotRegex(page, r"(src|href)=|<script|https?:")
        plots = re.findall(r"<svg.*?</svg>", page, re.S)
        self.assertEqual(len(plots), 7)  # a metric each, and memory over time
        for plot in plots:
            xml.etree.ElementTree.fromstring(plot)
        self.assertEqual(sorted(os.listdir(here)), sorted(files))

    def test_without_proc(self):
        result = support.without_proc(ZEROPOOL, *FAST, "--rss-every", "5", "--", "sh", "-c", "sleep 0.1; echo x")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("/proc is not mounted: peak RSS", result.stdout)
        self.assertIn("no memory over time", result.stdout)
        self.assertRegex(result.stdout, r"(?m)^zeropool +[\d.]+ m?s ")
        result = support.without_proc(ZEROPOOL, *FAST, "--timeout", "0.3", "--", "sh", "-c", "sleep 60; :")
        self.assertEqual((result.returncode, result.stdout), (125, ""), result.stderr)
        self.assertIn("longer than 0.3 s", result.stderr)

    def test_same_entry_twice(self):
        result = run("compare", "-q", "-n", "1", "-a", "glibc,glibc", "--", "true")
        self.assertRegex(result.stdout, r"(?m)^glibc-2 ")

    def test_labels_paths_and_chains(self):
        lib = support.library()
        result = run("compare", "-q", "-n", "1", "-a", f"{lib},mine={lib},zeropool+{lib}", "--ignore-output", "--",
                     "sh", "-c", 'echo "$LD_PRELOAD" >&2')
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"(?m)^mine ")
        self.assertIn("ratios to libzeropool-preload", result.stdout)

    def test_what_the_program_sees(self):
        path = os.path.join(self.folder(), "seen")
        run("compare", "-q", "-n", "1", "-w", "0", "-a", "glibc,glibc-retain,zeropool", "--", "sh", "-c",
            f'echo "$LD_PRELOAD,$GLIBC_TUNABLES,$MALLOC_PERTURB_" >>{path}',
            env=environment(LD_PRELOAD="libm.so.6", MALLOC_PERTURB_="7", GLIBC_TUNABLES="glibc.malloc.check=0"))
        with open(path, encoding="utf-8") as file:
            seen = sorted(file.read().splitlines())
        retain = ("glibc.malloc.check=0:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:"
                  "glibc.malloc.top_pad=67108864")
        self.assertEqual(seen, sorted(["libm.so.6,glibc.malloc.check=0,", f"libm.so.6,{retain},",
                                       f"{support.library()}:libm.so.6,glibc.malloc.check=0,"]))

    def test_input(self):
        path = self.write(os.path.join(self.folder(), "in"), "text")
        self.assertEqual(run(*FAST, "--input", path, "--", "grep", "-q", "text").returncode, 0)
        self.assertEqual(run(*FAST, "--", "grep", "-q", "text").returncode, 1)
        self.assert_fails(run(*FAST, "--input", self.folder(), "--", "true"), 125, "is a folder")
        self.assert_fails(run(*FAST, "--input", "/nowhere", "--", "true"), 125, "no such file")

    def test_progress_lines_and_bar(self):
        words = [ZEROPOOL, "compare", "-n", "3", *TWO, "--", "sleep", "0.3"]
        try:
            controller, terminal = pty.openpty()
        except OSError as error:
            self.skipTest(f"no pseudo-terminals here: {error}")
        process = subprocess.Popen(words, env=environment(TERM="xterm"), stdin=subprocess.DEVNULL, stderr=terminal,
                                   stdout=subprocess.PIPE)
        os.close(terminal)
        shown = b""
        while True:
            try:
                part = os.read(controller, 4096)
            except OSError:
                break
            if not part:
                break
            shown += part
        os.close(controller)
        process.communicate()
        self.assertIn(b"[#", shown)
        self.assertIn(b" left", shown)
        # The bar is wiped before other lines come.
        self.assertRegex(shown, rb"\r\x1b\[Kzeropool: next: ")


class Around(support.Case):
    """--prepare, --cleanup and --fail-above."""

    def test_before_and_after_each_run(self):
        here = self.folder()
        log = f"{here}/log"
        add = f'sh -c \'[ -z "$LD_PRELOAD" ] || exit 9; echo "$0" >>{log}\''
        result = run(*FAST, "-w", "1", "--prepare", f"{add} before", "--cleanup", f"{add} after", "--", "sh", "-c", f"echo run >>{log}")
        self.assertEqual(result.returncode, 0, result.stderr)
        with open(log, encoding="utf-8") as file:
            self.assertEqual(file.read().split(), ["before", "run", "after"] * 6)
        self.assertEqual(run(*FAST, "--prepare", f"touch {log}2", "--cleanup", f"rm {log}2", "--", "test", "-f", f"{log}2").returncode, 0)

    def test_they_are_not_measured(self):
        result = run(*FAST, "--prepare", "sleep 0.3", "--cleanup", "sleep 0.3", "--json", f"{self.folder()}/j", "--", "true")
        self.assertNotRegex(result.stdout, r"(?m)^glibc +0\.[3-9]\d\d s")

    def test_cleanup_runs_after_a_failure(self):
        mark = f"{self.folder()}/mark"
        self.assert_fails(run(*FAST, "--cleanup", f"touch {mark}", "--", "sh", "-c", "exit 3"), 3, "exited with status 3")
        self.assertTrue(os.path.exists(mark))

    def test_they_fail(self):
        self.assert_fails(run(*FAST, "--prepare", "sh -c 'echo trouble >&2; exit 4'", "--", "true"), 125, "--prepare exited with status 4", "trouble")
        self.assert_fails(run(*FAST, "--cleanup", "false", "--", "true"), 125, "--cleanup exited with status 1")
        self.assert_fails(run(*FAST, "--timeout", "0.3", "--prepare", "sleep 60", "--", "true"), 125, "--prepare took longer than 0.3 s")
        self.assert_fails(run(*FAST, "--prepare", "no-such-program", "--", "true"), 127, "not found")
        self.assert_fails(run(*FAST, "--prepare", "'", "--", "true"), 2, "a command")

    def test_fail_above(self):
        slow = ("compare", "-q", "-w", "0", "-n", "8", *TWO, "--", "sh", "-c", '[ -z "$LD_PRELOAD" ] || sleep 0.4; sleep 0.2')
        result = run(*slow[:4], "--fail-above", "20", *slow[4:])
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertRegex(result.stderr, r"zeropool takes [\d.]+ % more time than glibc, --fail-above is 20 %")
        self.assertEqual(run(*slow[:4], "--fail-above", "100000", *slow[4:]).returncode, 0)
        self.assert_fails(run(*FAST, "--fail-above", "5", "--", "true"), 2, "--fail-above needs at least 6 rounds")
        result = run("compare", "-q", "-w", "0", "--max-time", "1", "--fail-above", "5", *TWO, "--", "sleep", "0.3")
        self.assertEqual(result.returncode, 125)
        self.assertIn("too few for a verdict", result.stderr)


class Equality(support.Case):
    def test_output_differs(self):
        result = run(*FAST, "--", "sh", "-c", 'echo "preload $LD_PRELOAD"')
        self.assertEqual(result.returncode, 1)
        self.assertIn("output differs: ", result.stderr)
        self.assertIn("under zeropool", result.stderr)

    def test_status_differs(self):
        result = run(*FAST, "--", "sh", "-c", 'test -z "$LD_PRELOAD" || { echo sorry >&2; kill -SEGV $$; }')
        self.assertEqual(result.returncode, 1)
        self.assertIn("exit status differs: under zeropool the command was ended by SIGSEGV", result.stderr)
        self.assertIn("its last words: sorry", result.stderr)

    def test_changing_output_is_not_blamed_on_the_allocator(self):
        result = run(*FAST, "--", "date", "+%N")
        self.assertEqual(result.returncode, 1)
        self.assertIn("changes from run to run, also under glibc", result.stderr)

    def test_ignore_output(self):
        self.assertEqual(run(*FAST, "--ignore-output", "--", "date", "+%N").returncode, 0)
        self.assertEqual(run(*FAST, "--ignore-output", "--", "sh", "-c", 'exit "${#LD_PRELOAD}"').returncode, 0)

    def test_failing_command(self):
        self.assert_fails(run(*FAST, "--", "sh", "-c", "echo why >&2; exit 9"), 9, "exited with status 9", "why")
        self.assert_fails(run(*FAST, "--", "sh", "-c", "kill -KILL $$"), 137, "was ended by SIGKILL")


class Failures(support.Case):
    def test_usage(self):
        for words, texts in (
                (("compare",), ["no command given", "compare --help"]),
                (("compare", "--"), ["no command given"]),
                (("compare", "--jsn", "f", "--", "true"), ["unknown option '--jsn'", "'--json'"]),
                (("compare", "-z", "--", "true"), ["unknown option '-z'"]),
                (("compare", "-n"), ["-n wants a value"]),
                (("compare", "-n", "--", "true"), ["-n wants a value"]),
                (("compare", "-n", "0", "--", "true"), ["whole number from 1 to 10000", "'0'"]),
                (("compare", "-nx", "--", "true"), ["'x'"]),
                (("compare", "-w", "-1", "--", "true"), ["'-1'"]),
                (("compare", "--max-time=nan", "--", "true"), ["'nan'"]),
                (("compare", "--quiet=yes", "--", "true"), ["takes no value"]),
                (("compare", "-a", "glibc,jemaloc", "--", "true"), ["unknown allocator 'jemaloc'", "'jemalloc'"]),
                (("compare", "-a", ",", "--", "true"), ["a list such as"]),
                (("compare", "-a", "x=", "--", "true"), ["without a name"]),
                (("compare", "-a", "glibc", "--", "true"), ["fewer than two"]),
                (("compare", "--json", "", "--", "true"), ["a file name"])):
            with self.subTest(words=words):
                self.assert_fails(run(*words), 2, *texts)

    def test_own_failures(self):
        here = self.folder()
        junk = self.write(os.path.join(here, "junk.so"), "no library")
        for words, texts in (
                (("-a", "glibc,/nowhere/x.so"), ["/nowhere/x.so: no such file"]),
                (("-a", f"glibc,{junk}"), ["not a shared library"]),
                (("--json", "/nowhere/f"), ["cannot write /nowhere/f", "no folder"]),
                (("--html", here), ["is a folder"]),
                (("--input", "/nowhere/f"), ["--input /nowhere/f"])):
            with self.subTest(words=words):
                self.assert_fails(run("compare", *words, "--", "true"), 125, *texts)
        self.assert_fails(run("compare", *TWO, "--", "true", env=environment(ZEROPOOL_LIB="/nowhere")), 125,
                          "ZEROPOOL_LIB=/nowhere")

    def test_unreadable_library_for_loader(self):
        with open(support.library(), "rb") as file:
            data = bytearray(file.read())
        data[18] = 183  # says it is for another machine
        path = os.path.join(self.folder(), "arm.so")
        with open(path, "wb") as file:
            file.write(data)
        self.assert_fails(run("compare", "-a", f"glibc,{path}", "--", "true"), 125, "64-bit ARM")

    def test_library_that_kills(self):
        bad = support.compile_c("killer.so", "#include <stdlib.h>\n"
                                "__attribute__((constructor)) static void f(void) { _Exit(3); }", "-shared", "-fPIC")
        self.assert_fails(run("compare", "-a", f"glibc,{bad}", "--", "true"), 125, "even /bin/true fails under it")

    def test_command_missing(self):
        self.assert_fails(run(*FAST, "--", "no-such-program"), 127, "not found in PATH")
        self.assert_fails(run(*FAST, "--", "/nowhere/x"), 127, "not found")
        self.assert_fails(run(*FAST, "--", self.folder()), 126, "is a directory")
        self.assert_fails(run(*FAST, "--", self.write(os.path.join(self.folder(), "x"), "", 0o644)), 126,
                          "not executable")

    def test_static_program_is_reported(self):
        result = run(*FAST, "--", support.static_program())
        self.assertEqual(result.returncode, 0)
        self.assertIn("is statically linked", result.stderr)

    def test_timeout(self):
        self.assert_fails(run(*FAST, "--timeout", "0.3", "--", "sleep", "60"), 125, "longer than 0.3 s")

    def test_closed_standard_output(self):
        result = subprocess.run(["sh", "-c", '"$@" | true', "sh", ZEROPOOL, *FAST, "--", "true"], env=environment(),
                                capture_output=True, text=True, check=False)
        self.assertNotIn("Traceback", result.stderr)


class Interruption(support.Case):
    def start(self, *words, **env):
        process = subprocess.Popen([ZEROPOOL, *words], env=environment(**env), stdin=subprocess.DEVNULL, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.kill)
        return process

    def no_process(self, mark):
        # Only the name of the shell's argument tells our sleepers from others'.
        for _ in range(50):
            found = subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True, check=False).stdout.split()
            if not found:
                return True
            time.sleep(0.1)
        return False

    def test_reports_what_it_has(self):
        process = self.start("compare", "-q", "-n", "1000", *TWO, "--", "sleep", "0.05")
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 130)
        self.assertRegex(out, r"(?m)^zeropool .*\[")
        self.assertRegex(err, r"interrupted; the table shows \d+ complete rounds")

    def test_before_the_first_round(self):
        mark = f"first-round-{os.getpid()}"
        process = self.start("compare", "-q", *TWO, "--", "sh", "-c", "sleep 60; sleep 60", mark)
        time.sleep(1)
        process.terminate()
        out, err = process.communicate(timeout=20)
        self.assertEqual((process.returncode, out), (143, ""))
        self.assertIn("nothing to report", err)
        self.assertTrue(self.no_process(mark))

    def test_nothing_left_behind(self):
        mark = f"left-behind-{os.getpid()}"
        result = run(*FAST, "--", "sh", "-c", f"setsid sh -c 'sleep 60; : {mark}' & sh -c 'sleep 60; : {mark}' & true")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"the command left \d+ process(es)? behind")
        self.assertTrue(self.no_process(mark))

    def test_no_files_even_when_killed(self):
        here = self.folder()
        process = self.start("compare", "-q", *TWO, "--", "sleep", "0.5", TMPDIR=here)
        time.sleep(1)
        process.kill()
        process.communicate()
        self.assertEqual(os.listdir(here), [])


if __name__ == "__main__":
    unittest.main()
