# SPDX-License-Identifier: MIT
"""zeropool sites, run --profile and diff of profiles: the right line, sums that agree, every format, and what is refused."""
import json
import os
import shutil
import subprocess
import unittest

import support
from support import ROOT, run
from zeropool_tools import elf_names, sites_file, sites_lines, sites_rows

LIBRARY = os.path.join(ROOT, "build", "shim", "libzeropool-preload.so")
SOURCE = r"""
#include <cstdio>
#include <memory>
#include <string>
#include <vector>
struct Table {
    std::vector<double> rows;
    inline void grow(size_t n) {
        rows.resize(n); // line 9: inlined twice
    }
};
template <class T> static inline void fill(T &table, size_t n) { table.grow(n); }
__attribute__((noinline)) static void *my_xmalloc(size_t n) { return ::operator new(n); }
int main() {
    double sum = 0;
    for (int i = 0; i < 10; i++) {
        Table table;
        fill(table, 100000);
        std::string text(200000, 'x'); // line 19
        auto shared = std::make_shared<std::vector<char>>(300000, 'y'); // line 20
        void *raw = my_xmalloc(400000); // 21
        ((char *)raw)[5] = text[3];
        sum += table.rows[5] + text[7] + (*shared)[9] + ((char *)raw)[5];
        ::operator delete(raw);
    }
    printf("%d\n", sum > 0);
    return 3;
}
"""
PROFILE = """zeropool-sites-1
process 12 1 job\\040name
wall_ns 1000
least_bytes 32768
rate_bytes 0
has_pool 1
peak_bytes 8192
not_followed 0
module 3 1000 - /nowhere/job
columns calls bytes live peak freed foreign life_ns allocating_ns mapped looked touched faulted
stack 2 8192 0 4096 2 1 4000000 90 8192 2 1 1 3+10 3+20
stack 1 4096 4096 4096 0 0 0 50 0 0 0 0 7f00 ...
lost 1 512 0 0 0 0 0 0 0 0 0 0
end 2
"""


PYTHON = """import os
import threading
def make(n):
    return bytearray(n)
def größe(n):
    return [make(n)
            for _ in range(2)]
class Job:
    def run(self):
        block = (b'x' *
                 50000)
        return len(block) + len(größe(60000)[0])
def deep(n):
    return deep(n - 1) if n else len(make(70000))
def numbers():
    yield make(80000)
def in_thread():
    make(90000)
for _ in range(150):
    Job().run()
print(deep(100) > 0)
for block in numbers():
    del block
thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
child = os.fork()
if child == 0:
    make(111111)
    raise SystemExit
os.waitpid(child, 0)
exec("make(100000)")
"""


def is_python_3_11():
    return subprocess.run(["/usr/bin/python3", "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 11))"], check=False).returncode == 0


def real(**more):
    return support.environment(ZEROPOOL_LIB=LIBRARY, **more)


