#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs under a library whose kernel calls fail: output and exit status must be those of the run without it.

usage: faults.py [--long] FAULT_LIBRARY FOLDER PART...

FOLDER holds the test programs. Parts:
  each     every kernel call that a program's run makes fails once, with every errno (without --long: one errno each, in turn)
  kind     all calls of one kind always fail, each kind in turn: no thread, no advice, no mapping, ...
  random   calls fail by chance, from one in two to one in thirty
  filter   a seccomp filter inherited from the parent refuses one system call, each in turn
"""
import argparse
import collections
import errno
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ERRNOS = (errno.ENOMEM, errno.EINVAL, errno.EPERM, errno.EAGAIN, errno.ENOSYS)
KINDS = ("mmap", "munmap", "mremap", "madvise", "mprotect", "mlock", "mincore", "membarrier", "thread")
FILTERED = ("membarrier", "madvise", "mremap", "mprotect", "mincore", "munlock", "clone", "prctl", "sched_getaffinity", "sysinfo",
            "clock_nanosleep")
SKIP = 77

PYTHON = """
import zlib
blocks = [bytes([i % 251]) * (70000 * (i % 40 + 1)) for i in range(50)]
grown = bytearray()
for b in blocks: grown += b
del blocks[::2]
print(len(grown), zlib.crc32(grown), sum(map(len, blocks)), len(sorted(range(400000), reverse=True)))
"""
PERL = "my @a = map { 'x' x (50000 * $_) } 1..40; my $s = join '', @a; splice @a, 5, 20; $s .= $s; print length($s), ' ', unpack('%32C*', $s), qq(\\n);"
SQL = "create table t(a, b); with recursive n(i) as (select 1 union all select i+1 from n where i<60000) insert into t select i, hex(i*i) from n; " \
      "select count(*), sum(a), max(length(b)) from t; select group_concat(b, '') is not null from t; create index i on t(b); " \
      "select length(hex(zeroblob(3000000)));"


def programs(folder, scratch):
    """(name, command); those that are not installed are left out."""
    text = os.path.join(scratch, "text")
    with open(text, "w", encoding="utf-8") as file:
        for i in range(60000):
            file.write(f"{i * 7919 % 60013} {'word ' * (i % 9)}\n")
    source = os.path.join(scratch, "a.c")
    with open(source, "w", encoding="utf-8") as file:
        file.write("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n")
        file.write("\n".join(f"int v{i} = {i};" for i in range(5000)))
    wanted = [
        ("sort", ["sort", "-n", "-S", "8M", text]),
        ("python", [sys.executable, "-S", "-c", PYTHON]),
        ("perl", ["perl", "-e", PERL]),
        ("xz", ["sh", "-c", f"xz -1 -T2 -c {text} | xz -dc | cksum"]),
        ("sqlite3", ["sqlite3", ":memory:", SQL]),
        ("gcc", ["gcc", "-E", source]),
        ("tar", ["sh", "-c", f"tar -b 2000 -C {scratch} -cf - text a.c | tar -b 2000 -tf -"]),
        ("cases-work", [f"{folder}/worlds/world", "work"]),
        ("cases-threads", [f"{folder}/rules", "threads"]),
        ("cases-children", [f"{folder}/rules", "children"]),
    ]
    return [(name, command) for name, command in wanted if shutil.which(command[0])]


def run(command, settings):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ZEROPOOL_", "ZP_")) and k != "LD_PRELOAD"}
    environment.update({"MALLOC_PERTURB_": "0", "LC_ALL": "C", "PYTHONHASHSEED": "0"}, **settings)
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          start_new_session=True) as process:
        try:
            output, messages = process.communicate(timeout=60)
            return process.returncode, output, messages
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return "hang", *process.communicate()


class Suite:
    def __init__(self, options, scratch):
        self.options, self.count_file = options, os.path.join(scratch, "count")
        self.programs = programs(options.folder, scratch)
        self.bare = {name: run(command, {}) for name, command in self.programs}
        self.n_runs, self.bad = collections.Counter(), []

    def differs(self, part, name, command, settings, what, bare_alike=None):
        """One run; what the library did in it must not be seen, except on stderr.

        Where there is bare_alike, the program itself may mind what is refused: that run without the library counts then, unless it fails."""
        if len(self.bad) >= 20:
            return
        bare = self.bare[name]
        ours = run(command, {"LD_PRELOAD": self.options.library, **settings})
        if ours[:2] != bare[:2] and bare_alike:
            bare = bare_alike()
            if bare[0] != 0:
                return
        self.n_runs[part] += 1
        if ours[:2] != bare[:2]:
            self.bad.append(f"{name}, {what}: {bare[0]} became {ours[0]}; {ours[1][-100:]!r} {ours[2][-300:].decode(errors='replace')}")
            print("FAIL " + self.bad[-1], flush=True)

    def calls_of(self, command):
        with open(self.count_file, "wb") as file:
            file.write(bytes(8))
        run(command, {"LD_PRELOAD": self.options.library, "ZP_FAULT_COUNT": self.count_file})
        with open(self.count_file, "rb") as file:
            return struct.unpack("q", file.read())[0]

    def each(self):
        for name, command in self.programs:
            n_calls = self.calls_of(command)
            # The number differs a little from run to run where there are threads.
            step = 1 if self.options.long else max(1, n_calls // 6)
            for k in range(0, n_calls + 2, step):
                for error in ERRNOS if self.options.long else (ERRNOS[k // step % len(ERRNOS)],):
                    self.differs("each", name, command, {"ZP_FAULT_AT": str(k), "ZP_FAULT_ERRNO": str(error)},
                                 f"call {k} of {n_calls} fails with {errno.errorcode[error]}")
            print(f"{name}: {n_calls} kernel calls", flush=True)

    def kind(self):
        for i, (name, command) in enumerate(self.programs):
            for call, kind in enumerate(KINDS):
                if not self.options.long and (call + i) % 2:
                    continue
                for error in ERRNOS if self.options.long else (ERRNOS[(call + i) % len(ERRNOS)],):
                    self.differs("kind", name, command, {"ZP_FAULT_CALL": str(call), "ZP_FAULT_ONE_IN": "1", "ZP_FAULT_ERRNO": str(error)},
                                 f"every {kind} fails with {errno.errorcode[error]}")

    def random(self):
        for name, command in self.programs:
            for seed in range(200 if self.options.long else 4):
                one_in, error = (2, 5, 12, 30)[seed % 4], ERRNOS[seed % len(ERRNOS)]
                threshold = ("32K", "1")[seed // 2 % 2]
                self.differs("random", name, command, {"ZP_FAULT_ONE_IN": str(one_in), "ZP_FAULT_SEED": str(seed),
                                                       "ZP_FAULT_ERRNO": str(error), "ZEROPOOL_THRESHOLD": threshold},
                             f"one call in {one_in} fails with {errno.errorcode[error]}, seed {seed}, threshold {threshold}")

    def filter(self):
        launcher = os.path.join(self.options.folder, "reliability", "under_filter")
        chosen = self.programs if self.options.long else [p for p in self.programs if p[0] in ("python", "cases-work", "sort", "cases-children")]
        for name, command in chosen:
            for call in FILTERED:
                error = ERRNOS[2] if call != "membarrier" else errno.ENOSYS
                filtered = [launcher, call, str(error), *command]
                self.differs("filter", name, filtered, {}, f"a filter refuses {call}", lambda command=filtered: run(command, {}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("library")
    parser.add_argument("folder")
    parser.add_argument("parts", nargs="+", choices=("each", "kind", "random", "filter"))
    options = parser.parse_args()
    options.library, options.folder = os.path.abspath(options.library), os.path.abspath(options.folder)
    with tempfile.TemporaryDirectory() as scratch:
        suite, start = Suite(options, scratch), time.monotonic()
        if not suite.calls_of([f"{options.folder}/worlds/world", "work"]):
            sys.exit("the library is not loaded, or makes no kernel calls")
        for part in options.parts:
            getattr(suite, part)()
    runs = ", ".join(f"{n} of {part}" for part, n in suite.n_runs.items())
    print(f"{len(suite.programs)} programs, runs: {runs}; {len(suite.bad)} differ; {time.monotonic() - start:.0f} s")
    return 1 if suite.bad else 0 if suite.n_runs else SKIP


if __name__ == "__main__":
    sys.exit(main())
