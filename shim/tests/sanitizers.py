#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs built with sanitizers do the same with the library as without it: the pool stays out of the way (shim/passive.h).

usage: sanitizers.py LIBRARY COMPILER KIND      KIND: address, leak, thread, undefined
"""
import os
import re
import subprocess
import sys
import tempfile

SKIP = 77
SOURCE = r"""
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char **reachable;
static int shared;

static void *work(void *argument)
{
    char *p = malloc(1 << 20);
    memset(p, 1, 1 << 20);
    free(p);
    if (argument) shared++;
    return NULL;
}

int main(int argc, char **argv)
{
    const char *fault = argc > 1 ? argv[1] : "";
    pthread_t thread;
    reachable = calloc(100000, sizeof *reachable);
    reachable[5] = malloc(50);
    pthread_create(&thread, NULL, work, strcmp(fault, "race") ? NULL : &thread);
    if (strcmp(fault, "race") == 0) shared++;
    pthread_join(thread, NULL);
    for (size_t n = 1 << 14; n <= 1 << 26; n *= 4) free(realloc(malloc(n), 2 * n));
    char *volatile p = malloc(100000);
    if (strcmp(fault, "overflow") == 0) p[100000] = 1;
    if (strcmp(fault, "leak") == 0) p = NULL;
    if (strcmp(fault, "shift") == 0) shared = 1 << (argc + 40);
    free(p);
    puts((uintptr_t)reachable >> 40 >= 22 && (uintptr_t)reachable >> 40 < 43 ? "pool" : "no pool");
    return 0;
}
"""
# What each must find, beside running a program without faults.
FAULTS = {"address": "overflow", "leak": "leak", "thread": "race", "undefined": "shift"}


def run(program, fault, library):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ZEROPOOL_", "LD_PRELOAD"))}
    if library:
        environment["LD_PRELOAD"] = library
    result = subprocess.run([program] + fault, env=environment, capture_output=True, text=True, timeout=100, check=False)
    said = re.findall(r"(?:SUMMARY: \w+: [\w -]+|runtime error: [\w ]+)", result.stderr)
    return result.returncode, result.stdout, said, result.stderr


def main(library, compiler, kind):
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "a.c"), os.path.join(folder, "a")
        with open(source, "w", encoding="utf-8") as file:
            file.write(SOURCE)
        made = subprocess.run([compiler, "-g", "-O0", "-pthread", f"-fsanitize={kind}", source, "-o", program], capture_output=True,
                              text=True, check=False)
        if made.returncode:
            print(f"{compiler} -fsanitize={kind} does not work here: {made.stderr[-200:]}")
            return SKIP
        wrong = 0
        for fault in ([], [FAULTS[kind]]):
            plain, ours = run(program, fault, None), run(program, fault, library)
            if not fault and plain[0]:
                print(f"a program without faults does not run here: {plain}")
                return SKIP
            wanted = plain[1] if kind != "undefined" else plain[1].replace("no pool", "pool")
            if (ours[0], ours[1], ours[2]) != (plain[0], wanted, plain[2]):
                print(f"{fault}: {plain[:3]} became {ours}")
                wrong += 1
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1]), *sys.argv[2:]))
