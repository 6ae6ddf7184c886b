#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Includes go down only: os and base know nothing of pool, pool nothing of api, core nothing of shim."""
import os
import re
import sys

ALLOWED = {
    "os": {"os", "base"},
    "base": {"base", "os"},
    "pool": {"pool", "base", "os"},
    "api": {"api", "pool", "base", "os"},
}
# The background thread must know where the library's thread-local storage lies; stats.c fills the public struct.
EXCEPTIONS = {("os/os_helper.c", "pool/tcache.h"), ("pool/stats.c", "zeropool.h")}


def violations(core):
    """Lines that include what their layer must not know."""
    found = []
    for layer, allowed in ALLOWED.items():
        for name in sorted(os.listdir(os.path.join(core, layer))):
            path = f"{layer}/{name}"
            with open(os.path.join(core, path), encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                    if not match or (path, match.group(1)) in EXCEPTIONS:
                        continue
                    target = match.group(1).split("/")[0]
                    if match.group(1) == "zeropool.h" and layer == "api":
                        continue
                    if target not in allowed:
                        found.append(f"core/{path}:{number}: {layer} must not include {match.group(1)}")
    return found


if __name__ == "__main__":
    FOUND = violations(sys.argv[1])
    print("\n".join(FOUND) or "includes go down only")
    sys.exit(bool(FOUND))
