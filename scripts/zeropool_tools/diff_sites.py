# SPDX-License-Identifier: MIT
"""Two profiles of allocation sites against one another: the lines that changed most, and the totals.

Lines are matched by function and name of the file: a change above a line moves its number, and builds have folders of their own.
Several lines of one function are one then.
"""
import math
import os
import shlex
from collections import defaultdict

from . import sites_lines, sites_rows, table
from .diff_compare import Growth
from .errors import say
from .sites_file import Sums

MOST = 20
HEADINGS = ("function", "bytes in A", "in B", "calls in A", "in B", "peak in A", "in B", "faults glibc in A", "in B")
JUDGED = (("bytes", "bytes", table.size), ("peak", "live bytes at the peak", table.size), ("faults", "page faults under glibc", table.count))


def by_function(profile):
    lines = sites_lines.Lines()
    lines.look_up(profile.stacks, sites_lines.perf_map(profile))
    found = defaultdict(Sums)
    for (frames, _), sums in profile.stacks.items():
        places = lines.places_of(frames)
        place = places[sites_lines.of_user(places)]
        where = os.path.basename(place.file) if place.file else place.where()
        found[f"{place.name()}  {where}".rstrip()].add(sums)
    return found, lines


def total(side):
    whole = Sums()
    for sums in side.values():
        whole.add(sums)
    return whole


def show(profiles, paths):
    """Prints what changed; ([Growth], next command)."""
    (before, lines), (after, _) = map(by_function, profiles)
    print(f"A is {paths[0]}, B is {paths[1]}\n")
    names = sorted(set(before) | set(after), key=lambda n: (-abs(after[n].bytes - before[n].bytes), n))
    cells = []
    for name in names[:MOST]:
        sides = before[name], after[name]
        cells.append([name, *(table.size(s.bytes) for s in sides), *(table.count(s.calls) for s in sides), *(table.size(s.peak) for s in sides),
                      *(sites_rows.count_or_none(sites_rows.faults_glibc(s)) for s in sides)])
    sums = total(before), total(after)
    print(table.align(cells, HEADINGS) + "\n")
    found = []
    for key, words, shown in JUDGED:
        values = [sites_rows.ORDERS[key](each) for each in sums]
        print(f"{words}: {shown(values[0])} in A, {shown(values[1])} in B")
        if values[1] > values[0]:
            found.append(Growth(words, 100 * (values[1] - values[0]) / values[0] if values[0] else math.inf))
    for note in lines.notes():
        print(f"note: {note}")
    sampled = [p.numbers["rate_bytes"] for p in profiles]
    if sampled[0] != sampled[1]:
        say("note: the two were sampled differently; small differences say nothing")
    return found, f"zeropool sites --frames 3 {shlex.quote(paths[1])}"