class Reader(support.Case):
    """Of files, without the library."""

    def setUp(self):
        self.here = self.folder()
        self.file = self.write(os.path.join(self.here, "p.12"), PROFILE, 0o644)

    def test_sums(self):
        profile = sites_file.parse(PROFILE)
        self.assertEqual(profile.commands, [("12", "job name")])
        total = profile.total
        self.assertEqual((total.calls, total.bytes, total.live, total.peak, total.foreign), (4, 12800, 4096, 8192, 1))
        self.assertEqual({cut for _, cut in profile.stacks}, {False, True})

    def test_model(self):
        sums = sites_file.Sums(bytes=40 * 4096, mapped=30 * 4096, looked=100, touched=50, faulted=10)
        self.assertEqual(sites_rows.faults_glibc(sums), 30 * 0.5 + 10 * 0.1)
        self.assertEqual(sites_rows.faults_pool(sums), 40 * 0.1)
        self.assertIsNone(sites_rows.faults_glibc(sites_file.Sums(bytes=1)))

    def test_shown(self):
        result = run("sites", self.file)
        self.assertEqual(result.returncode, 0, result.stderr)
        for words in ("job name: 4 calls of at least 32.0 KiB, 12.5 KiB from 2 lines", "[job+0x10]", "2.0 ms", "50 %", "1 call of 512 B lost",
                      "another file than then: /nowhere/job", "code that no file holds"):
            self.assertIn(words, result.stdout)
        self.assertIn("zeropool: next: zeropool sites --collapsed bytes", result.stderr)

    def test_several(self):
        """A folder, and a name without the number of the process."""
        self.write(os.path.join(self.here, "p.13"), PROFILE.replace("process 12", "process 13"), 0o644)
        self.write(os.path.join(self.here, "other"), "something else", 0o644)
        for words in ([self.here], [os.path.join(self.here, "p")], [self.file, os.path.join(self.here, "p.13")]):
            found = json.loads(run("sites", "--json", *words).stdout)
            self.assertEqual((found["calls"], found["peak_bytes"], [p["pid"] for p in found["processes"]]), (8, 16384, [12, 13]))

    def test_damaged(self):
        for change, why in ((lambda t: t[:len(t) // 2], "cut"), (lambda t: t[:-1], "cut"), (lambda t: t.replace("end 2", "end 3"), "lines are missing"),
                            (lambda t: t.replace("3+10", "4+10"), "a frame"), (lambda t: t.replace("2 8192 0", "2 -8192 0"), "a line of sums"),
                            (lambda t: t.replace("not_followed 0\n", ""), "lines are missing"), (lambda t: t.replace("-1\n", "-2\n"), "another version"),
                            (lambda t: t.replace("calls bytes", "bytes calls"), "the columns"), (lambda t: t.replace("lost", "lots"), "begins with 'lots'"),
                            (lambda t: t.replace("job", "\xe4"), "characters")):
            self.write(self.file, change(PROFILE), 0o644)
            with self.subTest(why=why):
                self.assert_fails(run("sites", self.file), 125, self.file, "a damaged profile", why)

    def test_wrong_use(self):
        empty = self.folder()
        for words, status, text in ((("sites",), 2, "no file or folder given"), (("sites", "--sort", "byts", "x"), 2, "did you mean 'bytes'"),
                                    (("sites", "--collapsed", "x", "y"), 2, "one of bytes, count, faults, peak"),
                                    (("sites", "--top", "-1", "x"), 2, "a whole number"), (("sites", "--frames", "99", "x"), 2, "from 0 to 64"),
                                    (("sites", "--json", "--collapsed", "peak", self.file), 2, "either --json or --collapsed"),
                                    (("sites", os.path.join(empty, "none")), 125, "No such file"), (("sites", empty), 125, "no profile"),
                                    (("sites", support.ZEROPOOL), 125, "no profile of allocation sites"),
                                    (("run", "--profile=", "true"), 2, "--profile= wants the name"), (("run", f"--profile={empty}", "true"), 125, "is a folder"),
                                    (("run", "--profile-rate", "2G", "true"), 2, "from 0 to 1G"), (("run", "--profile-rate", "x", "true"), 2, "number of bytes"),
                                    (("diff", self.file, ROOT), 125, "different commands"), (("diff", "--svg", "x", self.file, self.file), 2, "--svg does not fit")):
            with self.subTest(words=words):
                self.assert_fails(run(*words), status, text)

    def test_diff(self):
        other = self.write(os.path.join(self.here, "q"), PROFILE.replace("stack 2 8192", "stack 4 16384"), 0o644)
        result = run("diff", self.file, other)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"\[job\+0x10\] +8.0 KiB +16.0 KiB +2 +4 ")
        self.assertIn("bytes: 12.0 KiB in A, 20.0 KiB in B", result.stdout)
        self.assertEqual(run("diff", "--threshold", "50", self.file, other).returncode, 1)
        self.assertEqual(run("diff", "--threshold", "70", self.file, other).returncode, 0)
        self.assertEqual(run("diff", "--threshold", "0", other, self.file).returncode, 0)

    def test_names(self):
        for function, bare in (("void std::vector<int, std::allocator<int> >::resize(unsigned long)", "std::vector::resize"), ("main", "main"),
                               ("operator new(unsigned long)", "operator new"), ("Big::grow(unsigned long) const", "Big::grow"),
                               ("std::ostream& operator<< <char>(std::ostream&, X const&)", "operator<< "), ("[a b+0x1]", "[a b+0x1]"),
                               ("(anonymous namespace)::f(int)", "{anonymous}::f"), ("foo(int) [clone .constprop.0]", "foo")):
            self.assertEqual(sites_lines.bare(function).strip(), bare.strip())
        for name, module, wrapper in (("operator new(unsigned long)", "a", True), ("std::string::resize(int)", "a", True), ("xmalloc", "a", True),
                                      ("PyObject_Malloc", "a", True), ("whatever", "/lib/libc.so.6", True), ("PyDataMem_UserNEW", "a", True),
                                      ("allocate_rows(int)", "a", False), ("main", "a", False), ("[a+0x10]", "a", False), ("x::malloc_it", "a", False)):
            self.assertEqual(sites_lines.Place(name, module=module).is_wrapper(), wrapper, name)
        where = [sites_lines.Place("f", f"/x/{'long/' * 12}a/b.c", 3).where(), sites_lines.Place("f", os.path.join(os.getcwd(), "b.c"), 3).where()]
        self.assertEqual(where, [".../a/b.c:3", "b.c:3"])

    def test_python(self):
        text = PROFILE.replace("columns", "python 5 12 f /src/a.py\npython 16384 0 - -\ncolumns").replace("3+10 3+20", "3+10 @5 @16384")
        self.write(self.file, text, 0o644)
        found = json.loads(run("sites", "--json", "--frames", "1", self.file).stdout)["lines"][0]["lines"]
        self.assertEqual([(each["function"], each["file"], each["line"]) for each in found], [("f", "/src/a.py", 12), ("-", "-", None)])
        self.write(self.file, text.replace("@5", "@6"), 0o644)
        self.assert_fails(run("sites", self.file), 125, "a frame")
        place = sites_lines.compiled("py::A.f.<locals>.g:/src/a.py")
        self.assertEqual((place.text(), place.is_wrapper()), ("A.f.<locals>.g  /src/a.py", False))
        self.assertEqual(sites_lines.compiled("LazyCompile:~f").text(), "LazyCompile:~f  [no file]")
        numpy = sites_lines.Place("tile", "/usr/lib/python3/dist-packages/numpy/lib/shape_base.py", 3, "python", True)
        native = sites_lines.Place("array_zeros", module="numpy.so")
        self.assertEqual(sites_lines.of_user([native, numpy, place]), 2)
        self.assertEqual(sites_lines.of_user([native, numpy]), 1)

    def test_places(self):
        for text, place in (("/a/b.c:12", ("/a/b.c", 12)), ("/a/./b.c:12 (discriminator 3)", ("/a/b.c", 12)), ("b.c:12:5", ("b.c", 12)),
                            ("??:0", ("", 0)), ("??:?", ("", 0)), ("/a/b.c:0", ("", 0))):
            self.assertEqual(sites_lines.place_of(text), place)


def callers_line(callers):
    """Where the standard library calls it."""
    return next(key[1][1] for key in callers if key[0][0] == "in_thread")


@unittest.skipUnless(os.path.exists(LIBRARY), "the library is not built")
class Whole(support.Case):
    def setUp(self):
        self.here = self.folder()
        if not shutil.which("g++"):
            self.skipTest("no C++ compiler")
        self.source = self.write(os.path.join(self.here, "lines.cc"), SOURCE.lstrip("\n"), 0o644)
        self.program = os.path.join(self.here, "lines")
        subprocess.run(["g++", "-O2", "-g", "-fomit-frame-pointer", self.source, "-o", self.program], check=True, timeout=120)

    def profile(self, *options, program=None, status=3):
        result = run("run", f"--profile={self.here}/p", *options, "--", program or self.program, env=real(), cwd=self.here)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (status, "1\n", ""))
        return f"{self.here}/p"

    def lines(self, *words):
        result = run("sites", "--json", *words, f"{self.here}/p", cwd=self.here)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    @unittest.skipUnless(shutil.which("addr2line") or shutil.which("eu-addr2line"), "no addr2line")
    def test_the_right_line(self):
        self.profile()
        found = {each["lines"][0]["line"]: each for each in self.lines()["lines"]}
        where = SOURCE.lstrip("\n").split("\n").index("        rows.resize(n); // line 9: inlined twice") + 1
        self.assertEqual({line: each["calls"] for line, each in found.items()}, {where: 10, where + 10: 10, where + 11: 10, where + 12: 10})
        self.assertEqual(found[where]["bytes"], 10 * 800000)
        self.assertEqual(found[where]["lines"][0]["file"], self.source)
        self.assertIn("Table::grow", found[where]["lines"][0]["function"])
        text = run("sites", "--frames", "2", "--top", "1", f"{self.here}/p", cwd=self.here).stdout
        self.assertRegex(text, rf"Table::grow  lines.cc:{where} +10 +7.6 MiB")
        self.assertIn("called by fill  lines.cc", text)
        self.assertIn("called by main  lines.cc", text)
        self.assertIn("and 3 lines more", text)

    def test_stripped(self):
        subprocess.run(["strip", self.program], check=True, timeout=60)
        self.profile()
        found = self.lines()["lines"]
        self.assertEqual(sum(each["calls"] for each in found), 40)
        self.assertTrue(all(each["lines"][0]["function"].startswith("[lines+0x") for each in found), found)

    def test_changed_file(self):
        """Addresses of another build are not looked up in this one."""
        self.profile()
        self.assertTrue(elf_names.build_id(self.program))
        subprocess.run(["g++", "-O1", "-g", self.source, "-o", self.program], check=True, timeout=120)
        result = run("sites", f"{self.here}/p", cwd=self.here)
        self.assertIn("another file than then", result.stdout)
        self.assertNotIn("lines.cc", result.stdout)

    def test_sorted_and_exported(self):
        self.profile()
        for key in sites_rows.ORDERS:
            names = self.lines("--sort", key)["lines"]
            self.assertEqual(len(names), 4)
        folded = run("sites", "--collapsed", "bytes", f"{self.here}/p", cwd=self.here)
        self.assertEqual(sum(int(line.rsplit(" ", 1)[1]) for line in folded.stdout.splitlines()), 10 * (800000 + 200001 + 300000 + 400000))
        self.write(f"{self.here}/folded", folded.stdout, 0o644)
        result = run("report", "--unit", "bytes", "--svg", f"{self.here}/x.svg", "--speedscope", f"{self.here}/x.json", f"{self.here}/folded")
        self.assertEqual(result.returncode, 0, result.stderr)
        counts = run("sites", "--collapsed", "count", f"{self.here}/p", cwd=self.here).stdout
        self.assertEqual(sum(int(line.rsplit(" ", 1)[1]) for line in counts.splitlines()), 40)

    def test_default_name(self):
        result = run("run", "--profile", "--", self.program, env=real(), cwd=self.here)
        name, = [each for each in os.listdir(self.here) if each.startswith("zeropool-sites.")]
        self.assertEqual(result.stderr.splitlines()[0].rsplit("zeropool sites ", 1)[1], name)
        self.assertEqual(run("sites", name, cwd=self.here).returncode, 0)
        self.assertIn("no such call", run("sites", self.empty(), cwd=self.here).stdout)

    def empty(self):
        path = os.path.join(self.here, "empty")
        self.write(path, "\n".join(line for line in PROFILE.replace("end 2", "end 0").split("\n") if not line.startswith("stack")), 0o644)
        return path

    @unittest.skipUnless(is_python_3_11(), "/usr/bin/python3 is not 3.11")
    def test_python_lines(self):
        source = self.write(os.path.join(self.here, "job.py"), PYTHON, 0o644)
        result = run("run", f"--profile={self.here}/p", "--", "/usr/bin/python3", "-S", source, env=real(), cwd=self.here)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "True\n", ""))
        found = {each["lines"][0]["line"]: each for each in self.lines("--top", "0")["lines"] if each["lines"][0]["file"] == source}
        found.pop(2, None)  # what an import needs
        self.assertEqual({line: each["calls"] for line, each in found.items()}, {4: 300 + 5, 10: 150})
        self.assertEqual(found[10]["lines"][0]["function"], "Job.run")
        callers = {tuple((p["function"], p["line"]) for p in each["lines"][1:]): each["bytes"]
                   for each in self.lines("--top", "0", "--frames", "2")["lines"] if each["lines"][0]["line"] == 4}
        self.assertEqual(callers, {(("gr??e.<locals>.<listcomp>", 6), ("gr??e", 6)): 300 * 60001, (("deep", 14), ("deep", 14)): 70001,
                                   (("numbers", 16), ("<module>", 22)): 80001, (("in_thread", 18), ("Thread.run", callers_line(callers))): 90001,
                                   (("<module>", 29),): 111112, (("<module>", 1), ("<module>", 32)): 100001})

    def test_sampled(self):
        self.profile("--profile-rate", "100K")
        self.assertIn("sampled", " ".join(self.lines()["notes"]))


if __name__ == "__main__":
    unittest.main()
