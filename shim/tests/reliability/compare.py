#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs each case of a test program without the library and with it, and holds the results against each other.

usage: compare.py [--lib FILE] [--timeout S] [--variants A,B] [--set NAME=VALUE] PROGRAM CASE...

The program prints what it finds, the same at every run. A line may end in "refused" without the library and "ok" with it,
not the other way: nothing that succeeds without the library may fail with it. Exit status 77 of the run without is a skip.
Lines that begin with "measured" are not compared, but shown.
"""
import argparse
import os
import signal
import subprocess
import sys

# What the pool serves, and who gives memory back: the defaults, everything, and without the background task.
VARIANTS = {
    "default": {},
    "all": {"ZEROPOOL_THRESHOLD": "1"},
    "alone": {"ZEROPOOL_BACKGROUND": "off"},
}
SKIP = 77


def run(command, environment, timeout):
    """(status, output, messages); the status of a run that had to be ended is "hang"."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True)
    try:
        output, messages = process.communicate(timeout=timeout)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, messages = process.communicate()
        status = "hang"
    return status, output.decode(errors="replace"), messages.decode(errors="replace")


def line_allowed(bare, ours):
    if bare == ours:
        return True
    return bare.endswith("refused") and ours.endswith("ok") and bare[:-len("refused")] == ours[:-len("ok")]


def measured(run_result):
    return ", ".join(line[len("measured"):].strip() for line in run_result[1].splitlines() if line.startswith("measured"))


def compared(run_result):
    return [line for line in run_result[1].splitlines() if not line.startswith("measured")]


def differences(bare, ours):
    """What is wrong with the second run, as lines; the message stream may differ."""
    found = []
    if bare[0] != ours[0]:
        found.append(f"exit status {bare[0]} became {ours[0]}")
    a, b = compared(bare), compared(ours)
    if len(a) != len(b):
        found.append(f"{len(a)} lines of output became {len(b)}: {b[-3:]}")
    found += [f"'{x}' became '{y}'" for x, y in zip(a, b) if not line_allowed(x, y)]
    return found


def environment_of(lib, settings, variant):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ZEROPOOL_") and k != "LD_PRELOAD"}
    environment["MALLOC_PERTURB_"] = "0"
    environment.update(settings)
    if variant is not None:
        before = environment.get("LD_PRELOAD")
        environment["LD_PRELOAD"] = f"{lib}:{before}" if before else lib
        environment.update(VARIANTS[variant])
    return environment


def check_case(options, case):
    """None for a skip, else the number of variants that differ."""
    command = [options.program, case]
    bare = run(command, environment_of(options.lib, options.set, None), options.timeout)
    if bare[0] == SKIP:
        print(f"skip {case}: {bare[2].strip() or bare[1].strip()}")
        return None
    if bare[0] != 0:
        print(f"FAIL {case}: does not even work without the library: {bare[0]} {bare[1][-300:]} {bare[2][-300:]}")
        return 1
    n_bad = 0
    told = [measured(bare)]
    for variant in options.variants.split(","):
        ours = run(command, environment_of(options.lib, options.set, variant), options.timeout)
        wrong = differences(bare, ours)
        told.append(measured(ours))
        if wrong:
            n_bad += 1
            print(f"FAIL {case} ({variant}): " + "; ".join(wrong[:5]))
            if ours[2].strip():
                print("     messages: " + ours[2].strip()[-400:])
    if not n_bad:
        print(f"ok   {case}" + (": " + " -> ".join(told) if any(told) else ""))
    return n_bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", default=os.environ.get("ZP_PRELOAD_LIB"))
    parser.add_argument("--timeout", type=float, default=float(os.environ.get("ZP_TEST_TIMEOUT_S", "30")))
    parser.add_argument("--variants", default="default,all,alone")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("program")
    parser.add_argument("cases", nargs="*", default=[])
    options = parser.parse_args()
    if not options.lib:
        parser.error("--lib or ZP_PRELOAD_LIB must name the preload library")
    options.set = dict(item.split("=", 1) for item in options.set)
    results = [check_case(options, case) for case in options.cases]
    if any(results):
        return 1
    return SKIP if all(r is None for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
