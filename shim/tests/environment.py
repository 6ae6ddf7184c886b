#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A bad value in a ZEROPOOL_* variable warns once, says what is accepted and keeps the default; the program is not disturbed. Where the
library of the hardened mode is missing, that is said once.

usage: environment.py LIBRARY OPTIONS_H HARDENED_LIBRARY
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

BAD = {"NUMBER": ("abc", "", "-1", "1x", "99999999999999999999", "12 34"), "CHOICE": ("maybe", "", "ON")}


def table(options_header):
    """(variable, kind) of every row of the option table."""
    with open(options_header, encoding="utf-8") as file:
        return re.findall(r'(NUMBER|CHOICE)\(\w+, "(ZEROPOOL_\w+)"', file.read())


def run(library, settings):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ZEROPOOL_")}
    return subprocess.run(["/bin/echo", "text"], capture_output=True, text=True, check=False,
                          env=environment | settings | {"LD_PRELOAD": library})


def check_hardened(library, hardened):
    """Found beside the preload library, however that was named; and what happens where it is not."""
    with tempfile.TemporaryDirectory() as folder:
        alone = shutil.copy(library, folder)
        result = run(alone, {"ZEROPOOL_HARDENED": "1"})
        if (result.returncode, result.stdout) != (0, "text\n") or result.stderr.count("\n") != 1 or "mode is off" not in result.stderr:
            yield f"without the library of the hardened mode: {result}"
        shutil.copy(hardened, folder)
        result = run(os.path.relpath(alone), {"ZEROPOOL_HARDENED": "1"})
        if (result.returncode, result.stdout, result.stderr) != (0, "text\n", ""):
            yield f"by a relative path, with the library of the hardened mode: {result}"
    result = run(hardened, {"ZEROPOOL_HARDENED": "1", "ZEROPOOL_THRESHOLD": "large"})
    if (result.returncode, result.stdout) != (0, "text\n") or result.stderr.count("keeping the default") != 1:
        yield f"a bad value, the library of the hardened mode preloaded: {result}"


def main(library, options_header, hardened):
    wrong = []
    rows = table(options_header)
    if len(rows) < 8:
        wrong.append(f"only {len(rows)} options found in the table")
    for kind, variable in rows:
        for value in BAD[kind]:
            result = run(library, {variable: value})
            said = result.stderr.splitlines()
            if result.stdout != "text\n" or result.returncode:
                wrong.append(f"{variable}={value}: the program is disturbed: {result}")
            if len(said) != 1 or not re.match(rf"zeropool: {variable}=.*expected .*; keeping the default$", said[0]):
                wrong.append(f"{variable}={value}: said {said}")
    for settings in ({}, {"ZEROPOOL_THRESHOLD": "64K"}, {"ZEROPOOL_HUGE": "off", "ZEROPOOL_DECAY_MS": "0"}):
        if run(library, settings).stderr:
            wrong.append(f"{settings}: a good value is not taken in silence")
    wrong += check_hardened(library, hardened)
    print("\n".join(wrong) or f"{len(rows)} variables")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
