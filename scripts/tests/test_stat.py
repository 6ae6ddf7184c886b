# SPDX-License-Identifier: MIT
"""zeropool stat: reports from files and from running processes, sums, estimates, and everything that can be broken."""
import json
import os
import signal
import subprocess
import sys
import time
import unittest

import support
from support import environment, run

from zeropool_tools import live, stats_report
from zeropool_tools.errors import ToolError

BUILT = os.path.join(support.ROOT, "build", "shim", "libzeropool-preload.so")
MIB = 1 << 20
LOOP = "import time\nwhile True:\n    b = b'x' * (40 << 20)\n    time.sleep(0.01)\n"


def real(**more):
    """The environment with the real library."""
    return environment(ZEROPOOL_LIB=BUILT, XDG_RUNTIME_DIR=None, **more)


def report(**more):
    return {"schema": "zeropool-stats-1", "pid": 7, "parent": 1, "command": "x", "gets": 3, "bytes_live_peak": 5 * MIB,
            "sizes": [{"from": 32 * MIB, "tcache": 1, "shard": 0, "dirty": 1, "mixed": 0, "fresh": 1, "bytes_warm": 80 * MIB,
                       "bytes_cleared": 40 * MIB, "bytes_emptied": 0, "bytes_fresh": 40 * MIB}], **more}


class Files(support.Case):
    def file(self, *reports, name="stats.json"):
        return self.write(os.path.join(self.folder(), name), "".join(json.dumps(r) + "\n" for r in reports), 0o600)

    def test_one_process(self):
        result = run("stat", "--fault-ns", "1000", self.file(report()))
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for text in ("process 7 (x)", "32.0 MiB to 64.0 MiB", "33.3 %", "page faults avoided: 10.2k to 20.5k",
                     "between 9.9 ms and 20.5 ms", "40.0 MiB cleared by memset"):
            self.assertIn(text, result.stdout)

    def test_sum_over_a_process_tree(self):
        path = self.file(report(), report(pid=8, parent=7, command="child"))
        result = run("stat", "--fault-ns", "1000", path, path)
        self.assertIn("all 4 processes", result.stdout)
        self.assertIn("child", result.stdout)
        total = json.loads(run("stat", "--json", "--fault-ns", "1000", path).stdout)
        self.assertEqual(total["gets"], 6)
        self.assertEqual(total["processes"], 2)
        self.assertEqual(total["bytes_live_peak"], 5 * MIB)
        self.assertEqual(total["faults_avoided"], [2 * 40 * 256, 2 * 80 * 256])
        self.assertEqual(total["sizes"][0]["fresh"], 2)

    def test_each(self):
        result = run("stat", "--each", "--fault-ns", "1", self.file(report(), report(pid=8)))
        self.assertIn("process 7 (x)", result.stdout)
        self.assertIn("process 8 (x)", result.stdout)

    def test_standard_input(self):
        result = subprocess.run(
            [support.ZEROPOOL, "stat", "--fault-ns", "1", "-"], input=json.dumps(report()), text=True, capture_output=True,
            env=environment(), check=False)
        self.assertIn("process 7", result.stdout)

    def test_lines_of_older_libraries(self):
        result = run("stat", "--fault-ns", "1", self.file({"pid": 5, "gets": 4, "tcache_hits": 4}))
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_odd_values_do_not_stop_it(self):
        odd = report(threads=[1, {"tcache_hits": "x"}, {}], sizes=[None, {"from": -1}, {"from": "x"}, {"from": 4096}],
                     bytes_live=-3, command=None)
        self.assertEqual(run("stat", "--fault-ns", "1", self.file(odd)).returncode, 0)

    def test_failures(self):
        folder = self.folder()
        for text, words in (("", "holds no statistics"), ("{", "stats:1: not JSON"), ("[]\n", "not a line of zeropool"),
                            (json.dumps(report()) + "\n{\"pid\": 3, ", "stats:2: not JSON")):
            path = self.write(os.path.join(folder, "stats"), text, 0o600)
            self.assert_fails(run("stat", path), 125, words)
        self.assert_fails(run("stat", "/nowhere/x.json"), 125, "/nowhere/x.json: No such file")
        self.assert_fails(run("stat", folder), 125, "is a directory")
        self.assert_fails(run("stat", "--nonsense"), 2, "unknown option")
        self.assert_fails(run("stat", "--fault-ns", "x", "1"), 2, "--fault-ns wants")
        self.assert_fails(run("stat", "999999999"), 125, "process 999999999: there is none")

    def test_a_process_without_the_pool(self):
        with subprocess.Popen(["/bin/sleep", "30"]) as process:
            self.assert_fails(run("stat", str(process.pid)), 125, "runs without the pool")
            process.kill()

    def test_estimates(self):
        self.assertEqual(stats_report.faults_avoided(report()), (40 * 256, 80 * 256))
        self.assertEqual(stats_report.faults_avoided({"gets": 0}), (0, 0))
        self.assertAlmostEqual(stats_report.hit_rate(report()), 2 / 3)
        self.assertIsNone(stats_report.hit_rate({"gets": 0}))
        with self.assertRaises(ToolError):
            stats_report.parse("nonsense", "x")


