# SPDX-License-Identifier: MIT
"""The folder of a recording: record.json, and per allocator stacks, pictures and texts. What is written here, `report` reads.

    DIR/record.json                                    everything in figures
    DIR/{perf.data,stacks.folded,flamegraph.svg,report.txt,annotate.txt}             one allocator
    DIR/NAME/...                                       the same for each allocator of --compare, and output.txt
    DIR/{baseline,optimized,diff}.svg                  first against last allocator
"""
import json
import os
import re
import shlex
import shutil
import tempfile
import time
from contextlib import contextmanager

from . import VERSION, callers, flame, folded, perf, results
from .errors import ToolError, UsageError

SCHEMA = "zeropool-record-1"
RECORD = "record.json"
FILES = ("perf.data", "perf.data.old", "stacks.folded", "flamegraph.svg", "report.txt", "annotate.txt", "output.txt")
PICTURES = ("baseline.svg", "optimized.svg", "diff.svg")
ANNOTATED = 3  # the hottest functions of the program, and as many of the allocator


def folder_name(name):
    return re.sub(r"[^\w.+-]+", "_", name)


def free_name(stem):
    """stem, or stem-2, stem-3 and so on: the first that does not exist."""
    name, number = stem, 1
    while os.path.lexists(name):
        number += 1
        name = f"{stem}-{number}"
    return name


def choose(wanted, program):
    """The folder for the result, which need not exist yet. One that holds anything but a recording is refused."""
    if wanted is None:
        wanted = free_name(f"zeropool-record-{folder_name(os.path.basename(program))}")
    wanted = wanted.rstrip("/") or "/"
    try:
        if os.path.isdir(wanted) and os.listdir(wanted) and not os.path.isfile(os.path.join(wanted, RECORD)):
            raise UsageError(f"record: -o {wanted}: holds something else than a recording; choose another folder")
    except OSError as error:
        raise ToolError(f"cannot write {wanted}: {error.strerror}") from error
    return wanted


@contextmanager
def workshop(target):
    """A hidden folder within `target` for what is being recorded: until all is there, an earlier recording stays as it is.

    Removed at the end, and with it what was not moved out of it by finish(); so is `target`, if it is new and still empty.
    """
    new = not os.path.isdir(target)
    try:
        os.makedirs(target, exist_ok=True)
        place = tempfile.mkdtemp(dir=target, prefix=".zeropool-record-")
    except OSError as error:
        raise ToolError(f"cannot write {target}: {error.strerror}") from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if new and not os.listdir(target):
            os.rmdir(target)


def good(result):
    """Whether it shows something of a command that succeeded."""
    return any(item["samples"] for item in result["variants"]) and not any(
        item.get("status") or item.get("interrupted") for item in result["variants"])


def finish(place, target, result):
    """Moves a recording to its final folder, in place of an earlier one; returns that folder.

    A failed recording does not replace a good one: it goes to the next free name.
    """
    store(place, result)
    try:
        earlier = load(target)
    except ToolError:
        earlier = None
    if earlier and good(earlier) and not good(result):
        target = free_name(target)
        os.mkdir(target)
    elif earlier or os.path.lexists(os.path.join(target, RECORD)):
        clear(target, earlier)
    for name in sorted(os.listdir(place), key=lambda name: name == RECORD):
        into = os.path.join(target, name)
        if os.path.isdir(into) and not os.path.islink(into):
            # Something of the user's is left in it.
            for inner in os.listdir(os.path.join(place, name)):
                os.replace(os.path.join(place, name, inner), os.path.join(into, inner))
        else:
            os.replace(os.path.join(place, name), into)
    return target


def clear(folder, earlier):
    """Removes the files of an earlier recording, and no others."""
    places = {os.path.join(folder, v["folder"]) for v in earlier["variants"]} if earlier else set()
    for place in sorted(places | {folder}, reverse=True):
        for name in (*FILES, *(PICTURES + (RECORD,) if place == folder else ())):
            path = os.path.join(place, name)
            if os.path.isfile(path) or os.path.islink(path):
                os.unlink(path)
        if place != folder and os.path.isdir(place) and not os.listdir(place):
            os.rmdir(place)


def blank(argv, plan):
    return {"schema": SCHEMA, "zeropool": VERSION, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": list(argv), "machine": results.machine(), "event": plan.event, "frequency": plan.frequency,
            "stack_bytes": plan.stack, "variants": [], "notes": list(plan.remarks)}


def entry(variant, done, profile):
    return {"name": variant.name, "preload": list(variant.preload), "tunables": variant.tunables, "folder": "",
            "status": done.status, "interrupted": done.interrupted, "wall_s": round(done.wall_s, 4),
            "cpu_s": round(done.cpu_s, 4), "unit": profile.unit,
            "total": profile.total, "kinds": {k: profile.kinds[k] for k in folded.KINDS}, "samples": profile.samples,
            "lost": profile.lost, "unknown": profile.unknown, "nameless": profile.nameless,
            "truncated": profile.truncated, "callers": callers.with_lines(profile.callers), "modules": dict(profile.modules), "remarks": done.remarks}


