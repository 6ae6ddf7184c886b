# SPDX-License-Identifier: MIT
"""zeropool trace and replay: what is written, that the program is as without it, and that the replay does the same again."""
import os
import struct
import unittest

import support
from support import ROOT, run

REPLAY = os.path.join(ROOT, "build", "workloads", "replay", "zeropool-replay")
SOURCE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static void *work(void *p) { for (int i = 0; i < 50; i++) free(malloc(100000)); free(p); return NULL; }
int main(int n, char **words) {
    char *a = malloc(50000), *b = calloc(2, 50000), *small = malloc(100), *c;
    memset(a, 1, 50000);
    a = realloc(a, 200000);
    small = realloc(small, 40000);
    if (posix_memalign((void **)&c, 65536, 70000) || (size_t)c % 65536) return 9;
    if (malloc_usable_size(a) < 200000 || b[99999] || a[49999] != 1) return 8;
    pthread_t t;
    pthread_create(&t, NULL, work, b);
    pthread_join(t, NULL);
    pid_t child = fork();
    if (!child) { free(malloc(1 << 20)); _exit(0); }
    waitpid(child, NULL, 0);
    for (int fd = 3; fd < 64; fd++) close(fd);
    errno = 77;
    free(a);
    if (errno != 77) return 7;
    free(small);
    if (n > 1) abort();
    puts("done");
    return 5;
}
"""


def records(path):
    with open(path, "rb") as file:
        data = file.read()
    assert data[:8] == b"ZPTRACE1"
    return [struct.unpack_from("<QQQIBB", data, at) for at in range(32, len(data), 32)]


@unittest.skipUnless(os.path.exists(REPLAY), "workloads/replay is not built")
class Trace(support.Case):
    def setUp(self):
        self.here = self.folder()
        self.file = os.path.join(self.here, "t.zpt")
        self.program = support.compile_c("traced", SOURCE, "-pthread", "-fno-builtin")

    def test_records_and_replay(self):
        result = run("trace", "-o", self.file, "--", self.program)
        self.assertEqual((result.returncode, result.stdout), (5, "done\n"), result.stderr)
        self.assertIn("next: zeropool compare -- zeropool replay", result.stderr)
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)
        self.assertEqual(os.listdir(self.here), ["t.zpt"])
        found = records(self.file)
        ops = [r[4] for r in found]
        self.assertEqual([ops.count(op) for op in range(1, 7)], [51, 1, 1, 53, 2, 2])
        self.assertEqual(len({r[3] for r in found}), 2)
        self.assertEqual([r[2] for r in found if r[4] == 3], [70000])
        self.assertEqual([r[5] for r in found if r[4] == 3], [16])
        for words in ((), ("--touch", "none")):
            result = run("replay", *words, self.file)
            self.assertEqual(result.returncode, 0, result.stderr)
            # The first realloc's old block is known, the second one's was too small to be seen.
            self.assertEqual(result.stdout, "108 calls, 2 threads, 5 MiB asked for\n")

    def test_killed_program_leaves_what_it_did(self):
        result = run("trace", "-o", self.file, "--", self.program, "die")
        self.assertEqual(result.returncode, 134)
        self.assertEqual(len(records(self.file)), 110)

    def test_several_programs(self):
        result = run("trace", "-o", self.file, "--", "sh", "-c", f"{self.program}; {self.program} die; exec {self.program}")
        self.assertEqual(result.returncode, 5, result.stderr)
        self.assertEqual(len(os.listdir(self.here)), 3)

    def test_least_size_and_nothing(self):
        run("trace", "-o", self.file, "--min", "150000", "--", self.program)
        self.assertEqual([r[4] for r in records(self.file)], [5, 6, 4])
        result = run("trace", "-o", f"{self.here}/none", "--", "true")
        self.assertIn("nothing was written", result.stderr)
        self.assertFalse(os.path.exists(f"{self.here}/none"))

    def test_compare_replays(self):
        run("trace", "-o", self.file, "--", self.program)
        result = run("compare", "-q", "-n", "1", "-a", "glibc,zeropool", "--", support.ZEROPOOL, "replay", self.file)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_bad_files(self):
        for content in (b"", b"x" * 100, b"ZPTRACE1" + bytes(20)):
            with open(self.file, "wb") as file:
                file.write(content)
            result = run("replay", self.file)
            self.assertEqual(result.returncode, 1)
            self.assertIn("no trace of zeropool", result.stderr)
        run("trace", "-o", f"{self.here}/good", "--", self.program)
        with open(f"{self.here}/good", "rb") as file:
            data = bytearray(file.read())
        data[32 * 3 + 28] = 99
        with open(self.file, "wb") as file:
            file.write(data)
        self.assertIn("damaged", run("replay", self.file).stderr)

    def test_usage(self):
        self.assert_fails(run("trace"), 2, "no command given")
        self.assert_fails(run("replay"), 2, "one file")
        self.assert_fails(run("trace", "-o", "/nowhere/x", "--", "true"), 125, "cannot write")
        os.symlink("/etc/passwd", f"{self.here}/link")
        self.assert_fails(run("trace", "-o", f"{self.here}/link", "--", "true"), 125, "cannot write", "is a link")
        self.assert_fails(run("trace", "-o", self.here, "--", "true"), 125, "cannot write", "is a folder")
        self.assert_fails(run("trace", "-o", "/dev/null", "--", "true"), 125, "cannot write", "no ordinary file")


if __name__ == "__main__":
    unittest.main()
