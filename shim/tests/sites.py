#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What ZEROPOOL_PROFILE has a program write: all its large calls, where they come from, what becomes of the blocks; and what it refuses.

usage: sites.py LIBRARY PROGRAM
"""
import glob
import os
import subprocess
import sys
import tempfile
import unittest

LIBRARY = PROGRAM = ""
KIB, MIB = 1 << 10, 1 << 20
LARGE = 100 * KIB


class Profile:
    """One file, by the functions of the program."""

    def __init__(self, path):
        with open(path, encoding="ascii") as file:
            self.lines = file.read().split("\n")
        assert self.lines[0] == "zeropool-sites-1" and self.lines[-1] == "" and self.lines[-2].startswith("end "), self.lines[-2:]
        self.numbers = {words[0]: int(words[1]) for words in map(str.split, self.lines) if len(words) == 2 and words[1].isdigit()}
        self.modules = {words[1]: words[4] for words in map(str.split, self.lines) if words[:1] == ["module"]}
        columns = next(line for line in self.lines if line.startswith("columns ")).split()[1:]
        self.stacks = []
        for words in map(str.split, self.lines):
            if words[:1] == ["stack"]:
                values = dict(zip(columns, map(int, words[1:])))
                self.stacks.append((values, words[1 + len(columns):]))
            if words[:1] == ["lost"]:
                self.lost = dict(zip(columns, map(int, words[1:])))

    def sum(self, column):
        return sum(values[column] for values, _ in self.stacks) + self.lost[column]

    def of(self, function):
        """The sums of the stacks in whose innermost frame of the program that function is."""
        found = {}
        for values, frames in self.stacks:
            own = [f for f in frames if self.modules.get(f.split("+")[0]) == PROGRAM]
            if own and name_at(int(own[0].split("+")[1], 16)) == function:
                found = {key: found.get(key, 0) + value for key, value in values.items()}
        return found


def name_at(address, functions=[]):
    if not functions:
        for line in subprocess.run(["nm", "-S", "--defined-only", PROGRAM], capture_output=True, text=True, check=True).stdout.splitlines():
            words = line.split()
            if len(words) == 4 and words[2] in "tT":
                functions.append((int(words[0], 16), int(words[1], 16), words[3]))
    return next((name for start, size, name in functions if start <= address < start + size), "?")


class Sites(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = holder.name
        self.file = os.path.join(self.folder, "p")

    def run_case(self, case, status=0, said="", file=None, **settings):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ZEROPOOL_", "LD_PRELOAD"))}
        environment |= {"LD_PRELOAD": LIBRARY, "ZEROPOOL_PROFILE": file or self.file} | settings
        result = subprocess.run([PROGRAM, case], env=environment, capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual((result.returncode, result.stderr), (status, said))
        return result.stdout

    def profiles(self):
        return [Profile(path) for path in sorted(glob.glob(self.file + ".*"))]

    def one(self, case, **settings):
        self.run_case(case, **settings)
        profile, = self.profiles()
        return profile

    def check_family(self, profile):
        names = ["malloc", "calloc", "realloc", "reallocarray", "memalign", "aligned_alloc", "valloc", "pvalloc"]
        for name in names:
            found = profile.of("from_" + name)
            more = name == "malloc"
            self.assertEqual((found["calls"], found["bytes"]), (2 + more, (2 + more) * LARGE), name)
            self.assertEqual((found["live"], found["freed"], found["foreign"]), (LARGE, 1 + more, 0), name)
        self.assertEqual(profile.sum("calls"), 19)
        self.assertEqual(profile.sum("live"), 9 * LARGE)

    def test_family(self):
        profile = self.one("family")
        self.check_family(profile)
        self.assertEqual(profile.numbers["has_pool"], 1)
        self.assertEqual(os.stat(glob.glob(self.file + ".*")[0]).st_mode & 0o777, 0o600)

    def test_without_the_pool(self):
        profile = self.one("family", ZEROPOOL_ENABLED="off")
        self.check_family(profile)
        self.assertEqual(profile.numbers["has_pool"], 0)

    def test_threshold(self):
        self.assertEqual(self.one("family", ZEROPOOL_THRESHOLD="64").sum("calls"), 19 + 9)

    def test_fates(self):
        profile = self.one("fates")
        lives, passed, half, stays = (profile.of(name) for name in ("lives", "passed_on", "half_touched", "stays"))
        self.assertEqual((lives["calls"], lives["freed"], lives["foreign"]), (4, 4, 0))
        self.assertGreaterEqual(lives["life_ns"], 4 * 20e6)
        self.assertLess(half["life_ns"] / half["freed"], 20e6)
        self.assertEqual((passed["freed"], passed["foreign"]), (4, 4))
        self.assertEqual((stays["freed"], stays["live"], stays["looked"]), (0, 3 * MIB, 3 * MIB // 4096))
        self.assertEqual(lives["touched"], 0)
        # Half of the pages, by a sample; warm blocks do not fault.
        self.assertGreater(half["looked"], 1000 * 256)
        self.assertAlmostEqual(half["touched"] / half["looked"], 0.5, delta=0.01)
        self.assertLess(half["faulted"] / half["looked"], 0.1)
        self.assertEqual(half["mapped"], 2000 * MIB if profile.numbers["has_pool"] else half["mapped"])

    def test_glibc_threshold(self):
        """It rises to the size of what is freed."""
        profile = self.one("peak")
        self.assertEqual(profile.of("peak_b")["mapped"], 3 * 3 * MIB)  # the fourth finds a threshold of 4 MiB

    def test_peak(self):
        profile = self.one("peak")
        self.assertEqual(profile.numbers["peak_bytes"], 12 * MIB)
        self.assertEqual(profile.of("peak_a")["peak"], 12 * MIB)
        self.assertEqual(profile.of("peak_b")["peak"], 0)
        self.assertEqual((profile.of("peak_a")["live"], profile.of("peak_b")["live"]), (4 * MIB, 3 * MIB))

    def test_threads(self):
        profile = self.one("stress")
        self.assertEqual(profile.sum("calls"), 16 * 62500)
        self.assertEqual(profile.sum("freed"), 16 * 62500)
        self.assertEqual(profile.sum("live"), 0)
        self.assertEqual((profile.lost["calls"], profile.numbers["not_followed"]), (0, 0))
        self.assertGreater(profile.sum("foreign"), 16 * 62500 * 0.02)

    def test_what_finds_no_room_is_counted(self):
        profile = self.one("many")
        self.assertEqual(profile.sum("calls"), 1 << 15)
        self.assertGreater(profile.lost["calls"], 1 << 12)
        self.assertGreater(len(profile.stacks), 1 << 13)
        self.assertEqual((profile.sum("bytes"), profile.sum("live")), (LARGE << 15, 0))

    def test_blocks_without_a_place_are_counted(self):
        profile = self.one("crowd", ZEROPOOL_THRESHOLD="64", ZEROPOOL_ENABLED="off")
        self.assertGreaterEqual(profile.sum("calls"), 300000)
        self.assertGreaterEqual(profile.numbers["not_followed"], 300000 - (1 << 18))
        self.assertEqual(profile.of("crowd")["freed"] + profile.numbers["not_followed"], 300000)
        self.assertEqual(profile.of("crowd")["live"], 0)

    def test_sampled(self):
        """Of one call in twenty, the sums of all, within four standard deviations (0.4 %)."""
        profile = self.one("stress", ZEROPOOL_PROFILE_RATE=str(20 * 62 * KIB))
        n_bytes = 16 * 62500 * 62 * KIB
        self.assertAlmostEqual(profile.sum("bytes") / n_bytes, 1, delta=0.02)
        self.assertAlmostEqual(profile.sum("calls") / (16 * 62500), 1, delta=0.02)

    def test_handlers(self):
        profile = self.one("handlers")
        self.assertGreaterEqual(profile.sum("calls"), 20100)
        self.assertEqual(profile.sum("live"), 0)
        self.assertGreaterEqual(profile.of("handler")["calls"], 100)

    def test_children(self):
        self.assertEqual(self.run_case("children"), "one\n")
        found = {}
        for profile in self.profiles():
            for name in ("malloc", "calloc", "memalign", "valloc", "pvalloc"):
                if profile.of("from_" + name):
                    found.setdefault(name, []).append(profile)
        self.assertEqual(len(self.profiles()), 3)
        self.assertEqual({name: len(each) for name, each in found.items()}, {"malloc": 1, "calloc": 1, "memalign": 1, "pvalloc": 1})
        self.assertEqual(found["memalign"][0].sum("calls"), 1)

    def test_program_is_as_without(self):
        self.assertEqual(self.run_case("seven", status=7), "seven\n")

    def test_name(self):
        self.run_case("seven", status=7, file=os.path.join(self.folder, "a-%p-b"))
        names = os.listdir(self.folder)
        self.assertRegex(names[0], r"^a-\d+-b$")

    def test_refused(self):
        target = os.path.join(self.folder, "target")
        with open(target, "w", encoding="ascii") as file:
            file.write("kept")
        for prepare, why in ((lambda name: os.symlink(target, name), "symbolic"), (lambda name: os.link(target, name), "more than one name"),
                             (os.mkfifo, ""), (os.mkdir, "directory")):
            name = self.file + "-there"
            prepare(name)
            # The name is known before only without the number: exec keeps it.
            script = 'ln "$1" "$1.$$" 2>/dev/null || mv "$1" "$1.$$"; LD_PRELOAD=$2 ZEROPOOL_PROFILE=$1 exec "$3" seven'
            result = subprocess.run(["sh", "-c", script, "sh", name, LIBRARY, PROGRAM], capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual((result.returncode, result.stdout), (7, "seven\n"))
            self.assertRegex(result.stderr, r"^zeropool: cannot write the profile to [^\n]*\n$", why)
            for path in glob.glob(name + "*"):
                (os.rmdir if os.path.isdir(path) and not os.path.islink(path) else os.unlink)(path)
        with open(target, encoding="ascii") as file:
            self.assertEqual(file.read(), "kept")

    def test_errors(self):
        file = os.path.join(self.folder, "none", "p")
        self.run_case("seven", status=7, file=file, said=f"zeropool: cannot write the profile to {file}: No such file or directory\n")
        self.run_case("seven", status=7, file="x" * 4100, said="zeropool: ZEROPOOL_PROFILE: no profile is written: the file name is too long\n")
        self.run_case("seven", status=7, ZEROPOOL_HARDENED="1",
                      said="zeropool: ZEROPOOL_PROFILE: no profile is written: the hardened mode is on\n")
        self.assertEqual(self.profiles(), [])

    def test_code_that_must_not_be_written(self):
        """PR_SET_MDWE: no memory of this process, nor of what it executes, becomes executable."""
        script = ("import ctypes, os, sys\nif ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)\n"
                  "os.execve(sys.argv[1], ['sites', 'seven'], {'LD_PRELOAD': sys.argv[2], 'ZEROPOOL_PROFILE': sys.argv[3]})")
        result = subprocess.run([sys.executable, "-c", script, PROGRAM, LIBRARY, self.file], capture_output=True, text=True, timeout=60, check=False)
        if result.returncode == 77:
            self.skipTest("a kernel before 6.3")
        said = "zeropool: ZEROPOOL_PROFILE: no profile is written: the system does not let the library write its own code\n"
        self.assertEqual((result.returncode, result.stdout, result.stderr), (7, "seven\n", said))

    def test_under_a_filter(self):
        """Stacks all the same, but nothing is known of pages; and no call that the filter could punish."""
        profile = self.one("filtered")
        self.assertEqual(profile.of("passed_on")["calls"], 1)
        self.assertEqual(profile.sum("looked"), 0)

    def test_no_room_on_the_disk(self):
        script = 'ulimit -f 1; LD_PRELOAD=$1 ZEROPOOL_PROFILE=$2 exec "$3" many'
        result = subprocess.run(["sh", "-c", script, "sh", LIBRARY, self.file, PROGRAM], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((result.returncode, result.stderr), (0, f"zeropool: cannot write the profile to {self.file}: File too large\n"))
        with self.assertRaises(AssertionError):
            self.profiles()


if __name__ == "__main__":
    LIBRARY, PROGRAM = map(os.path.realpath, sys.argv[1:3])
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
