#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What calls go through is read-only once it is known: the tables lie in the part that the loader seals, a write to them ends the process, and of
all that the library can write only the words named here point to code.

usage: sealed.py PRELOAD_LIBRARY HARDENED_LIBRARY PROGRAM
"""
import bisect
import os
import re
import signal
import subprocess
import sys

CORE_TABLES = ("os_calls", "original", "gettime", "next")
PRELOAD_TABLES = CORE_TABLES + (
    "real_free", "real_realloc", "system_calls", "attach", "next_operators", "role", "rest_calls", "process_next_syscall", "next_prctl",
    "next_fork", "next__Fork", "next_unshare", "next_setns", "next_tgkill", "next_pthread_create")
HARDENED_TABLES = CORE_TABLES + ("real",)
# In writable memory: where the background thread begins, read once; and what it calls for ZEROPOOL_LIVE.
LEFT = {"task_entry", "visitor"}


def read(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def check(library, tables, program, preloaded, runs):
    """What is wrong with the library in these runs, as lines."""
    wrong = []
    symbols = sorted((int(line.split()[0], 16), line.split()[2]) for line in read("nm", library).splitlines()
                     if len(line.split()) == 3 and line.split()[1] in "bBdD")
    where = {name: address for address, name in symbols}
    loads = re.findall(r"LOAD\s+\S+\s+(\S+)\s+\S+\s+\S+\s+(\S+)", read("readelf", "-lW", library))
    library_end = max(int(address, 16) + int(size, 16) for address, size in loads)
    relro = re.search(r"GNU_RELRO\s+\S+\s+(\S+)\s+\S+\s+\S+\s+(\S+)", read("readelf", "-lW", library))
    start = int(relro.group(1), 16) & ~4095
    end = int(relro.group(1), 16) + int(relro.group(2), 16) & ~4095
    wrong += [f"{name} is not in the sealed part" for name in tables if not start <= where.get(name, 0) < end]
    for settings in runs:
        environment = {**os.environ, "LD_PRELOAD": preloaded, "LOOK_INTO": os.path.basename(library), **settings}
        result = subprocess.run([program, "pointers"], env=environment, capture_output=True, text=True, timeout=60, check=False)
        if result.returncode:
            wrong.append(f"{settings}: {result.stderr}")
        for offset in (int(line, 16) for line in result.stdout.split()):
            if offset >= library_end:  # what lies behind it by chance
                continue
            at = bisect.bisect_right(symbols, (offset, "\x7f")) - 1
            if symbols[at][1] not in LEFT:
                wrong.append(f"{settings}: {symbols[at][1]} + {offset - symbols[at][0]:#x} can be written and points to code")
        for name in tables:
            result = subprocess.run([program, "write", f"{where.get(name, 0):x}"], env=environment, capture_output=True, timeout=60, check=False)
            if result.returncode != -signal.SIGSEGV:
                wrong.append(f"{settings}: {name} can be written: {result}")
    return wrong


def main(preload, hardened, program):
    by_preload = {"ZEROPOOL_HARDENED": "1"}
    runs = ({}, {"ZEROPOOL_LIVE": "on"}, by_preload, {"ZEROPOOL_BACKGROUND": "on"}, {"ZEROPOOL_STATS": "/dev/null"})
    wrong = check(preload, PRELOAD_TABLES, program, preload, runs)
    wrong += check(hardened, HARDENED_TABLES, program, hardened, ({},))
    wrong += check(hardened, HARDENED_TABLES, program, preload, (by_preload,))
    print("\n".join(wrong) or "good")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