def store(folder, result):
    results.store(os.path.join(folder, RECORD), json.dumps(result, indent=1) + "\n")


def store_profile(place, plan, item, profile, argv):
    """Stacks, flamegraph, and perf's own texts."""
    results.store(os.path.join(place, "stacks.folded"), folded.to_text(profile.stacks))
    if profile.stacks:
        results.store(os.path.join(place, "flamegraph.svg"), picture(profile.stacks, item, argv))
    data = os.path.join(place, "perf.data")
    if profile.samples:
        results.store(os.path.join(place, "report.txt"), perf.report(plan.perf, data))
        if plan.event == "cpu":
            if shutil.which("objdump"):
                text = perf.annotate(plan.perf, data, hottest(profile.stacks))
            else:
                text = "perf annotate needs objdump; on Debian: apt-get install binutils\n"
            results.store(os.path.join(place, "annotate.txt"), text)


def hottest(stacks):
    """Names of the user-land functions with the most weight of their own."""
    own = sorted(((own, name) for name, (own, _) in folded.by_function(stacks).items()
                  if own and not name.startswith("[") and not name.endswith(folded.KERNEL)), reverse=True)
    names = [name for _, name in own]
    pool = [name for name in names if folded.ALLOCATOR.match(name)][:ANNOTATED]
    return [name for name in names if name not in pool][:ANNOTATED] + pool


def picture(stacks, item, argv, min_share=flame.MIN_SHARE):
    return flame.svg(stacks, f"{shorten(shlex.join(argv))} ({item['name']})", item["unit"], split_line(item), min_share=min_share)


def split_line(item):
    """`2.85 s: program 0.21 s, page faults 1.9 s, ...`, for what there is."""
    parts = [f"{kind} {flame.amount(item['kinds'].get(kind, 0), item['unit'])}" for kind in folded.KINDS if item["kinds"].get(kind)]
    if item["unit"] != "us":
        return flame.amount(item["total"], item["unit"])
    return f"{flame.amount(item['total'], 'us')} of processor time: {', '.join(parts)}"


def shorten(text, limit=88):  # leaves room for the buttons beside the title
    return text if len(text) <= limit else text[:limit - 3] + "..."


def store_pictures(folder, result, min_share=flame.MIN_SHARE):
    """baseline.svg, optimized.svg and diff.svg, of the first and the last allocator."""
    items = (result["variants"][0], result["variants"][-1])
    stacks = [read_stacks(os.path.join(folder, item["folder"], "stacks.folded")) for item in items]
    for name, item, side in zip(PICTURES, items, stacks):
        if side:
            results.store(os.path.join(folder, name), picture(side, item, result["command"], min_share))
    if all(stacks):
        results.store(os.path.join(folder, PICTURES[2]), difference(result["command"], items, stacks, min_share))


def difference(argv, items, stacks, min_share=flame.MIN_SHARE, labels=None):
    labels = labels or tuple(item["name"] for item in items)
    unit = items[0]["unit"]
    sums = [flame.amount(sum(side.values()), unit) for side in stacks]
    return flame.svg(stacks[0], shorten(shlex.join(argv)), unit,
                     f"{labels[0]} {sums[0]}, {labels[1]} {sums[1]}; blue: less in {labels[1]}, red: more", stacks[1], labels,
                     min_share=min_share)


def load(folder):
    """The result stored in a folder. ToolError in one line where there is none or it is broken."""
    return check(read_json(os.path.join(folder, RECORD)), os.path.join(folder, RECORD))


def read_json(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ToolError(f"{path}: not readable as JSON ({str(error)[:80]})") from error


def check(result, path):
    """result, if it has the shape that the readers rely on."""
    try:
        if result["schema"] != SCHEMA:
            raise ToolError(f"{path}: schema '{result['schema']}', not {SCHEMA}")
        good = isinstance(result["command"], list) and all(isinstance(word, str) for word in result["command"])
        good = good and isinstance(result["notes"], list)
        for item in result["variants"]:
            good = good and isinstance(item["name"], str) and isinstance(item["total"], int) and isinstance(item["samples"], int)
            good = good and all(isinstance(item["kinds"].get(k, 0), int) for k in folded.KINDS) and item["unit"] in ("us", "faults", "bytes")
            # A stored folder must stay within the recording.
            good = good and ".." not in item["folder"].split("/") and not os.path.isabs(item["folder"])
        good = good and bool(result["variants"])
    except (TypeError, KeyError, AttributeError):
        good = False
    if not good:
        raise ToolError(f"{path}: no recording of zeropool, or a damaged one")
    return result


def read_stacks(path):
    try:
        with open(path, encoding="utf-8") as file:
            return folded.from_text(file.read())
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ToolError(f"{path}: {error}") from error
