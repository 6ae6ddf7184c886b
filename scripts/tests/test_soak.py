# SPDX-License-Identifier: MIT
"""scripts/soak: what it makes of a program that is well, loses contents, grows, crashes, says nothing; wrong usage."""
import os
import signal
import subprocess
import time
import unittest

import support

SOAK = os.path.join(support.SCRIPTS, "soak")
ROUND = "round $1 threads 2 mix all operations 100 forks 1 failed 0 mismatches $2 rss_kib $3 mappings $4"


class Soak(support.Case):
    def worker(self, body):
        path = os.path.join(self.folder(), "worker")
        self.write(path, f"#!/bin/sh\nsay() {{ echo \"{ROUND}\"; }}\n{body}\n")
        os.chmod(path, 0o755)
        return path

    def soak(self, body, *words):
        return subprocess.run([SOAK, "--seconds", "1", "--bare", "--worker", self.worker(body), *words], text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)

    def test_well(self):
        result = self.soak("for i in 1 2 3 4 5 6; do say $i 0 5000 60; done; sleep 1")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("1 processes, 6 rounds, 100 operations, 1 forks", result.stdout)
        self.assertIn("0 mismatches; quiet points: drift at most 0 KiB", result.stdout)

    def test_bad(self):
        for body, words, text in (
                ("say 1 3 5000 60; echo 'soak_worker: a page of a block changed'; sleep 1; exit 1", (),
                 "seed 1, threshold none: exit status 1; soak_worker: a page of a block changed"),
                ("say 1 0 5000 400; sleep 1", (), "400 mappings at a quiet point (allowed: 300)"),
                ("say 1 0 5000 60; sleep 1; kill -SEGV $$", (), "was ended by signal 11"),
                ("sleep 1", (), "ended without a round")):
            with self.subTest(text=text):
                result = self.soak(body, *words)
                self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
                self.assertIn(text, result.stdout)

    def test_growth(self):
        lib = self.worker("")  # any file: the loader warns about it, which is no round
        worker = self.worker("for i in 1 2 3 4 5 6 7; do say $i 0 $((i * 20000)) 60; done; sleep 1")
        result = subprocess.run([SOAK, "--seconds", "1", "--lib", lib, "--worker", worker], text=True, capture_output=True,
                                stdin=subprocess.DEVNULL, timeout=60, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("resident memory at quiet points grew by", result.stdout)

    def test_wrong_usage_and_nothing_built(self):
        for words, status, text in ((("--seconds", "0"), 2, "wants a whole number"), (("--nonsense",), 2, "unrecognized"),
                                    (("--worker", "/nonexistent"), 125, "is not built"), (("--help",), 0, "")):
            result = subprocess.run([SOAK, *words], text=True, capture_output=True, timeout=30, check=False)
            self.assertEqual(result.returncode, status, words)
            self.assertIn(text, result.stderr)

    def test_interrupted_ends_the_program(self):
        mark = os.path.join(self.folder(), "pid")
        process = subprocess.Popen([SOAK, "--seconds", "30", "--bare", "--worker", self.worker(f"echo $$ >{mark}; exec sleep 30")],
                                   stderr=subprocess.PIPE, text=True)
        for _ in range(200):
            if os.path.exists(mark) and os.path.getsize(mark):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 143)
        self.assertIn("interrupted", messages)
        with open(mark, encoding="utf-8") as file:
            pid = int(file.read())
        time.sleep(0.2)
        self.assertFalse(os.path.exists(f"/proc/{pid}") and "sleep" in open(f"/proc/{pid}/comm", encoding="utf-8").read())


if __name__ == "__main__":
    unittest.main()
