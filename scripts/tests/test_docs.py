#!/usr/bin/python3 -I
# SPDX-License-Identifier: MIT
"""Runs the commands that the documentation shows, so that it stays true.

Every ```sh block of README.md and docs/ is run by sh -eu, one after the other, from the
top of the source tree, with a folder of its own in $TMPDIR. Blocks marked ```console or ```text are not run. A block
below a line `<!-- doctest: skip because REASON -->` is counted as skipped. A line `<!-- doctest: status N -->` expects
that exit status instead of 0.
"""
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
FENCE = re.compile(r"^( *)(`{3,})(\w*)\s*$")
MARK = re.compile(r"^\s*<!-- doctest: (?:skip because (?P<why>.+?)|status (?P<status>\d+)) -->\s*$")
TIMEOUT_S = 180


def blocks(text):
    """(line number, language, text, skip reason or None, expected status) of every fenced block."""
    found, mark, lines = [], None, iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if MARK.match(line):
            mark = MARK.match(line)
            continue
        fence = FENCE.match(line)
        if fence:
            indent, ticks, language = fence.groups()
            body = []
            for _, inner in lines:
                if inner.strip() == ticks:
                    break
                body.append(inner.removeprefix(indent))
            else:
                raise ValueError(f"line {number}: a block that does not end")
            found.append((number, language, "\n".join(body) + "\n", mark["why"] if mark else None,
                          int(mark["status"] or 0) if mark else 0))
        if line.strip():
            mark = None
    return found


def run_block(text, folder):
    """(status, output)."""
    env = {**os.environ, "TMPDIR": folder, "MALLOC_PERTURB_": "0"}
    with subprocess.Popen(["/bin/sh", "-eu", "-c", text], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=TIMEOUT_S)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return -1, process.communicate()[0] + f"\nlonger than {TIMEOUT_S} s"


def main(names):
    files = names or [os.path.join(ROOT, "README.md"), *sorted(glob.glob(os.path.join(ROOT, "docs", "**", "*.md"),
                                                                           recursive=True))]
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for path in files:
        shown = os.path.relpath(path, ROOT)
        try:
            with open(path, encoding="utf-8") as file:
                todo = [b for b in blocks(file.read()) if b[1] == "sh"]
        except (OSError, ValueError) as error:
            print(f"FAIL: {shown}: {error}")
            counts["failed"] += 1
            continue
        for number, _, text, why, expected in todo:
            place = f"{shown}:{number}"
            if why:
                print(f"SKIP: {place}: {why}", flush=True)
                counts["skipped"] += 1
                continue
            folder = tempfile.mkdtemp(prefix="zeropool-doc-")
            started = time.monotonic()
            try:
                status, output = run_block(text, folder)
            finally:
                shutil.rmtree(folder, True)
            if status == expected:
                counts["passed"] += 1
                print(f"ok: {place} ({time.monotonic() - started:.1f} s)", flush=True)
            else:
                counts["failed"] += 1
                print(f"FAIL: {place}: status {status}, not {expected}\n{text}----\n{output}", flush=True)
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
