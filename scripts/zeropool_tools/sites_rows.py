# SPDX-License-Identifier: MIT
"""Sums by line of source, and what page faults a line causes: the model is in `zeropool sites --help` and docs/sites.md."""
from collections import defaultdict
from dataclasses import dataclass, field

from . import folded, sites_lines, table
from .sites_file import Sums

PAGE = 4096
HEADINGS = ("line", "calls", "bytes", "live at peak", "mean life", "other thread", "untouched", "faults glibc", "faults pool")


def touched_share(sums):
    """Of the pages of blocks that were looked at; None where none was."""
    return min(1.0, sums.touched / sums.looked) if sums.looked else None


def faults_glibc(sums):
    """A block of at least glibc's threshold at that time is mapped anew: what is touched of it faults. Smaller ones as in the pool."""
    if not sums.looked:
        return None
    return (touched_share(sums) * sums.mapped + sums.faulted / sums.looked * max(0, sums.bytes - sums.mapped)) / PAGE


def faults_pool(sums):
    """Pages that were fresh when the block was handed out, and were touched."""
    return sums.faulted / sums.looked * sums.bytes / PAGE if sums.looked else None


def mean_life_s(sums):
    return sums.life_ns / sums.freed / 1e9 if sums.freed else None


ORDERS = {
    "bytes": lambda sums: sums.bytes,
    "calls": lambda sums: sums.calls,
    "peak": lambda sums: sums.peak,
    "faults": lambda sums: faults_glibc(sums) or 0,
    "lifetime": lambda sums: mean_life_s(sums) or 0,
}
# What --collapsed counts: unit in words, and the value.
WEIGHTS = {"bytes": ORDERS["bytes"], "count": ORDERS["calls"], "faults": ORDERS["faults"], "peak": ORDERS["peak"]}


@dataclass
class Row:
    places: tuple  # the user's line, then its callers as far as they tell rows apart
    sums: Sums = field(default_factory=Sums)
    stacks: int = 0


def rows(profile, lines, n_callers, order):
    """[Row] of all lines, those first that weigh most."""
    found = defaultdict(Sums)
    counted = defaultdict(int)
    for (frames, _), sums in profile.stacks.items():
        places = lines.places_of(frames)
        first = sites_lines.of_user(places)
        key = tuple(places[first:first + 1 + n_callers])
        found[key].add(sums)
        counted[key] += 1
    made = [Row(key, sums, counted[key]) for key, sums in found.items()]
    return sorted(made, key=lambda row: (-ORDERS[order](row.sums), [place.text() for place in row.places]))


def collapsed(profile, lines, weight):
    """Folded stacks, outermost first, with everything that was inlined."""
    stacks = folded.Counter()
    names = "+".join(sorted({name for _, name in profile.commands}))
    for (frames, is_cut), sums in profile.stacks.items():
        shown = [folded.clean(place.name()) for place in reversed(lines.places_of(frames))]
        value = round(WEIGHTS[weight](sums))
        if value:
            stacks[(names.replace(";", ":"), *([folded.TRUNCATED] if is_cut else []), *shown)] += value
    return stacks


# --- text ---

def percent(share):
    return "-" if share is None else f"{100 * share:.0f} %"


def duration(seconds):
    if seconds is None:
        return "-"
    for limit, factor, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "us"), (1, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.{1 if seconds * factor < 10 else 0}f} {unit}"
    return f"{seconds:.1f} s"


def count_or_none(value):
    return "-" if value is None else table.count(value)


def cells(name, sums, has_pool):
    return [name, table.count(sums.calls), table.size(sums.bytes), table.size(sums.peak), duration(mean_life_s(sums)),
            percent(sums.foreign / sums.freed if sums.freed else None),
            percent(None if touched_share(sums) is None else 1 - touched_share(sums)), count_or_none(faults_glibc(sums)),
            count_or_none(faults_pool(sums)) if has_pool else "-"]


def text(found, has_pool):
    lines = table.align([cells(row.places[0].text(), row.sums, has_pool) for row in found], HEADINGS).split("\n")
    shown = lines[:2]
    for row, line in zip(found, lines[2:]):
        shown.append(line)
        shown += [f"    called by {place.text()}" for place in row.places[1:]]
    return "\n".join(shown)


def as_json(row, has_pool):
    sums = row.sums
    return {"lines": [{"function": p.function, "file": p.file or None, "line": p.line or None, "module": p.module} for p in row.places],
            "calls": sums.calls, "bytes": sums.bytes, "live_bytes": sums.live, "peak_bytes": sums.peak, "mean_life_s": mean_life_s(sums),
            "freed": sums.freed, "freed_by_others": sums.foreign, "allocating_s": sums.allocating_ns / 1e9,
            "touched_share": touched_share(sums), "faults_glibc": faults_glibc(sums), "faults_pool": faults_pool(sums) if has_pool else None,
            "stacks": row.stacks}
