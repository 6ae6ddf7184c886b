# SPDX-License-Identifier: MIT
"""zeropool compare --server: what is measured of whom, what goes wrong and how it is said, nothing left running."""
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

import support
from support import ROOT, ZEROPOOL, environment, run

from zeropool_tools import server

# Answers each connection with its LD_PRELOAD, after having touched some memory.
SERVER = """
import os, socket, sys
block = bytearray(int(sys.argv[2]))
for i in range(0, len(block), 4096): block[i] = 1
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
while True:
    connection, _ = listener.accept()
    word = connection.recv(16)
    if word == b"die": os._exit(7)
    if word: connection.sendall(os.environ.get("LD_PRELOAD", "none").encode())
    connection.close()
"""
CLIENT = """
import os, socket, sys
c = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
c.sendall(sys.argv[2].encode())
print("preload", c.recv(4096).decode(), os.environ.get("LD_PRELOAD"), file=open(sys.argv[3], "a"))
print("12.50 requests per second")
"""
FAST = ("compare", "-q", "-n", "2", "-w", "0", "-a", "glibc,zeropool")


class Server(support.Case):
    def setUp(self):
        self.here = self.folder()
        self.seen = os.path.join(self.here, "seen")
        self.server = self.write(f"{self.here}/server.py", SERVER)
        self.client = self.write(f"{self.here}/client.py", CLIENT)

    def words(self, size=1 << 20, word="hello", ready="TCP:auto"):
        return ("--ready", ready, "--server", f"{sys.executable} -I {self.server} {{port}} {size}",
                "--client", f"{sys.executable} -I {self.client} {{port}} {word} {self.seen}")

    def gone(self):
        for _ in range(50):
            if subprocess.run(["pgrep", "-f", self.server], capture_output=True, check=False).returncode:
                return True
            time.sleep(0.1)
        return False

    def test_who_gets_the_allocator_and_who_is_measured(self):
        stored = os.path.join(self.here, "json")
        page = os.path.join(self.here, "html")
        result = run(*FAST, "--json", stored, "--html", page, "--rss-every", "10", *self.words(60 << 20))
        self.assertEqual(result.returncode, 0, result.stderr)
        with open(self.seen, encoding="utf-8") as file:
            lines = set(file.read().splitlines())
        self.assertEqual(lines, {"preload none None", f"preload {support.library()} None"})
        self.assertIn("requests/s", result.stdout)
        with open(stored, encoding="utf-8") as file:
            data = json.load(file)
        self.assertEqual(data["server"]["port"], "auto")
        for variant in data["variants"]:
            self.assertEqual(variant["median"]["requests_per_s"], 12.5)
            self.assertGreater(variant["median"]["peak_rss_bytes"], 60 << 20)
            self.assertGreater(variant["median"]["faults"], 15000)
            self.assertTrue(variant["memory"]["points"])
        self.assertTrue(self.gone())
        self.assertEqual(run("report", stored).returncode, 0)
        with open(page, encoding="utf-8") as file:
            self.assertIn("requests per second", file.read())

    def test_the_next_command_can_be_typed(self):
        stored = os.path.join(self.here, "json")
        few = run(*FAST, "--json", stored, *self.words())
        many = run("compare", "-q", "-n", "6", "-w", "0", "-a", "glibc,zeropool", *self.words())
        diff = run("diff", stored, stored)
        for result in (few, diff):
            words = shlex.split(re.search(r"next: (zeropool compare .*?)   \(", result.stderr)[1])
            self.assertEqual(words[:3], ["zeropool", "compare", "--ready"])
            for name in ("--server", "--client"):
                again, given = words[words.index(name) + 1], self.words()[self.words().index(name) + 1]
                self.assertEqual(shlex.split(again)[-2:], shlex.split(given)[-2:])
        following = re.search(r"next: zeropool run --stats -- (.*?)   \(", many.stderr)[1]
        self.assertNotIn("{port}", following)
        self.assertRegex(following, rf"{self.server} [0-9]+ ")
        self.assertNotIn("'{port}'", few.stdout)

    def test_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            result = run(*FAST, *self.words(ready=f"TCP:{taken.getsockname()[1]}"))
        self.assert_fails(result, 125, "in use already", "TCP:auto")

    def test_server_ends_early(self):
        for script, texts in (("echo trouble >&2; exit 3", ("exited with status 3 before port", "trouble")),
                              ("exit 0", ("must stay in the foreground", "it said nothing")),
                              ("kill -SEGV $$", ("SIGSEGV",))):
            result = run(*FAST, "--ready", "TCP:auto", "--server", f"sh -c '{script}; : {{port}}'", "--client", "true")
            self.assert_fails(result, 125, "under glibc", *texts)

    def test_server_ends_while_the_client_runs(self):
        result = run(*FAST, *self.words(word="die"))
        self.assert_fails(result, 125, "exited with status 7 while the client ran")

    def test_server_never_answers(self):
        started = time.monotonic()
        result = run(*FAST, "--ready-timeout", "0.3", "--ready", "TCP:auto", "--server", "sh -c 'sleep 33; : {port}'",
                     "--client", "true")
        self.assert_fails(result, 125, "did not answer", "--ready-timeout")
        self.assertLess(time.monotonic() - started, 15)

    def test_client_fails(self):
        result = run(*FAST, *self.words()[:4], "--client", "sh -c 'echo no luck >&2; exit 4'")
        self.assert_fails(result, 4, "the client exited with status 4", "no luck")
        self.assertTrue(self.gone())

    def test_interrupt_ends_the_server(self):
        process = subprocess.Popen([ZEROPOOL, *FAST, *self.words()[:4], "--client", "sleep 30"], env=environment(),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        self.assertEqual(process.returncode, 130)
        self.assertTrue(self.gone())

    def test_stubborn_server_is_killed(self):
        stubborn = self.write(f"{self.here}/server.py", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER)
        before, server.STOP_GRACE_S = server.STOP_GRACE_S, 0.3
        try:
            runner = server.ServerRunner([sys.executable, "-I", stubborn, "{port}", "4096"], 0)
            result = runner.run([shutil.which("true")], environment())
        finally:
            server.STOP_GRACE_S = before
        self.assertEqual((result.status, runner.killed), (0, 1))
        self.assertTrue(self.gone())

    def test_usage(self):
        for words, text in ((("--server", "x"), "belong together"), (("--ready", "80"), "TCP:PORT"),
                            (("--ready", "TCP:70000"), "TCP:PORT"), (("--server", "'"), "a command"),
                            (("--server", "x", "--client", "y", "--ready", "TCP:auto"), "needs {port}"),
                            ((*self.words(), "--", "true"), "either a command or")):
            self.assert_fails(run("compare", *words), 2, text)
        self.assert_fails(run("compare", "--server", "/nowhere/x", "--client", "true", "--ready", "TCP:4242"), 127, "not found")

    def test_rate(self):
        self.assertEqual(server.requests_per_s(b"SET: 100.0 requests per second, p50=1\nGET: 300.0 requests per second"), 150)
        self.assertEqual(server.requests_per_s(b"Requests/sec:  42.5\n"), 42.5)
        self.assertEqual(server.requests_per_s(b"Requests per second:    7.25 [#/sec] (mean)\n"), 7.25)
        self.assertIsNone(server.requests_per_s(b"done\n"))


class RealServers(support.Case):
    def compare(self, *words):
        result = run("compare", "-q", "-n", "1", "-w", "0", "-a", "glibc,zeropool", "--ready", "TCP:auto", *words, cwd=ROOT)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("requests/s", result.stdout)

    @unittest.skipUnless(shutil.which("redis-server") and shutil.which("redis-benchmark"), "redis is not installed (redis-server, redis-tools)")
    def test_redis(self):
        self.compare("--server", "redis-server --port {port} --save '' --dir /tmp",
                     "--client", "redis-benchmark -q -p {port} -t set,get -d 262144 -n 200")

    @unittest.skipUnless(os.path.exists("/usr/sbin/nginx") or shutil.which("nginx"), "nginx is not installed (nginx-light)")
    def test_nginx(self):
        here = self.folder()
        for path in (support.folder(), here):
            os.chmod(path, 0o755)  # its worker is another user
        self.write(f"{here}/page", "x" * 300000, 0o644)
        self.compare("--server", f"scripts/examples/serve_nginx {here} {{port}}",
                     "--client", f"{sys.executable} scripts/examples/http_client.py {{port}} /page 200")


if __name__ == "__main__":
    unittest.main()
