#!/usr/bin/python3 -I
# SPDX-License-Identifier: MIT
"""Holds what advise says of some thirty programs against compare -n 8, and prints a table: judge [--max-time S] [NAME]...

True is the ratio of processor time that compare finds: yes where the pool saves 3 % and more, do not use it where it costs 3 % and more.
Within 1.5 points of 3 %, and where compare's own interval holds values that would make advise right ("?"), an answer is not wrong.
"""
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
ZEROPOOL = os.path.join(os.path.dirname(HERE), "zeropool")
PYTHON = "/usr/bin/python3"
WORTH, NEAR = 0.03, 0.015
SPARSE = """#include <stdlib.h>
int main(void) { for (int i = 0; i < 3000; i++) { char *volatile p = malloc(64 << 20); for (int k = 0; k < 8; k++) p[k * (8 << 20)] = 1; free(p); } }"""
FILL = """#include <stdlib.h>
#include <string.h>
int main(int n, char **v) { size_t size = atol(v[1]); long times = atol(v[2]);
  for (long i = 0; i < times; i++) { char *volatile p = malloc(size); memset(p, (int)i, size); free(p); } return n < 0; }"""
CALLOC = """#include <stdlib.h>
int main(void) { for (int i = 0; i < 60; i++) { char *volatile p = calloc(1, 16 << 20); for (int k = 0; k < 16 << 20; k += 4096) p[k]++; free(p); } }"""
GROW = """#include <stdlib.h>
#include <string.h>
int main(void) { for (int r = 0; r < 12; r++) { char *volatile p = 0; for (size_t n = 65536; n < 48u << 20; n += n / 4) {
  p = realloc(p, n); memset(p + n - n / 5, 1, n / 5); } free(p); } }"""
THREADS = """#include <pthread.h>
#include <stdlib.h>
#include <string.h>
static void *work(void *u) { for (int i = 0; i < 300; i++) { size_t n = (1 << 20) + (i * 7919 % 64) * 65536; char *volatile p = malloc(n);
  memset(p, i, n); free(p); } return u; }
int main(void) { pthread_t t[4]; for (int i = 0; i < 4; i++) pthread_create(t + i, 0, work, 0); for (int i = 0; i < 4; i++) pthread_join(t[i], 0); }"""
HANDOVER = """#include <pthread.h>
#include <stdlib.h>
#include <string.h>
static void *drop(void *p) { free(p); return 0; }
int main(void) { for (int i = 0; i < 400; i++) { char *p = malloc(2 << 20); memset(p, i, 2 << 20); pthread_t t; pthread_create(&t, 0, drop, p);
  pthread_join(t, 0); } }"""
UNWAITED = """#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) { signal(SIGCHLD, SIG_IGN); int e[2]; if (pipe(e)) return 1; for (int c = 0; c < 3; c++) if (!fork()) { close(e[0]);
  for (int i = 0; i < 20; i++) { char *volatile p = malloc(40 << 20); memset(p, i, 40 << 20); free(p); } _exit(0); }
  close(e[1]); char b; return read(e[0], &b, 1) > 0; }"""
MULTI = """import multiprocessing as m
def work(i):
    n = 0
    for k in range(40): n += len(bytes(b'x') * (34 << 20))
    return n
if __name__ == '__main__':
    with m.get_context('fork').Pool(2) as pool: print(sum(pool.map(work, range(2))))"""
C_PROGRAMS = {"sparse": SPARSE, "fill": FILL, "calloc": CALLOC, "grow": GROW, "threads": THREADS, "handover": HANDOVER, "unwaited": UNWAITED}


