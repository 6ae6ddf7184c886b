# SPDX-License-Identifier: MIT
"""zeropool top: full screen in a pseudo terminal (sort, resize, quit), plain lines elsewhere."""
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
import unittest

import support
from support import run
from test_stat import BUILT, LOOP, real


class Terminal:
    """A program in a pseudo terminal."""

    def __init__(self, words, env, rows=24, columns=100):
        self.master, slave = pty.openpty()
        self.resize(rows, columns, signal=False)
        self.process = subprocess.Popen(words, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.seen = ""

    def resize(self, rows, columns, signal=True):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, text, seconds=15):
        end = time.monotonic() + seconds
        while text not in self.seen:
            if time.monotonic() > end:
                raise AssertionError(f"no {text!r} in {self.seen!r}")
            self.pump(0.1)

    def pump(self, seconds):
        ready, _, _ = select.select([self.master], [], [], seconds)
        if ready:
            try:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                pass  # the other side has closed

    def press(self, keys):
        self.seen = ""
        os.write(self.master, keys.encode())

    def finish(self, seconds=15):
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self.pump(0.05)
        if self.process.poll() is None:
            self.process.kill()
        os.close(self.master)
        return self.process.wait()


class Plain(support.Case):
    def test_nothing_runs(self):
        result = run("top", env=support.environment(XDG_RUNTIME_DIR=self.folder()))
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("zeropool top: ", result.stdout)

    def test_failures(self):
        self.assert_fails(run("top", "--sort", "byts"), 2, "did you mean 'bytes'")
        self.assert_fails(run("top", "--delay", "0"), 2, "--delay wants")
        self.assert_fails(run("top", "extra"), 2, "unexpected 'extra'")


@unittest.skipUnless(os.path.exists(BUILT), "build/shim/libzeropool-preload.so is not built")
class Running(support.Case):
    def setUp(self):
        self.runtime = self.folder()
        self.env = real() | {"XDG_RUNTIME_DIR": self.runtime, "TERM": "xterm"}
        process = subprocess.Popen([support.ZEROPOOL, "run", "--live", "--", sys.executable, "-I", "-c", LOOP], env=self.env,
                                   stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.process = process
        end = time.monotonic() + 10
        while not os.listdir(self.runtime) and time.monotonic() < end:
            time.sleep(0.02)

    def test_plain_lines(self):
        result = run("top", "-n", "2", "-d", "0.3", env=self.env)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(result.stdout.count(f"\n{self.process.pid} "), 2)

    def test_full_screen(self):
        terminal = Terminal([support.ZEROPOOL, "top", "-d", "0.2"], self.env)
        terminal.wait_for("requests/s")
        terminal.wait_for(str(self.process.pid))
        terminal.press("f")
        terminal.wait_for("faults avoided")
        terminal.press("h")
        terminal.wait_for("hit rate")
        for rows, columns in ((5, 20), (1, 1), (2, 300), (50, 150)):
            terminal.resize(rows, columns)
            terminal.pump(0.3)
            self.assertIsNone(terminal.process.poll(), terminal.seen)
        terminal.press("q")
        self.assertEqual(terminal.finish(), 0)

    def test_without_a_terminal_type(self):
        result = run("top", env=self.env | {"TERM": "dumb"})
        self.assertIn(str(self.process.pid), result.stdout)

    def test_ends_by_itself(self):
        terminal = Terminal([support.ZEROPOOL, "top", "-d", "0.1", "-n", "2"], self.env)
        self.assertEqual(terminal.finish(), 0)

    def test_interrupt(self):
        terminal = Terminal([support.ZEROPOOL, "top", "-d", "5"], self.env)
        terminal.wait_for("requests/s")
        terminal.press("\x03")
        self.assertIn(terminal.finish(), (0, 130))

    def test_the_process_vanishes_meanwhile(self):
        terminal = Terminal([support.ZEROPOOL, "top", "-d", "0.1"], self.env)
        terminal.wait_for(str(self.process.pid))
        self.process.kill()
        self.process.wait()
        terminal.wait_for("start one with")
        terminal.press("q")
        self.assertEqual(terminal.finish(), 0)
        self.assertEqual(os.listdir(self.runtime), [])


if __name__ == "__main__":
    unittest.main()