@unittest.skipUnless(os.path.exists(BUILT), "build/shim/libzeropool-preload.so is not built")
class Library(support.Case):
    def stats(self, path):
        with open(path, encoding="ascii") as file:
            return [json.loads(line) for line in file]

    def python(self, code, *options, **more):
        return run("run", *options, "--", sys.executable, "-I", "-c", code, env=real(), **more)

    def test_report_adds_up(self):
        path = os.path.join(self.folder(), "out")
        result = self.python("for i in range(20): b = b'x' * (40 << 20)", f"--stats={path}")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        one, = self.stats(path)
        self.assertEqual(sum(row[level] for row in one["sizes"] for level in stats_report.LEVELS),
                         one["gets"] - one["refused"])
        large = [row for row in one["sizes"] if row["from"] == 32 * MIB][0]
        self.assertGreaterEqual(large["tcache"] + large["dirty"] + large["mixed"], 17)
        self.assertGreater(one["minor_faults"], 0)

    def test_forked_children_count_their_own(self):
        path = os.path.join(self.folder(), "out")
        self.python("import os, sys\nfor i in range(50): b = b'x' * (5 << 20)\n"
                    "if os.fork() == 0:\n    c = b'y' * (7 << 20)\n    sys.exit(0)\nos.wait()", f"--stats={path}")
        lines = {line["parent"]: line for line in self.stats(path)}
        parent = [line for line in lines.values() if line["gets"] >= 50]
        self.assertEqual((len(lines), len(parent)), (2, 1))
        child = lines[parent[0]["pid"]]
        self.assertTrue(1 <= child["gets"] < 20, child["gets"])

    def test_many_processes_append_whole_lines(self):
        path = os.path.join(self.folder(), "out")
        run("run", f"--stats={path}", "--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do ls / >/dev/null & done; wait",
            env=real())
        self.assertEqual(len(self.stats(path)), 8)  # dash itself ends by _exit

    def test_descriptor(self):
        path = os.path.join(self.folder(), "out")
        script = f"exec 7>>{path}; ZEROPOOL_STATS=fd:7 {support.ZEROPOOL} run -- ls / >/dev/null"
        subprocess.run(["/bin/sh", "-c", script], env=real(), check=True, timeout=60)
        self.assertEqual(len(self.stats(path)), 1)
        # The number now means something else: not a byte may go there.
        mine = os.path.join(self.folder(), "mine")
        script = f"exec 7>>{path}; ZEROPOOL_STATS=fd:7 {support.ZEROPOOL} run -- sh -c 'exec 7>{mine}; exit'"
        subprocess.run(["/bin/sh", "-c", script], env=real(), check=True, timeout=60)
        self.assertEqual(os.path.getsize(mine), 0)
        result = run("run", "--", "true", env=real(ZEROPOOL_STATS="fd:1"))
        self.assertIn("not an open descriptor above 2", result.stderr)

    def test_links_are_not_followed(self):
        folder = self.folder()
        victim = self.write(os.path.join(folder, "victim"), "text")
        os.symlink(victim, os.path.join(folder, "link"))
        result = run("run", f"--stats={folder}/link", "--", "true", env=real())
        self.assertEqual(result.returncode, 0)
        self.assertIn("cannot write statistics", result.stderr)
        with open(victim, encoding="ascii") as file:
            self.assertEqual(file.read(), "text")


