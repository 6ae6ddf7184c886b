# SPDX-License-Identifier: MIT
"""The suite must be able to fail: run it with libraries that do harm and see each harm reported."""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
REAL = os.path.dirname(HERE)
sys.path.insert(0, REAL)
sys.dont_write_bytecode = True

from suite import case as casefile  # noqa: E402  (the path above must be set first)


class Suite(unittest.TestCase):
    """One compiled library per way to do harm."""

    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory(prefix="zpreal-test-")
        cls.folder = cls.holder.name
        cls.libraries = {}
        source = os.path.join(HERE, "libs")
        for name in os.listdir(source):
            stem = name.partition(".")[0]
            cls.libraries[stem] = os.path.join(cls.folder, f"lib{stem}.so")
            subprocess.run([os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o",
                            cls.libraries[stem], os.path.join(source, name), "-ldl"], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    def suite(self, *arguments):
        """Run the suite; (status, stdout, stderr)."""
        done = subprocess.run([sys.executable, os.path.join(REAL, "run-suite"), *arguments], capture_output=True,
                              text=True, timeout=120, check=False)
        return done.returncode, done.stdout, done.stderr

    def harm(self, library, cases, *more):
        """Run test cases with a library; (status, stdout)."""
        status, out, err = self.suite("--cases", os.path.join(HERE, "cases"), "--lib", self.libraries[library],
                                      "--only", cases, *more)
        self.assertEqual(err, "")
        return status, out

    def test_harmless_library_passes(self):
        """Nothing is reported where nothing is wrong, and the report says what was measured."""
        report = os.path.join(self.folder, "report.json")
        status, out = self.harm("nothing", "large,pipe,file", "--json", report)
        self.assertEqual(status, 0, out)
        self.assertEqual(out.splitlines()[-1], "3 passed, 0 failed, 0 skipped")
        with open(report, encoding="utf-8") as stream:
            document = json.load(stream)
        self.assertEqual((document["passed"], document["failed"], document["skipped"]), (3, 0, 0))
        self.assertEqual([case["verdict"] for case in document["cases"]], ["pass"] * 3)
        self.assertGreater(document["cases"][0]["with"]["minor_faults"], 0)

    def test_real_case_passes(self):
        """A case of the suite itself with a harmless library."""
        status, out, _ = self.suite("--lib", self.libraries["nothing"], "--only", "openssl,python-threads")
        self.assertEqual(status, 0, out)

    def test_failing_malloc(self):
        """Large allocations fail."""
        status, out = self.harm("fail_large", "large")
        self.assertEqual(status, 1)
        self.assertIn("MemoryError", out)
        self.assertIn("exit status 1, without the library exit status 0", out)
        self.assertEqual(out.splitlines()[-1], "0 passed, 1 failed, 0 skipped")

    def test_failing_malloc_in_a_real_case(self):
        """The same in a case of the suite itself."""
        status, out, _ = self.suite("--lib", self.libraries["fail_large"], "--only", "python-threads")
        self.assertEqual(status, 1, out)

    def test_changed_output(self):
        """A byte changes in what a program prints, and in the file it writes."""
        status, out = self.harm("flip_output", "pipe,file")
        self.assertEqual(status, 1)
        self.assertIn("stdout differs", out)
        self.assertRegex(out, r"out: file 0644 130000 bytes sha256 \w+ \| file 0644 130000 bytes")
        self.assertEqual(out.splitlines()[-1], "0 passed, 2 failed, 0 skipped")

    def test_hang_is_killed(self):
        """A hang is a failure, and neither the process nor its detached child survives."""
        status, out = self.harm("hang", "pipe")
        self.assertEqual(status, 1)
        self.assertIn("timed out after 3 s, without the library done in", out)
        self.assertEqual(self.survivors("libhang.so"), [])

    def test_crash_after_output(self):
        """In a pipeline the shell drops the status; the suite does not."""
        status, out = self.harm("crash_at_exit", "pipe")
        self.assertEqual(status, 1)
        self.assertIn("programs end with another status", out)
        self.assertIn("cat: status 139", out)

    def test_process_left_behind(self):
        """A process that outlives the case is reported and ended."""
        status, out = self.harm("leave_child", "pipe")
        self.assertEqual(status, 1)
        self.assertIn("left running: cat", out)
        self.assertEqual(self.survivors("libleave_child.so"), [])

    def survivors(self, library):
        """Processes that have the library mapped."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/maps", encoding="utf-8", errors="replace") as stream:
                        if library in stream.read():
                            found.append(entry)
                except OSError:
                    pass
        return found

    def test_skips_say_why(self):
        """A missing package by name; a reason found while running."""
        status, out = self.harm("nothing", "absent,elsewhere")
        self.assertEqual(status, 0)
        self.assertIn("Debian package no-such-package is missing", out)
        self.assertIn("not on this machine", out)
        self.assertEqual(out.splitlines()[-1], "0 passed, 0 failed, 2 skipped")

    def test_broken_case_cannot_pass(self):
        """A case that fails by itself proves nothing and must not look like success."""
        status, out = self.harm("nothing", "broken")
        self.assertEqual(status, 1)
        self.assertIn("cannot judge, without the library already: exit status 3", out)
        self.assertIn("broken for good", out)

    def test_settings_reach_the_second_run_only(self):
        """--threshold is for the run with the library."""
        status, out = self.harm("nothing", "setting", "--threshold", "4096")
        self.assertEqual(status, 1)
        self.assertIn("-none", out)
        self.assertIn("+4096", out)

    def test_next_is_in_both_runs(self):
        """Behind the library comes the next one, and without the library it stays."""
        status, out = self.harm("nothing", "large", "--next", self.libraries["fail_large"])
        self.assertEqual(status, 0)
        self.assertIn("libfail_large.so alone breaks it: exit status 1", out)
        self.assertEqual(self.harm("nothing", "large,pipe", "--next", self.libraries["nothing"])[0], 0)

    def test_usage_errors(self):
        """Exit status 2 and one line that names the mistake."""
        text = os.path.join(self.folder, "text.so")
        with open(text, "w", encoding="utf-8") as stream:
            stream.write("no library")
        good = self.libraries["nothing"]
        for arguments, message in (
                (["--no-such-option"], "--no-such-option"),
                (["--lib", good, "--only", "nonsense"], "no such case: nonsense"),
                (["--lib", good, "--only", ","], "no such case"),
                (["--lib", good, "--timeout", "soon"], "--timeout"),
                (["--lib", "/no/such/lib.so", "--only", "perl"], "no such file: /no/such/lib.so"),
                (["--lib", text, "--only", "perl"], "cannot preload")):
            status, out, err = self.suite(*arguments)
            self.assertEqual((status, out), (2, ""), arguments)
            self.assertIn(message, err)
            self.assertTrue(err.startswith("run-suite: "), err)

    def test_list_and_help(self):
        """--list names every case without running any; --help explains."""
        status, out, _ = self.suite("--list")
        self.assertEqual(status, 0)
        names = [line.split()[0] for line in out.splitlines()]
        self.assertEqual(names, sorted(casefile.load_all(os.path.join(REAL, "cases"))))
        self.assertIn("[--long]", out)
        self.assertEqual(self.suite("--help")[0], 0)


class Tables(unittest.TestCase):
    """What other tools read."""

    def setUp(self):
        with open(os.path.join(REAL, "packages"), encoding="utf-8") as stream:
            self.packages = stream.read().split("\n")
        with open(os.path.join(REAL, "bench", "list.json"), encoding="utf-8") as stream:
            self.programs = json.load(stream)["programs"]

    def test_packages_cover_all_needs(self):
        """Whatever a case or a benchmark program needs, the package list installs."""
        self.assertEqual(self.packages.pop(), "")
        self.assertEqual(self.packages, sorted(set(self.packages)))
        for package in self.packages:
            self.assertRegex(package, r"^[a-z0-9][a-z0-9+.-]+$")
        for case in casefile.load_all(os.path.join(REAL, "cases")).values():
            for _, package in case.needs:
                self.assertIn(package, self.packages, case.name)
        for program in self.programs:
            for package in program["packages"]:
                self.assertIn(package, self.packages, program["name"])

    def test_cases_say_what_they_do(self):
        """A summary for --list, and a licence line."""
        for case in casefile.load_all(os.path.join(REAL, "cases")).values():
            self.assertTrue(case.summary.endswith("."), case.name)
            with open(case.path, encoding="utf-8") as stream:
                self.assertIn("SPDX-License-Identifier: MIT", stream.read(200))

    def test_benchmark_table(self):
        """Each entry names files that exist and placeholders that are known."""
        names = [program["name"] for program in self.programs]
        self.assertEqual(len(names), len(set(names)))
        for program in self.programs:
            words = program["argv"] + program.get("prepare", [])
            for word in words:
                self.assertLessEqual(set(re.findall(r"\{(\w+)\}", word)), {"bench", "dir", "scale"})
            script = next(word for word in words if word.startswith("{bench}/"))
            self.assertTrue(os.path.isfile(script.format(bench=os.path.join(REAL, "bench"))), script)
            self.assertTrue(program["needs"])

    def test_benchmark_programs_are_deterministic(self):
        """Two short runs print the same line, which begins with the program's name."""
        measured = subprocess.run([sys.executable, os.path.join(REAL, "bench", "measure"), "-n", "1", "--scale", "0.1"],
                                  capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(measured.returncode, 0, measured.stdout + measured.stderr)
        self.assertNotIn("differ", measured.stdout)


if __name__ == "__main__":
    unittest.main()
