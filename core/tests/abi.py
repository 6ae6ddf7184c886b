#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The binary interface of libzeropool.so is the one that is recorded: programs that were built before go on working.

usage: abi.py [--update] RECORDED LIBRARY HEADERS
       LIBRARY with debugging information of api.c; HEADERS: the folder of zeropool.h

What is new is no fault, but is to be recorded: --update does that. Exit status: 0 the same, 1 not, 77 abigail-tools is missing.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HOW = """If programs built before go on working (a new function; a new field at the end of zp_config or zp_stats), record it:
    {command}
Otherwise they do not: keep what was there, or raise the soversion in core/meson.build and the version, and record that."""
# Changes that abidiff calls compatible: new functions, new fields at the end. Bits of its exit status.
ERROR, WRONG_USAGE, CHANGED, INCOMPATIBLE = 1, 2, 4, 8


def record(library, headers):
    """What abidw says of the public types and functions, without what depends on where and when it was built, or is not public."""
    command = ["abidw", "--headers-dir", headers, "--drop-private-types", "--no-corpus-path", "--no-comp-dir-path", "--no-show-locs",
               "--no-elf-needed", library]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r"^ *<function-decl (?:(?!elf-symbol-id)[^>])*>\n(?:(?!.*<function-decl).*\n)*? *</function-decl>\n", "", text, flags=re.M)


def main(words):
    update = words[:1] == ["--update"]
    recorded, library, headers = words[update:]
    if not shutil.which("abidiff") or not shutil.which("abidw"):
        print("abidiff is missing; on Debian: apt-get install abigail-tools")
        return 77
    text = record(library, headers)
    if update:
        with open(recorded, "w", encoding="utf-8") as file:
            file.write(text)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        now = os.path.join(folder, "now.abi")
        with open(now, "w", encoding="utf-8") as file:
            file.write(text)
        result = subprocess.run(["abidiff", recorded, now], capture_output=True, text=True, check=False)
    if result.returncode == 0 and "zp_pool_create" in text and "zp_stats" in text:
        print("the binary interface is as recorded")
        return 0
    kind = "not compatible with" if result.returncode & (INCOMPATIBLE | ERROR | WRONG_USAGE) else "other than"
    print(f"The binary interface of libzeropool.so is {kind} what {os.path.basename(recorded)} records.\n{result.stdout}{result.stderr}")
    print(HOW.format(command=f"python3 {sys.argv[0]} --update {recorded} {library} {headers}"))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