@unittest.skipUnless(os.path.exists(BUILT), "build/shim/libzeropool-preload.so is not built")
class Live(support.Case):
    def setUp(self):
        self.runtime = self.folder()
        self.env = real() | {"XDG_RUNTIME_DIR": self.runtime}

    def start(self, code=LOOP):
        process = subprocess.Popen([support.ZEROPOOL, "run", "--live", "--", sys.executable, "-I", "-c", code], env=self.env,
                                   stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.wait_for(lambda: self.files() and b"ZPLIVE1" in self.content(self.files()[0]))
        return process

    def wait_for(self, condition, seconds=10):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "nothing happened")
            time.sleep(0.02)

    def content(self, name):
        try:
            with open(os.path.join(self.runtime, name), "rb") as file:
                return file.read()
        except OSError:
            return b""

    def files(self):
        return os.listdir(self.runtime)

    def test_a_running_process(self):
        process = self.start()
        self.wait_for(lambda: b'"from": 33554432' in self.content(self.files()[0]))
        result = run("stat", "--fault-ns", "1000", str(process.pid), env=self.env)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(f"process {process.pid}", result.stdout)
        self.assertIn("32.0 MiB to 64.0 MiB", result.stdout)
        self.assertEqual(os.stat(os.path.join(self.runtime, self.files()[0])).st_mode & 0o777, 0o600)
        self.assertIn(str(process.pid), run("stat", "--fault-ns", "1", env=self.env).stdout)

    def test_nothing_is_left_at_exit(self):
        result = run("run", "--live", "--", "ls", "/", env=self.env)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(self.files(), [])

    def test_killed_processes_are_cleaned_up_by_the_reader(self):
        process = self.start()
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertEqual(len(self.files()), 1)
        self.assert_fails(run("stat", env=self.env), 125, "no running process")
        self.assertEqual(self.files(), [])

    def test_a_process_of_another_namespace_keeps_its_page(self):
        words = ["unshare", "--pid", "--fork", "--kill-child"] if os.geteuid() == 0 else \
            ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
            self.skipTest("no PID namespace is to be had here")
        env = self.env | {"LD_PRELOAD": BUILT, "ZEROPOOL_LIVE": "on"}
        del env["ZEROPOOL_LIB"]
        process = subprocess.Popen([*words, "env", *[f"{k}={env[k]}" for k in ("LD_PRELOAD", "ZEROPOOL_LIVE", "XDG_RUNTIME_DIR")],
                                    sys.executable, "-I", "-c", LOOP], env=self.env, stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.wait_for(lambda: any(b"32.0 MiB" in self.content(f) or b'"from": 33554432' in self.content(f) for f in self.files()))
        page = next(f for f in self.files() if b'"from": 33554432' in self.content(f))
        run("stat", env=self.env)
        self.assertIn(page, self.files(), "the page of a process that lives was removed")
        process.kill()
        process.wait()
        self.wait_for(lambda: run("stat", env=self.env) and not self.files())

    def test_exec_leaves_one_page(self):
        process = self.start(f"import os, sys\nos.execv(sys.executable, [sys.executable, '-I', '-c', {LOOP!r}])")
        self.wait_for(lambda: len(self.files()) == 2 or b'"from": 33554432' in self.content(self.files()[0]))
        self.wait_for(lambda: "32.0 MiB" in run("stat", "--fault-ns", "1", str(process.pid), env=self.env).stdout)
        self.assertEqual(len(self.files()), 1)

    def test_forked_children_have_their_own(self):
        self.start("import os, time\nb = b'x' * (40 << 20)\npid = os.fork()\nwhile True:\n    b = b'x' * (40 << 20)\n    time.sleep(0.05)")
        self.wait_for(lambda: len(self.files()) == 2)
        self.wait_for(lambda: b"zeropool-stats-1" in self.content(self.files()[1]))
        pages = json.loads(run("stat", "--json", "--fault-ns", "1", env=self.env).stdout)["reports"]
        self.assertEqual(len({p["pid"] for p in pages}), 2)
        child = [p for p in pages if p["parent"] in {q["pid"] for q in pages}]
        self.assertEqual(len(child), 1)
        os.kill(child[0]["pid"], signal.SIGKILL)

    def test_rubbish_harms_nobody(self):
        for name, data in (("zeropool-live.1.1", b"x" * 40000), ("zeropool-live.x.y", b""), ("zeropool-live.2.2", b"ZPLIVE1\0"),
                           ("zeropool-live.3.3", b"ZPLIVE1\0" + b"\xff" * 32760)):
            with open(os.path.join(self.runtime, name), "wb") as file:
                file.write(data)
        os.symlink("/dev/zero", os.path.join(self.runtime, "zeropool-live.4.4"))
        os.mkfifo(os.path.join(self.runtime, "zeropool-live.5.5"))
        self.assert_fails(run("stat", env=self.env, timeout=20), 125, "no running process")

    def test_unwritable_folder(self):
        result = run("run", "--live", "--", "true", env=self.env | {"XDG_RUNTIME_DIR": "/proc/self"})
        self.assertEqual(result.returncode, 0)

    def test_background_off(self):
        result = run("run", "--live", "--", "true", env=self.env | {"ZEROPOOL_BACKGROUND": "off"})
        self.assertEqual(result.returncode, 0)
        self.assertIn("no background thread", result.stderr)
        self.assertEqual(self.files(), [])

    def test_a_half_written_page_is_read_again(self):
        path = os.path.join(self.runtime, "zeropool-live.9.9")
        text = json.dumps(report()).encode()
        data = bytearray(live.FILE_BYTES)
        live.HEADER.pack_into(data, 0, live.MAGIC, os.getpid(), os.geteuid(), 1, 2, 3, len(text))
        data[live.HEADER.size:live.HEADER.size + len(text)] = text
        with open(path, "wb") as file:
            file.write(data)
        self.assertEqual(live.read(path).report["gets"], 3)
        live.HEADER.pack_into(data, 0, live.MAGIC, os.getpid(), os.geteuid(), 1, 3, 3, len(text))
        with open(path, "wb") as file:
            file.write(data)
        self.assertIsNone(live.read(path))


if __name__ == "__main__":
    unittest.main()
