# SPDX-License-Identifier: MIT
"""Who calls the allocator: the frame outside the outermost allocator function of a stack, with its source line where one is known.

perf names function and offset; the line comes from addr2line, asked once per module for the callers that weigh most.
"""
import os
import shutil
import subprocess
from collections import Counter, defaultdict

from . import flame, folded

MOST = 30  # callers whose lines are looked up
HEADINGS = ("caller of the allocator", "weight", "share", "line")
TIMEOUT_S = 60


def of_stacks(stacks):
    """Rows for report from folded stacks, which hold no lines."""
    found = Counter()
    for stack, weight in stacks.items():
        for name, inner in zip(stack, stack[1:]):
            if folded.ALLOCATOR.match(inner):
                found[name] += weight
                break
    return [[name, "", weight] for name, weight in found.most_common(MOST)]


def with_lines(callers):
    """[[function, line, weight]] of a Counter of folded.caller_of() keys, the heaviest first; calls from one line are one."""
    wanted = [key for key, _ in callers.most_common(MOST)]
    by_module = defaultdict(list)
    for key in wanted:
        if key[1] is not None and os.path.isfile(key[2]):
            by_module[key[2]].append(key)
    lines = {}
    for module, keys in by_module.items():
        lines.update(look_up(module, keys))
    merged = Counter()
    for key in wanted:
        merged[key[0], lines.get(key, "")] += callers[key]
    return [[name, line, weight] for (name, line), weight in merged.most_common()]


def run(words, text=None):
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False,
                              env={**os.environ, "LC_ALL": "C", "DEBUGINFOD_URLS": "", "LD_PRELOAD": ""})
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def look_up(module, keys):
    """{key: 'file:line'} for those of one module that have one."""
    if not shutil.which("addr2line") or not shutil.which("nm"):
        return {}
    names = {key[0] for key in keys}
    starts, several = {}, set()
    for line in run(["nm", "-C", "--defined-only", module]).splitlines():
        words = line.split(" ", 2)
        if len(words) == 3 and words[1] in "TtWwiVu" and words[2] in names:
            address = int(words[0], 16)
            if starts.setdefault(words[2], address) != address:
                several.add(words[2])  # static functions of one name: which one is not known
    asked = [key for key in keys if key[0] in starts and key[0] not in several]
    # A return address is that of the next instruction, perhaps of the next line.
    answers = run(["addr2line", "-e", module], "".join(f"{starts[key[0]] + max(0, key[1] - 1):#x}\n" for key in asked)).splitlines()
    found = {}
    for key, answer in zip(asked, answers):
        place = answer.split(" (discriminator")[0]
        if place and not place.startswith("??") and not place.endswith((":0", ":?")):
            found[key] = place
    return found


def rows(found, unit, total, limit):
    """Cells of the table under HEADINGS; none of what is not as with_lines() makes it, as stored recordings may be damaged."""
    if not all(isinstance(each, list) and len(each) == 3 and isinstance(each[2], int) and isinstance(each[0], str) for each in found):
        return []
    return [[name, flame.amount(weight, unit), flame.share(weight, total), line or "-"] for name, line, weight in found[:limit]]
