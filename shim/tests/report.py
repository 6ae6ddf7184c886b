#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Statistics at exit (ZEROPOOL_STATS) and the live page (ZEROPOOL_LIVE): what is written where, and what is refused how.

usage: report.py LIBRARY
"""
import glob
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import unittest

LIBRARY = ""
SUBJECT = "import os, sys, time; b = [bytearray(n << 10) for n in (50, 300, 20000)]; "


def run(code, pass_fds=(), **settings):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ZEROPOOL_", "LD_PRELOAD"))}
    environment.update(LD_PRELOAD=LIBRARY, **settings)
    return subprocess.run([sys.executable, "-S", "-c", SUBJECT + code], env=environment, capture_output=True, text=True,
                          pass_fds=pass_fds, timeout=60, check=False)


class Report(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = holder.name
        self.file = os.path.join(self.folder, "stats")

    def lines(self):
        with open(self.file, encoding="utf-8") as stream:
            return [json.loads(line) for line in stream]

    def test_file(self):
        for _ in range(2):
            result = run("print(len(b))", ZEROPOOL_STATS=self.file)
            self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "3\n", ""))
        lines = self.lines()
        self.assertEqual(len(lines), 2, "one line a process, appended")
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)
        text = json.dumps(lines[0])
        for word in ("pid", "command", "wall"):
            self.assertIn(word, text)

    def test_memory_adds_up(self):
        """Live is what the program holds; all that is mapped is live, in caches, idle, or headroom of blocks."""
        mib = 1 << 20
        code = "c = [bytearray(8 << 20) for _ in range(8)]; del c[4:]; time.sleep(0.2)"
        self.assertEqual(run(code, ZEROPOOL_STATS=self.file).returncode, 0)
        self.assertEqual(run("c = bytearray(40 << 20); pid = os.fork(); time.sleep(0.5 if pid else 0)", ZEROPOOL_STATS=self.file).returncode, 0)
        for line in self.lines():
            used = sum(line["bytes_" + kind] for kind in ("live", "cached", "dirty", "clean"))
            self.assertLessEqual(used, line["bytes_mapped"])
            self.assertLessEqual(line["bytes_muzzy"], line["bytes_dirty"])
            self.assertGreaterEqual(line["bytes_live_peak"], line["bytes_live"])
            self.assertLess(line["bytes_live"], 2 * mib, "all but a few buffers of the interpreter has been freed")
            self.assertLess(line["bytes_holes"], 1 << 40)

    def test_children_of_a_fork(self):
        code = ("pid = os.fork(); c = bytearray(1 << 20); sys.exit(0) if pid == 0 else os.waitpid(pid, 0)")
        self.assertEqual(run(code, ZEROPOOL_STATS=self.file).returncode, 0)
        self.assertEqual(len({line["pid"] for line in self.lines()}), 2)

    def test_child_that_did_nothing(self):
        code = "pid = os.fork(); sys.exit(0) if pid == 0 else os.waitpid(pid, 0)"
        self.assertEqual(run(code, ZEROPOOL_STATS=self.file).returncode, 0)
        self.assertEqual(len(self.lines()), 2)

    def test_nothing_large_was_asked_for(self):
        self.assertEqual(run("", ZEROPOOL_STATS=self.file, ZEROPOOL_THRESHOLD="1G").returncode, 0)
        self.assertEqual(len(self.lines()), 1)

    def test_odd_command_name(self):
        name = os.path.join(self.folder, 'odd"\\\x01\xe9name')
        os.symlink(sys.executable, name)
        environment = {**os.environ, "LD_PRELOAD": LIBRARY, "ZEROPOOL_STATS": self.file}
        subprocess.run([name, "-S", "-c", "b = bytearray(1 << 20)"], env=environment, timeout=60, check=True)
        self.assertEqual(self.lines()[0]["command"], "odd?????name")

    def test_descriptor(self):
        with open(self.file, "wb") as stream:
            result = run("", pass_fds=(stream.fileno(),), ZEROPOOL_STATS=f"fd:{stream.fileno()}")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(len(self.lines()), 1)

    def test_descriptor_used_for_something_else(self):
        other = os.path.join(self.folder, "other")
        with open(self.file, "wb") as stream:
            fd = stream.fileno()
            result = run(f"f = open({other!r}, 'w'); os.dup2(f.fileno(), {fd})", pass_fds=(fd,), ZEROPOOL_STATS=f"fd:{fd}")
            closed = run(f"os.close({fd})", pass_fds=(fd,), ZEROPOOL_STATS=f"fd:{fd}")
        for one in (result, closed):
            self.assertEqual((one.returncode, one.stderr), (0, ""))
        self.assertEqual((os.path.getsize(other), os.path.getsize(self.file)), (0, 0), "the program's own file is left alone")

    def test_descriptors_that_will_not_do(self):
        for value in ("fd:", "fd:x", "fd:1", "fd:999", "fd:99999999"):
            result = run("print(1)", ZEROPOOL_STATS=value)
            self.assertEqual((result.returncode, result.stdout), (0, "1\n"))
            self.assertIn("not an open descriptor above 2", result.stderr)

    def test_files_that_will_not_do(self):
        link = os.path.join(self.folder, "link")
        os.symlink(self.file, link)
        for value, text in ((link, "cannot write statistics"), ("/nonexistent/file", "No such file"),
                            ("/dev/full", "not a regular file"), ("x" * 5000, "too long")):
            result = run("print(1)", ZEROPOOL_STATS=value)
            self.assertEqual((result.returncode, result.stdout), (0, "1\n"), value[:20])
            self.assertIn(text, result.stderr, value[:20])
        self.assertFalse(os.path.exists(self.file), "a symbolic link is not followed")
        self.assertEqual(run("", ZEROPOOL_STATS="").stderr, "")


    def test_full_device(self):
        with open("/dev/full", "wb", buffering=0) as stream:
            result = run("print(1)", pass_fds=(stream.fileno(),), ZEROPOOL_STATS=f"fd:{stream.fileno()}")
        self.assertEqual((result.returncode, result.stdout), (0, "1\n"))
        self.assertIn("No space left", result.stderr)

    def test_fifo(self):
        os.mkfifo(self.file)
        result = run("print(1)", ZEROPOOL_STATS=self.file)
        self.assertEqual((result.returncode, result.stdout), (0, "1\n"), "does not wait for a reader")
        self.assertIn("cannot write statistics", result.stderr)
        reader = os.open(self.file, os.O_RDONLY | os.O_NONBLOCK)
        self.assertIn("not a regular file", run("", ZEROPOOL_STATS=self.file).stderr)
        self.assertEqual(os.read(reader, 10), b"")
        os.close(reader)

    def test_file_with_two_names(self):
        other = os.path.join(self.folder, "other")
        with open(other, "w", encoding="ascii") as stream:
            stream.write("precious")
        os.link(other, self.file)
        self.assertIn("more than one name", run("", ZEROPOOL_STATS=self.file).stderr)
        self.assertEqual(os.path.getsize(other), 8)

    @unittest.skipIf(os.geteuid(), "needs root")
    def test_file_of_another_user(self):
        with open(self.file, "w", encoding="ascii") as stream:
            stream.write("precious")
        os.chown(self.file, 65534, 65534)
        self.assertIn("another user's file", run("", ZEROPOOL_STATS=self.file).stderr)
        self.assertEqual(os.path.getsize(self.file), 8)

    def pipe(self, kind, code=""):
        """What comes of a run whose statistics go to a pipe or socket that is read, broken or full; and what was read."""
        sockets = kind.startswith("socket")
        if sockets:
            pair = socket.socketpair()
            reader, writer = (one.detach() for one in pair)
        else:
            reader, writer = os.pipe()
        os.set_blocking(writer, False)
        try:
            while kind.endswith("full"):
                os.write(writer, b"x" * 4096)
        except BlockingIOError:
            pass
        os.set_blocking(writer, True)
        if kind.endswith("broken"):
            os.close(reader)
        result = run(code + "print(1)", pass_fds=(writer,), ZEROPOOL_STATS=f"fd:{writer}")
        blocking = os.get_blocking(writer)
        os.close(writer)
        text = b""
        if not kind.endswith("broken"):
            while piece := os.read(reader, 65536):
                text += piece
            os.close(reader)
        self.assertTrue(blocking, "the description that others share is as it was")
        self.assertEqual((result.returncode, result.stdout), (0, "1\n"), kind)
        return result.stderr, text

    def test_pipe_that_is_read(self):
        for kind in ("pipe", "socket"):
            messages, text = self.pipe(kind)
            self.assertEqual(messages, "")
            self.assertIn("gets", json.loads(text))

    def test_broken_pipe(self):
        for kind in ("pipe-broken", "socket-broken"):
            # With the signal's default action, which python has changed.
            messages, _ = self.pipe(kind, "import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL); ")
            self.assertIn("Broken pipe", messages, kind)

    def test_full_pipe(self):
        for kind in ("pipe-full", "socket-full"):
            began = time.monotonic()
            messages, _ = self.pipe(kind)
            self.assertIn("nobody reads", messages, kind)
            self.assertGreater(time.monotonic() - began, 0.9)


class Live(unittest.TestCase):
    setUp = Report.setUp

    def pages(self):
        return glob.glob(os.path.join(self.folder, "zeropool-live.*"))

    def test_page(self):
        code = ("import glob; time.sleep(0.7); pages = glob.glob(os.environ['XDG_RUNTIME_DIR'] + '/zeropool-live.*'); "
                "t = open(pages[0], 'rb').read(); print(len(pages), t[:7].decode(), os.getpid() in (int.from_bytes(t[8:12], 'little'),),"
                " int.from_bytes(t[24:32], 'little') > 2, b'{' in t[48:60])")
        result = run(code, ZEROPOOL_LIVE="on", XDG_RUNTIME_DIR=self.folder)
        self.assertEqual((result.returncode, result.stdout), (0, "1 ZPLIVE1 True True True\n"), result.stderr)
        self.assertEqual(self.pages(), [], "gone with the process")

    def test_a_child_has_its_own(self):
        code = ("import glob\npid = os.fork()\nif pid == 0:\n c = [bytearray(9 << 20) for _ in range(4)]; time.sleep(1.2);"
                " sys.exit(0)\ntime.sleep(1)\nprint(len(glob.glob(os.environ['XDG_RUNTIME_DIR'] + '/zeropool-live.*')))\n"
                "os.waitpid(pid, 0)")
        result = run("pass\n" + code, ZEROPOOL_LIVE="on", XDG_RUNTIME_DIR=self.folder)
        self.assertEqual((result.returncode, result.stdout), (0, "2\n"), result.stderr)
        self.assertEqual(self.pages(), [])

    def test_without_a_usable_folder(self):
        for folder in ("relative", "/nonexistent", "/" + "x" * 300):
            before = set(glob.glob("/dev/shm/zeropool-live.*"))
            result = run("time.sleep(0.3)", ZEROPOOL_LIVE="on", XDG_RUNTIME_DIR=folder)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            time.sleep(0.05)
            mine = {path for path in set(glob.glob("/dev/shm/zeropool-live.*")) - before
                    if not pathlib.Path(f"/proc/{path.split('.')[1]}").exists()}
            self.assertEqual(mine, set())

    def test_no_thread_no_page(self):
        result = run("print(1)", ZEROPOOL_LIVE="on", ZEROPOOL_BACKGROUND="off", XDG_RUNTIME_DIR=self.folder)
        self.assertEqual((result.returncode, result.stdout), (0, "1\n"))
        self.assertIn("no background thread", result.stderr)
        self.assertEqual(self.pages(), [])


if __name__ == "__main__":
    LIBRARY = os.path.abspath(sys.argv.pop(1))
    unittest.main()
