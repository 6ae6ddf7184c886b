#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Verifies a Promela model exhaustively, and that each of its mutants, with one rule of the protocol left out, is found wrong.

usage: check_model.py MODEL.pml [large]      exit status 0 good, 1 bad, 77 no spin or no compiler
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

DEPTH = 200000
MEMORY_MB = 4096


def verify(model, defines):
    """(errors, what spin's verifier printed)"""
    with tempfile.TemporaryDirectory(prefix="zeropool-model-") as folder:
        made = subprocess.run(["spin", "-a", *(f"-D{name}" for name in defines), model], cwd=folder, capture_output=True, text=True, check=False)
        if made.returncode or "error" in made.stdout.lower() or not os.path.exists(f"{folder}/pan.c"):
            return None, made.stdout + made.stderr
        # Processes with `provided` clauses rule out the partial-order reduction.
        reduce = ["-DNOREDUCE"] if re.search(r"\bprovided\b", open(model, encoding="utf-8").read()) else []
        subprocess.run(["cc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", *reduce, f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c"],
                       cwd=folder, check=True)
        ran = subprocess.run(["./pan", f"-m{DEPTH}"], cwd=folder, capture_output=True, text=True, check=False)
        errors = re.search(r"errors: (\d+)", ran.stdout)
        if not errors or "max search depth too small" in ran.stdout or "out of memory" in ran.stdout:
            return None, ran.stdout + ran.stderr
        return int(errors.group(1)), ran.stdout


def main(model, size="small"):
    if not shutil.which("spin") or not shutil.which("cc"):
        print("SKIP: no spin" if not shutil.which("spin") else "SKIP: no C compiler")
        return 77
    model = os.path.abspath(model)
    large = ["LARGE"] if size == "large" else []
    with open(model, encoding="utf-8") as file:
        mutants = re.search(r"mutants: ([A-Z_ ]+)", file.read()).group(1).split()
    errors, output = verify(model, large)
    if errors != 0:
        print(f"the model itself: {output}")
        return 1
    states = re.search(r"(\S+) states, stored", output).group(1)
    print(f"{os.path.basename(model)}: {states} states, no error")
    bad = 0
    for mutant in mutants:
        errors, output = verify(model, large + [mutant])
        print(f"  {mutant}: {'found wrong, as it must be' if errors else 'NOT FOUND WRONG'}")
        if not errors:
            print(output)
            bad = 1
    return bad


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
