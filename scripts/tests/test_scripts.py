# SPDX-License-Identifier: MIT
"""scripts/quickstart, scripts/test and their shell library: wrong input, no apt, no rights, no network, counts.

A PATH of links and stand-ins plays the machine, so nothing here installs or builds anything.
"""
import os
import shutil
import subprocess
import unittest

import support

QUICKSTART = os.path.join(support.SCRIPTS, "quickstart")
TEST = os.path.join(support.SCRIPTS, "test")
BASICS = ("sh", "env", "dirname", "readlink", "cat", "sed", "tail", "head", "grep", "date", "sleep", "rm", "mkdir", "id",
          "uname", "tr", "awk", "mktemp", "true")


class Machine(support.Case):
    def path(self, **stand_ins):
        """A PATH with the basic tools and these stand-ins: name=script."""
        here = self.folder()
        for name in BASICS:
            os.symlink(shutil.which(name), os.path.join(here, name))
        for name, text in stand_ins.items():
            path = os.path.join(here, name.replace("_", "-"))
            if os.path.lexists(path):
                os.unlink(path)
            self.write(path, f"#!/bin/sh\n{text}\n")
        return here

    def script(self, program, *words, path, **env):
        return subprocess.run([program, *words], env={"PATH": path, "TMPDIR": self.folder(), **env}, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)

    def assert_one_line(self, result, status, *texts):
        self.assertEqual(result.returncode, status, result.stderr)
        last = result.stderr.strip().splitlines()[-1]
        for text in texts:
            self.assertIn(text, last)


class Packages(Machine):
    def test_no_apt(self):
        for program in (QUICKSTART, TEST):
            self.assert_one_line(self.script(program, path=self.path()), 1, "no apt-get here", "meson")

    def test_no_rights_and_no_sudo(self):
        path = self.path(apt_get="exit 99", dpkg_query="exit 1", id="echo 1000")
        self.assert_one_line(self.script(QUICKSTART, path=path), 1, "not root, and no sudo",
                             "apt-get update && apt-get install -y", "ninja-build")

    def test_sudo_refuses(self):
        path = self.path(apt_get="exit 99", dpkg_query="exit 1", id="echo 1000", sudo="exit 1")
        self.assert_one_line(self.script(QUICKSTART, path=path), 1, "sudo refuses", "apt-get install -y")

    def test_no_network(self):
        path = self.path(dpkg_query="exit 1", id="echo 0",
                         apt_get="echo 'E: Failed to fetch x  Could not resolve the name'; exit 100")
        result = self.script(QUICKSTART, path=path)
        self.assert_one_line(result, 1, "no network", "whole log: ", "by hand: apt-get update")
        self.assertIn("    | E: Failed to fetch", result.stderr)

    def test_other_failure_of_apt(self):
        path = self.path(dpkg_query="exit 1", id="echo 0", apt_get="echo 'E: disk full'; exit 100")
        self.assert_one_line(self.script(QUICKSTART, path=path), 1, "apt-get failed")

    def test_installs_only_what_is_missing_through_sudo(self):
        log = os.path.join(self.folder(), "asked")
        path = self.path(id="echo 1000", apt_get=f'echo "$DEBIAN_FRONTEND $*" >>{log}',
                         dpkg_query='case "$*" in *meson) exit 1;; *) printf "ii ";; esac',
                         sudo='[ "$1" = -n ] && shift; exec "$@"')
        text = f'me=x root={support.ROOT}; . {support.SCRIPTS}/lib/common.sh; . {support.SCRIPTS}/lib/packages.sh; ' \
               "ensure_packages gcc meson"
        result = self.script("/bin/sh", "-c", text, path=path)
        self.assertEqual(result.returncode, 0, result.stderr)
        with open(log, encoding="utf-8") as file:
            asked = file.read().splitlines()
        self.assertEqual(len(asked), 2)
        self.assertTrue(asked[0].startswith("noninteractive ") and asked[0].endswith(" update"), asked)
        self.assertTrue(asked[1].endswith(" install -y --no-install-recommends meson"), asked)

    def test_nothing_missing_asks_for_nothing(self):
        path = self.path(id="echo 1000", apt_get="exit 99", dpkg_query='printf "ii "')
        text = f'me=x root={support.ROOT}; . {support.SCRIPTS}/lib/common.sh; . {support.SCRIPTS}/lib/packages.sh; ' \
               "ensure_packages gcc meson"
        self.assertEqual(self.script("/bin/sh", "-c", text, path=path).returncode, 0)


