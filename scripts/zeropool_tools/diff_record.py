# SPDX-License-Identifier: MIT
"""Two recordings against one another: totals, kinds of time, the functions that changed most, a differential flamegraph."""
import math
import os
import shlex

from . import flame, folded, record_store, record_text, results, table
from .diff_compare import Growth
from .errors import ToolError, say

MOST_FUNCTIONS = 12


def show(sides, paths, values):
    """Prints what changed; ([Growth] of what costs more now, next command)."""
    if sides[0]["event"] != sides[1]["event"]:
        raise ToolError(f"{paths[0]} recorded {sides[0]['event']}, {paths[1]} {sides[1]['event']}")
    pairs = pair(sides, values["only"], paths)
    if sides[0]["command"] != sides[1]["command"]:
        print(f"note: different commands: {shlex.join(sides[0]['command'])} and {shlex.join(sides[1]['command'])}")
    print(f"A is {paths[0]}, B is {paths[1]}")
    found = []
    for before, after in pairs:
        name = before["name"] if before["name"] == after["name"] else f"{before['name']} -> {after['name']}"
        unit = before["unit"]
        print("\n" + record_text.changes({**before, "name": "A"}, {**after, "name": f"{name}: B"}))
        stacks = [record_store.read_stacks(os.path.join(folder_of(path), item["folder"], "stacks.folded"))
                  for path, item in zip(paths, (before, after))]
        rows = functions(stacks, unit)
        if rows:
            print(table.align(rows, ("function", "self in A", "self in B", "change")), flush=True)
        if after["total"] > before["total"]:
            percent = 100 * (after["total"] - before["total"]) / before["total"] if before["total"] else math.inf
            noise = sampling_noise(before, after)
            doubt = f"with so few samples a change below {noise:.0f} % says nothing; record with a larger -F" if percent <= noise else ""
            found.append(Growth(f"{record_text.NOUNS[unit]} of {name}", percent, doubt))
            if doubt:
                print(f"note: {doubt}")
    if values["svg"]:
        store_picture(sides, pairs, paths, values["svg"])
        return found, f"open {shlex.quote(values['svg'])} in a browser"
    return found, f"zeropool diff --svg diff.svg {shlex.quote(paths[0])} {shlex.quote(paths[1])}"


def sampling_noise(before, after):
    """Two standard deviations of the change, in percent, as if samples came by chance: an upper bound."""
    if not before["samples"] or not after["samples"]:
        return 0.0
    return 200 * math.sqrt(1 / before["samples"] + 1 / after["samples"])


def folder_of(path):
    return path if os.path.isdir(path) else os.path.dirname(path) or "."


def pair(sides, only, paths):
    """Allocators of the same name; where both sides have one only, those."""
    left, right = (side["variants"] for side in sides)
    if only is None and len(left) == len(right) == 1:
        return [(left[0], right[0])]
    theirs = {item["name"]: item for item in right}
    pairs = [(item, theirs[item["name"]]) for item in left if item["name"] in theirs and only in (None, item["name"])]
    if not pairs:
        raise ToolError(f"{paths[0]} and {paths[1]} have {'no allocator' if only is None else f'no {only}'} in common")
    return pairs


def functions(stacks, unit):
    """Rows of the functions whose own weight changed most."""
    own = [{name: mine for name, (mine, _) in folded.by_function(side).items()} for side in stacks]
    changed = sorted(((own[1].get(n, 0) - own[0].get(n, 0), n) for n in set(own[0]) | set(own[1])), key=lambda c: (-abs(c[0]), c[1]))
    return [[name, flame.amount(own[0].get(name, 0), unit), flame.amount(own[1].get(name, 0), unit),
             f"{'+' if step > 0 else '-'}{flame.amount(abs(step), unit)}"] for step, name in changed[:MOST_FUNCTIONS] if step]


def store_picture(sides, pairs, paths, target):
    before, after = pairs[-1]
    if len(pairs) > 1:
        say(f"{target} shows {before['name']}; --only NAME chooses another")
    stacks = [record_store.read_stacks(os.path.join(folder_of(path), item["folder"], "stacks.folded"))
              for path, item in zip(paths, (before, after))]
    results.store(target, record_store.difference(sides[1]["command"], (before, after), stacks, labels=("A", "B")))
    say(f"stored {target}")
