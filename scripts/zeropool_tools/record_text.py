# SPDX-License-Identifier: MIT
"""A recording in figures and words: where the time went, what changed, which functions are hot."""
import os
import shlex

from . import flame, folded, table
from .record_store import PICTURES

HEADINGS = ("run under", "CPU", "program", "allocator", "page faults", "unmap", "other system", "samples")
NOUNS = {"us": "processor time", "faults": "page faults", "bytes": "bytes asked for in large blocks"}


def cells(item):
    """One line of the table of a cpu recording."""
    kinds = [flame.amount(item["kinds"].get(kind, 0), "us") for kind in folded.KINDS]
    return [item["name"], flame.amount(item["total"], "us"), *kinds, str(item["samples"])]


def rows(result):
    if result["event"] == "cpu":
        return HEADINGS, [cells(item) for item in result["variants"]]
    heading = "page faults" if result["event"] == "faults" else "bytes"
    return ("run under", heading, "samples"), [
        [item["name"], flame.amount(item["total"], item["unit"]), str(item["samples"])]
        for item in result["variants"]]


def summary(result):
    headings, lines = rows(result)
    parts = [f"{shlex.join(result['command'])}: {NOUNS[result['variants'][0]['unit']]}, sampled", table.align(lines, headings)]
    items = result["variants"]
    parts += ["", *(changes(items[0], item) for item in items[1:])] if len(items) > 1 else []
    return "\n".join(parts)


def percent(before, after):
    if not before:
        return "new" if after else "0 %"
    return f"{'+' if after > before else ''}{100 * (after - before) / before:.0f} %"


def changes(before, after):
    """`zeropool against glibc: 2.85 -> 1.02 s (-64 %); page faults -1.60 s, ...`, the largest change first."""
    unit = before["unit"]
    text = (f"{after['name']} against {before['name']}: {flame.amount(before['total'], unit)} -> "
            f"{flame.amount(after['total'], unit)} ({percent(before['total'], after['total'])})")
    if unit != "us":
        return text
    steps = sorted(((after["kinds"].get(k, 0) - before["kinds"].get(k, 0), k) for k in folded.KINDS), key=lambda s: -abs(s[0]))
    return text + ": " + ", ".join(f"{kind} {step / 1e6:+.2f} s" for step, kind in steps if step)


def hot(stacks, unit, limit=12):
    """Rows of the functions with the most weight of their own."""
    total = sum(stacks.values())
    found = sorted(folded.by_function(stacks).items(), key=lambda f: (-f[1][0], f[0]))[:limit]
    return [[name, flame.amount(own, unit), flame.share(own, total), flame.share(through, total)]
            for name, (own, through) in found if own]


HOT_HEADINGS = ("function", "self", "self share", "with callees")


def files(folder):
    """What lies in the folder, worth opening first."""
    names = [n for n in (*reversed(PICTURES), "flamegraph.svg", "report.txt", "annotate.txt", "stacks.folded")
             if os.path.isfile(os.path.join(folder, n))]
    names += sorted(n + "/" for n in os.listdir(folder) if os.path.isfile(os.path.join(folder, n, "stacks.folded")))
    return ", ".join(names) or "record.json"
