# SPDX-License-Identifier: MIT
"""zeropool sites: which lines of a program make its large allocations, and what becomes of the blocks."""
import json
import shlex

from . import folded, sites_file, sites_lines, sites_rows, table
from .errors import OK, say
from .options import Command, Option, closest, whole_number
from .words import plural

SCHEMA = "zeropool-sites-lines-1"


def one_of(words):
    def parse(text):
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}{closest(text, words)}")
        return text

    return parse


COMMAND = Command(
    "sites", "[options] FILE|DIR...",
    "Shows which lines of a program made its large allocations: a profile that 'zeropool run --profile' had the library write.\n"
    "DIR: all profiles in it. FILE also stands for FILE.PID of several processes; they are added up.\n"
    "\n"
    "line          the innermost function that is no allocator, no wrapper of one and not of the C or C++ library\n"
    "live at peak  what of its blocks was in use when the process had most in use\n"
    "other thread  share of the blocks that another thread freed than the one that allocated\n"
    "untouched     share of their pages that nobody touched, by a sample\n"
    "\n"
    "faults glibc  are a model: with its defaults glibc maps a block of at least its threshold (128 KiB, and as it rises by the blocks\n"
    "that are freed, at most 32 MiB) anew at each call, and each page that is touched of it faults; smaller blocks come from its heap, where\n"
    "only fresh pages fault, as many as in the pool. Faults pool: pages that were fresh when the pool handed them out, and were touched, by\n"
    "the same sample.",
    (Option("--sort", "bytes (default), calls, peak, faults (under glibc) or lifetime", None, "KEY", one_of(tuple(sites_rows.ORDERS)), "bytes"),
     Option("--top", "show so many lines (default 20; 0: all)", None, "N", whole_number(0, 10 ** 6), 20),
     Option("--frames", "tell lines apart by so many of their callers, and show these", None, "N", whole_number(0, 64), 0),
     Option("--json", "print JSON"),
     Option("--collapsed", "print folded stacks: bytes, count, faults (under glibc) or peak, for flamegraphs and other viewers", None, "WEIGHT",
            one_of(tuple(sites_rows.WEIGHTS))),
     Option("--help", "this text", "-h")),
    """Exit status: 0 shown, 2 wrong usage, 125 a file cannot be read, or is no whole profile.

Example: zeropool run --profile=job -- ./job; zeropool sites --sort faults job""", mixed=True)


def main(words):
    values, paths = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    if not paths:
        COMMAND.fail("no file or folder given")
    if values["json"] and values["collapsed"]:
        COMMAND.fail("either --json or --collapsed")
    profile = sites_file.load(paths)
    lines = look_up(profile)
    if values["collapsed"]:
        print(folded.to_text(sites_rows.collapsed(profile, lines, values["collapsed"])), end="")
        say_notes(notes(profile, lines))
        return OK
    found = sites_rows.rows(profile, lines, values["frames"], values["sort"])
    shown = found[:values["top"]] if values["top"] else found
    if values["json"]:
        print(json.dumps(document(profile, lines, shown, len(found)), indent=1))
        return OK
    print_text(profile, lines, shown, found, values)
    unit = {"calls": "count", "peak": "peak", "faults": "faults"}.get(values["sort"], "bytes")
    say(f"next: zeropool sites --collapsed {unit} {' '.join(map(shlex.quote, paths))} >sites.folded; "
        f"zeropool report --svg sites.svg sites.folded")
    return OK


def look_up(profile):
    lines = sites_lines.Lines()
    lines.look_up(profile.stacks, sites_lines.perf_map(profile))
    return lines


def say_notes(found):
    for note in found:
        say(f"note: {note}")


def print_text(profile, lines, shown, found, values):
    total = profile.total
    commands = ", ".join(sorted({name for _, name in profile.commands}))
    print(f"{commands}: {plural(total.calls, 'call', shown=table.count(total.calls))} of at least "
          f"{table.size(profile.numbers['least_bytes'])}, {table.size(total.bytes)} from {plural(len(found), 'line')}, at the peak "
          f"{table.size(profile.numbers['peak_bytes'])}")
    if not found:
        print("no such call was made")
    else:
        print("\n" + sites_rows.text(shown, profile.numbers["has_pool"]))
        if len(shown) < len(found):
            rest = sites_file.Sums()
            for row in found[len(shown):]:
                rest.add(row.sums)
            print(f"and {plural(len(found) - len(shown), 'line')} more with {table.size(rest.bytes)} (--top 0)")
        print()
    for note in notes(profile, lines):
        print(f"note: {note}")


def notes(profile, lines):
    """What has to be known to take the numbers for what they are."""
    found = lines.notes() if profile.stacks else []
    if len(profile.commands) > 1:
        found.append(f"{plural(len(profile.commands), 'process', 'processes')} together; peaks are added")
    if profile.numbers["rate_bytes"]:
        found.append(f"sampled: one call in about {table.size(profile.numbers['rate_bytes'])}; numbers are estimates")
    if profile.lost.calls:
        found.append(f"{plural(profile.lost.calls, 'call')} of {table.size(profile.lost.bytes)} lost: more different stacks than there was room for")
    if profile.numbers["not_followed"]:
        found.append(f"{plural(profile.numbers['not_followed'], 'block')} not followed to the end: more at a time than there was room for")
    if profile.stacks and not profile.total.looked:
        found.append("no page was looked at (a seccomp filter forbids it, or blocks are too small): nothing is known of faults")
    if not profile.numbers["has_pool"]:
        found.append("recorded without the pool: what it would fault is not known")
    if any(module is None for frames, _ in profile.stacks for module, _ in frames):
        found.append("code that no file holds (of a runtime that compiles): stacks end there; names by /tmp/perf-PID.map where it is there")
    elif profile.python:
        found.append("functions of this Python have no names: those of 3.11 have, and from 3.12 on with PYTHONPERFSUPPORT=1")
    return found


def document(profile, lines, shown, n_lines):
    total = profile.total
    return {"schema": SCHEMA, "processes": [{"pid": int(pid), "command": name} for pid, name in profile.commands], **profile.numbers,
            "has_pool": bool(profile.numbers["has_pool"]), "calls": total.calls, "bytes": total.bytes, "lost_calls": profile.lost.calls,
            "lost_bytes": profile.lost.bytes, "n_lines": n_lines, "notes": notes(profile, lines),
            "lines": [sites_rows.as_json(row, profile.numbers["has_pool"]) for row in shown]}

