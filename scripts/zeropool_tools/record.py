# SPDX-License-Identifier: MIT
"""zeropool record: where a program spends its time, or takes its faults or memory, as flamegraphs; baseline against optimized."""
import errno
import os
import shlex

from . import elf, perf, record_store, record_text, variants
from .errors import OK, ToolError, say
from .folded import fold
from .options import Command, Option, decimal_number, non_empty, whole_number
from .record_run import UNITS, Plan, record_all, remarks
from .runner import status_in_words
from .session import check_command

EVENTS = ("cpu", "faults", "alloc")


def one_event(text):
    if text not in EVENTS:
        raise ValueError("cpu, faults or alloc")
    return text


def allocators(text):
    entries = [e.strip() for e in text.split(",") if e.strip()]
    if not entries:
        raise ValueError("a list such as glibc,zeropool")
    return entries


COMMAND = Command(
    "record", "[options] -- CMD...\n       zeropool record [options] -p PID",
    "Runs CMD under perf and writes a folder with flamegraph.svg (click zooms, Ctrl+F searches, Esc resets), folded stacks, the\n"
    "texts of perf report and perf annotate, and perf.data for plain perf. With --compare it runs CMD once per allocator and\n"
    "writes baseline.svg, optimized.svg and diff.svg besides, and says where the processor time went.",
    (Option("--frequency", "samples per second and CPU (default 499; of alloc 4999); 4999 for half a second of work,\n99 for minutes", "-F", "HZ", whole_number(1, 50000)),
     Option("--event", "cpu: processor time (default); faults: who causes page faults; alloc: who asks for\n"
            "blocks of 32 KiB and more, by bytes (needs root)", "-e", "EVENT", one_event, "cpu"),
     Option("--compare", "under glibc and zeropool, or the allocators of -a: the first is the baseline"),
     Option("--allocators", "as in zeropool compare; without --compare just one (default: glibc, the program as it is)", "-a", "LIST",
            allocators),
     Option("--output", "folder of the result (default: zeropool-record-PROGRAM, numbered)", "-o", "DIR", non_empty),
     Option("--input", "standard input of CMD (with --compare it is empty otherwise)", None, "FILE", non_empty),
     Option("--pid", "record a running process instead", "-p", "PID", whole_number(1, 1 << 30)),
     Option("--seconds", "for that long, or until Ctrl-C (default 10)", None, "S", decimal_number(0.1, 1e6), 10.0),
     Option("--stack", "bytes of stack copied per sample; more for programs with deep stacks (default 24576)", None, "BYTES",
            whole_number(1024, 65528), 24576),
     Option("--workloads", "no CMD: record the four workloads under glibc, jemalloc and zeropool, and write\n"
            "docs/perf-analysis.md anew (about two minutes; -o keeps the recordings)"),
     Option("--help", "this text", "-h")),
    """Exit status: that of CMD (128+n when signal n ended it; with --compare the first that is not 0), 2 wrong usage, 125
zeropool or perf failed, 126, 127 CMD cannot be executed or was not found.

Example: zeropool record --compare -o result -- python3 job.py""")


def main(words):
    values, argv = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    if values["workloads"]:
        if argv:
            COMMAND.fail("--workloads takes no command")
        if values["allocators"] or values["compare"] or values["input"] or values["event"] != "cpu":
            COMMAND.fail("--workloads chooses its allocators, events and input itself")
        from . import record_workloads
        return record_workloads.main(values)
    if values["pid"]:
        if argv or values["compare"] or values["allocators"] or values["input"]:
            COMMAND.fail("-p PID takes no command, no allocators and no input")
        return running(values)
    if not argv:
        COMMAND.fail("no command given")
    argv = check_command(argv)
    chosen = choose(values)
    plan = Plan(values, chosen)
    target = record_store.choose(values["output"], argv[0])
    for obstacle in elf.obstacles(argv[0]) if any(v.preload for v in chosen) else ():
        say(f"warning: {obstacle}")
    with record_store.workshop(target) as place:
        result, status = record_all(plan, chosen, argv, place, values["compare"])
        folder = record_store.finish(place, target, result)
    print(record_text.summary(result), flush=True)
    for note in result["notes"]:
        say(f"note: {note}")
    if folder != target:
        say(f"note: {target}/ keeps the good recording that it holds, as this one {why_not_good(result)}")
    say(f"wrote {folder}/: {record_text.files(folder)}")
    say(f"next: {advice(result, folder, argv)}")
    return status


def running(values):
    """record -p PID."""
    pid = values["pid"]
    if values["event"] == "alloc":
        COMMAND.fail("-e alloc needs the start of the program, as it sets probes in its allocator; -p takes cpu and faults")
    argv = words_of(pid)
    plan = Plan(values, [variants.Variant(f"pid-{pid}")])
    target = record_store.choose(values["output"], argv[0])
    with record_store.workshop(target) as place:
        result, data = record_store.blank(argv, plan), os.path.join(place, "perf.data")
        done = perf.record_running(plan.perf, plan.options(None), pid, data, values["seconds"])
        profile = fold(perf.script(plan.perf, data), UNITS[plan.event])
        entry = record_store.entry(variants.Variant(f"pid-{pid}"), done, profile)
        entry["interrupted"] = 0  # Ctrl-C is one of the ways to end it
        result["variants"].append(entry)
        record_store.store_profile(place, plan, entry, profile, argv)
        result["notes"] += remarks(plan, entry)
        folder = record_store.finish(place, target, result)
    print(record_text.summary(result), flush=True)
    for note in result["notes"]:
        say(f"note: {note}")
    say(f"wrote {folder}/: {record_text.files(folder)}")
    say(f"next: zeropool report {shlex.quote(folder)}")
    return OK


def words_of(pid):
    """The command line of a running process that may be recorded."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            words = file.read().split("\0")[:-1]
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return words or [file.read().strip()]
    except OSError as error:
        raise ToolError(f"process {pid}: {'there is none' if error.errno == errno.ENOENT else error.strerror}") from error


def why_not_good(result):
    if any(item["interrupted"] for item in result["variants"]):
        return "was interrupted"
    failed = [item for item in result["variants"] if item["status"]]
    return f"{status_in_words(failed[0]['status'])}" if failed else "has no samples"


def choose(values):
    """The variants to record, in order."""
    entries = values["allocators"] or (["glibc", "zeropool"] if values["compare"] else ["glibc"])
    if not values["compare"] and len(entries) > 1:
        COMMAND.fail("several allocators need --compare")
    if values["compare"] and len(entries) < 2:
        COMMAND.fail("--compare wants at least two allocators")
    found = []
    for entry in entries:
        variant = variants.resolve(entry, "record")
        if variant.name in {v.name for v in found}:
            COMMAND.fail(f"{variant.name} twice; give one of them a name: LABEL={entry}")
        variants.probe(variant, os.environ)
        found.append(variant)
    return found


def advice(result, folder, argv):
    """What to look at, of what there is, and what to do next."""
    command = shlex.join(argv)
    if not any(item["samples"] for item in result["variants"]):
        return f"zeropool record -F 4999 -- {command}"
    pictures = [os.path.join(folder, "diff.svg"), *(os.path.join(folder, item["folder"], "flamegraph.svg")
                                                    for item in reversed(result["variants"]))]
    picture = shlex.quote(next(path for path in pictures if os.path.isfile(path)))
    if len(result["variants"]) > 1:
        return f"open {picture} in a browser; zeropool compare -- {command}   (is the difference significant?)"
    return f"open {picture} in a browser; zeropool record --compare -- {command}   (what would the pool change?)"