def programs(folder):
    """{name: (argv, standard input or None)}."""
    def built(name):
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            subprocess.run(["gcc", "-O1", "-w", "-x", "c", "-", "-o", path, "-pthread"], input=C_PROGRAMS[name], text=True, check=True)
        return path

    def file(name, text):
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path

    lines = file("lines", "".join(f"{i * 7919 % 1000003} some text of a line {i}\n" for i in range(400000)))
    workers = file("workers.py", MULTI)
    numpy = "import numpy as n\n"
    python = {
        "python, 400 bytearrays of 3 MB": "for i in range(400): bytearray(3000000)",
        "python, bytes of 36 MB": "for i in range(60): b = bytes(b'x') * (36 << 20)",
        "python, list of ints": "x = [i * 3 for i in range(3000000)]; print(sum(x))",
        "python, loop": "print(sum(i * i % 7 for i in range(5000000)))",
        "python, zlib": "import zlib\nd = bytes(range(256)) * 20000\nfor i in range(12): zlib.decompress(zlib.compress(d, 1))",
        "python, pickle": "import pickle\nx = [b'y' * 200000] * 1 + [bytes(300000) for _ in range(100)]\nfor i in range(8): pickle.loads(pickle.dumps(x))",
        "python, str join": "for k in range(12): s = ''.join(str(i) for i in range(300000))",
        "numpy, zeros of 40 MB": numpy + "for i in range(60): n.zeros(5000000)[:] = 1",
        "numpy, untouched zeros": numpy + "for i in range(3000): n.zeros(5000000)",
        "numpy, temporaries of 8 MB": numpy + "a = n.ones(1000000)\nfor i in range(150): b = a * 2 + a - 1",
        "numpy, temporaries of 1 MB": numpy + "a = n.ones(131072)\nfor i in range(1500): b = a * 2 + a - 1",
        "numpy, matmul": numpy + "a = n.ones((600, 600))\nfor i in range(12): a = a @ a / 600",
    }
    found = {name: ([PYTHON, "-c", code], None) for name, code in python.items()}
    found |= {
        "multiprocessing, bytes of 34 MB": ([PYTHON, workers], None),
        "64 MiB, 8 pages touched": ([built("sparse")], None),
        "fill 64 MiB": ([built("fill"), str(64 << 20), "20"], None),
        "fill 4 MiB": ([built("fill"), str(4 << 20), "300"], None),
        "fill 256 KiB": ([built("fill"), str(256 << 10), "6000"], None),
        "calloc 16 MiB": ([built("calloc")], None),
        "realloc to 48 MiB": ([built("grow")], None),
        "4 threads, 1-5 MiB": ([built("threads")], None),
        "freed by another thread": ([built("handover")], None),
        "children not waited for": ([built("unwaited")], None),
        "sort": (["/usr/bin/sort", "--parallel=1", "-S", "64M"], lines),
        "xz -1": (["/usr/bin/xz", "-1", "-c"], lines),
        "gzip": (["/usr/bin/gzip", "-c"], lines),
        "git log": (["/usr/bin/git", "-C", os.path.dirname(os.path.dirname(HERE)), "log", "--stat", "-n", "40"], None),
        "sqlite3": (["/usr/bin/sqlite3", ":memory:", "create table t(a, b); with recursive c(i) as (select 1 union all select i + 1 from c where "
                     "i < 250000) insert into t select i, hex(i * 7919) from c; select count(*) from (select b from t order by b)"], None),
        "perl, strings of 5 MB": (["/usr/bin/perl", "-e", 'for (1..120) { my $s = "x" x 5000000; my $t = $s . "y"; }'], None),
        "perl, hash": (["/usr/bin/perl", "-e", 'my %h; $h{$_ * 7919 % 1000003} = $_ for 1..400000; print scalar keys %h'], None),
        "ruby, strings of 8 MB": (["/usr/bin/ruby", "-e", '120.times { |i| s = "x" * 8_000_000; s << "y" }'], None),
        "node, Buffers of 8 MB": (["/usr/bin/node", "-e", "for (let i = 0; i < 60; i++) Buffer.alloc(8e6, 1)"], None),
        "php, strings of 4 MB": (["/usr/bin/php", "-r", 'for ($i = 0; $i < 200; $i++) { $s = str_repeat("x", 4000000); $t = $s . "y"; }'], None),
        "grep": (["/usr/bin/grep", "-c", "99.*text"], lines),
        "gcc": (["/usr/bin/gcc", "-O2", "-w", "-c", "-x", "c", file("source.c", "".join(
            f"int f{i}(int a) {{ int s = 0; for (int k = 0; k < a; k++) s += k * {i} ^ a; return s; }}\n" for i in range(400))), "-o", "/dev/null"], None),
    }
    return {name: entry for name, entry in found.items() if os.access(entry[0][0], os.X_OK)}


def ask(folder, argv, stdin, max_time):
    """(advise's answer, compare's result), parsed."""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    answers = []
    for words in (("advise", "-q", "--max-time", max_time), ("compare", "-q", "-n", "8", "-a", "glibc,zeropool")):
        stored = os.path.join(folder, f"{len(os.listdir(folder))}.json")
        done = subprocess.run([ZEROPOOL, *words, "--json", stored, *(("--input", stdin) if stdin else ()), "--", *argv], env=env,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
                              check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        with open(stored, encoding="utf-8") as file:
            answers.append(json.load(file))
    return answers


def verdict(saved):
    return "yes" if saved >= WORTH else "do not use it" if saved <= -WORTH else "no"


def main(words):
    max_time = "20"
    if words[:1] == ["--max-time"]:
        max_time, words = words[1], words[2:]
    right = close = n = 0
    with tempfile.TemporaryDirectory(prefix="zeropool-judge-") as folder:
        for name, (argv, stdin) in programs(folder).items():
            if words and name not in words:
                continue
            try:
                said, compared = ask(folder, argv, stdin, max_time)
            except RuntimeError as error:
                print(f"| {name} | failed: {str(error).splitlines()[-1:]} |", flush=True)
                continue
            ratio = compared["variants"][1]["ratio"]
            true = 1 - ratio["cpu_s"]["value"]
            low, high = 1 - ratio["cpu_s"]["high"], 1 - ratio["cpu_s"]["low"]
            word = verdict(true)
            open_question = word != said["verdict"] and said["verdict"] in {verdict(low), verdict(high), verdict(min(max(0.0, low), high))}
            ok = said["verdict"] == word or abs(abs(true) - WORTH) <= NEAR or open_question
            near = abs(said["share"] - true) <= 0.10
            right, close, n = right + ok, close + near, n + 1
            print(f"| {name} | {said['verdict']} | {100 * said['share']:.0f} ({100 * said['low']:.0f} to {100 * said['high']:.0f}) | {said['rounds']} | "
                  f"{word} | {100 * true:.0f} ({100 * low:.0f} to {100 * high:.0f}) | {'?' if open_question else ''}"
                  f"{'' if ok else 'wrong '}{'' if near else 'far'} |", flush=True)
    print(f"{right} of {n} answers right, {close} of {n} savings within 10 % of the run time")
    return 0 if n and right >= 0.95 * n and close >= 0.9 * n else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