class WrongInput(Machine):
    def test_options(self):
        path = os.environ["PATH"]
        for program, words, text in (
                (QUICKSTART, ("--nonsense",), "unknown option '--nonsense'"),
                (QUICKSTART, ("--seconds", "x"), "--seconds wants a whole number"),
                (QUICKSTART, ("--json",), "--json wants a value"),
                (TEST, ("--nonsense",), "unknown option '--nonsense'"),
                (TEST, ("--only",), "--only wants a list"),
                (TEST, ("--only", "nothing"), "no step 'nothing'"),
                (TEST, ("--quick", "--long"), "exclude each other")):
            with self.subTest(program=program, words=words):
                self.assert_one_line(self.script(program, *words, path=path), 2, text)

    def test_help(self):
        for program, word in ((QUICKSTART, "--help"), (TEST, "--help"), (TEST, "--list")):
            result = self.script(program, word, path=os.environ["PATH"])
            self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_other_machine(self):
        for program in (QUICKSTART, TEST):
            self.assert_one_line(self.script(program, path=self.path(uname="echo Linux aarch64")), 1,
                                 "x86-64 only", "aarch64")


class Building(Machine):
    def build(self, **stand_ins):
        root = self.folder()
        text = f'me=x root={root}; . {support.SCRIPTS}/lib/common.sh; . {support.SCRIPTS}/lib/build.sh; ' \
               "build_tree build -Da=b"
        return root, self.script("/bin/sh", "-c", text, path=self.path(**stand_ins))

    def test_failing_configuration_leaves_no_folder(self):
        root, result = self.build(meson='mkdir "$2"; echo ERROR: no compiler; exit 1')
        self.assert_one_line(result, 1, "meson setup failed", "meson setup build -Da=b")
        self.assertIn("| ERROR: no compiler", result.stderr)
        self.assertFalse(os.path.exists(f"{root}/build"))

    def test_failing_compilation_shows_the_error(self):
        _, result = self.build(meson='mkdir "$2"; : >"$2/build.ninja"',
                               ninja='echo "[1/2] cc"; echo "FAILED: a.o"; echo "a.c:1: error: x"; exit 1')
        self.assert_one_line(result, 1, "build failed", "ninja -C build")
        self.assertIn("a.c:1: error: x", result.stderr)


class Counting(Machine):
    """The summary of scripts/test, from steps that say what they want."""

    def steps(self, *commands):
        calls = "; ".join(f"step s{i} label sh -c '{command}'" for i, command in enumerate(commands))
        text = f'me=x root={support.ROOT}; . {support.SCRIPTS}/lib/common.sh; . {support.SCRIPTS}/lib/steps.sh; ' \
               f'start_steps {self.folder()}/logs; {calls}; skip_step last "not here"; summary'
        return self.script("/bin/sh", "-c", text, path=os.environ["PATH"])

    def test_sums_and_reasons(self):
        result = self.steps('echo "SKIP: a: no b"; echo "5 passed, 0 failed, 2 skipped"', "true",
                            'echo "1 passed, 0 failed"')
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertEqual(result.stdout.splitlines()[-1], "7 passed, 0 failed, 3 skipped")
        self.assertIn("  s0: a: no b\n", result.stdout)
        self.assertIn("  last: not here\n", result.stdout)

    def test_failures(self):
        for command, closing in (("exit 1", "0 passed, 1 failed, 1 skipped"),
                                 ('echo "4 passed, 2 failed, 0 skipped"; exit 1', "4 passed, 2 failed, 1 skipped"),
                                 ('echo "4 passed, 2 failed"', "4 passed, 2 failed, 1 skipped"),
                                 # Killed after its closing line: must not pass.
                                 ('echo "4 passed, 0 failed"; kill -9 $$', "4 passed, 1 failed, 1 skipped")):
            with self.subTest(command=command):
                result = self.steps(command)
                self.assertEqual(result.returncode, 1)
                self.assertEqual(result.stdout.splitlines()[-1], closing)


if __name__ == "__main__":
    unittest.main()
