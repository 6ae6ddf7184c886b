#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs that rest, fork, meet limits or refusals, without the library and with it: it must not be in their way.

usage: invisible.py [--programs FOLDER] [--list] LIBRARY KIND [VARIATION...]

FOLDER holds the programs built beside this file (default: tests/invisible beside the library in a build folder).
Prints one line a variation: ok, SHORT or skip, and what was measured, without the library -> with it. Exit status 1
if one falls short, 77 if all were skipped. The variations of a kind run at once as far as memory allows, except those
that measure speed. One that falls short is tried again by itself: on a busy machine a program that should rest for a
second may not have run at all. It is SHORT if it falls short each of three times. "limit" is what is known to fall
short and stands in docs/reliability.md.
"""
import argparse
import os
import sys
import threading

import calls
import memory
import world
from harness import Place, Skipped

SKIP = 77
TRIES = 3
KNOWN_LIMITS = {
    ("tasks", "python-pool-then-fork"), ("tasks", "python-large-pool-then-fork"),
}
KINDS = {**memory.KINDS, **world.KINDS, **calls.KINDS}


class Memory:
    """Two thirds of what is available, shared by the variations that run."""

    def __init__(self):
        with open("/proc/meminfo", encoding="ascii") as file:
            available = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
        self.all = self.left = available // 1024 * 2 // 3
        self.changed = threading.Condition()

    def take(self, mib):
        if mib > self.all:
            raise Skipped(f"needs {mib} MiB, two thirds of the memory available are {self.all}")
        with self.changed:
            self.changed.wait_for(lambda: self.left >= mib)
            self.left -= mib

    def give(self, mib):
        with self.changed:
            self.left += mib
            self.changed.notify_all()


class Outcome:
    def __init__(self):
        self.lock = threading.Lock()
        self.n = {"ok": 0, "SHORT": 0, "skip": 0, "limit": 0}
        self.again = []

    def add(self, kind, name, word, text):
        with self.lock:
            self.n[word] += 1
            print(f"{word:5} {kind} {name}: {text}", flush=True)


def try_one(kind, variation, room, outcome, last=False):
    """Run it; what falls short is put aside for another try unless this is the last."""
    try:
        room.take(variation.mib)
        try:
            good, text = variation.run()
        finally:
            room.give(variation.mib)
    except Skipped as why:
        outcome.add(kind, variation.name, "skip", why)
        return
    except Exception as error:  # a fault of the test itself must not pass for a result
        good, text = False, f"the test failed: {error!r}"
    if good:
        outcome.add(kind, variation.name, "ok", text)
    elif (kind, variation.name) in KNOWN_LIMITS:
        outcome.add(kind, variation.name, "limit", text)
    elif last:
        outcome.add(kind, variation.name, "SHORT", text)
    else:
        with outcome.lock:
            outcome.again.append(variation)
            print(f"again {kind} {variation.name}: {text}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs")
    parser.add_argument("--list", action="store_true", help="name the variations instead of running them")
    parser.add_argument("library")
    parser.add_argument("kind", choices=[*KINDS, "all"])
    parser.add_argument("variations", nargs="*")
    options = parser.parse_args()
    Place.library = os.path.abspath(options.library)
    Place.folder = os.path.abspath(options.programs or os.path.join(os.path.dirname(Place.library), "tests", "invisible"))
    outcome, room = Outcome(), Memory()
    for kind in KINDS if options.kind == "all" else [options.kind]:
        chosen = [v for v in KINDS[kind] if not options.variations or v.name in options.variations]
        if options.list:
            print(*(f"{kind} {v.name}" for v in chosen), sep="\n")
            continue
        together = [threading.Thread(target=try_one, args=(kind, v, room, outcome)) for v in chosen if not v.alone]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        for variation in chosen:
            if variation.alone:
                try_one(kind, variation, room, outcome)
        for n in range(1, TRIES):
            again, outcome.again = outcome.again, []
            for variation in again:
                try_one(kind, variation, room, outcome, last=n == TRIES - 1)
    print(f"{outcome.n['ok']} ok, {outcome.n['SHORT']} short, {outcome.n['skip']} skipped, {outcome.n['limit']} known limits")
    return 1 if outcome.n["SHORT"] else 0 if outcome.n["ok"] or options.list else SKIP


if __name__ == "__main__":
    sys.exit(main())
