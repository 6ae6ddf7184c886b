# SPDX-License-Identifier: MIT
"""zeropool record --workloads: the scripted sessions behind docs/perf-analysis.md, and that file.

Everything in the file is computed from the recordings of one session; nothing is written by hand. The library and the
workloads are built once more with debug information, which changes no instruction, so that hot lines can be shown.
"""
import contextlib
import copy
import os
import shutil
import subprocess
import tempfile

from . import annotated, folded, perf_page, record_run, record_store, results, suite, variants
from .errors import OK, ToolError, say

FREQUENCY = 997  # not a divisor of anything that programs do periodically
ALLOCATORS = ("glibc", "jemalloc", "zeropool")
DEEP = {"stress_test": 49152}  # bytes of stack per sample; it keeps 38 KiB in one frame. More for all would lose samples
PICTURE_SHARE = 0.003  # frames below this are left out of the pictures, which are stored with the sources
UNKNOWN_LIMIT = 0.05
# What the four workloads do hardly shows in the pool's own functions. These do nothing else: (program, arguments, what it shows).
MICRO = (
    ("pair", ("--seconds=6",), "malloc and free of the same size in turns: the thread cache"),
    ("handoff", ("--pairs=1", "--blocks=500000"), "one thread allocates, another frees: caches, shards, and faults where they run dry"),
    ("liveset", ("--low=65536", "--high=8388608", "--live=64", "--turnover=60000", "--fill=none"), "random sizes, random order of frees: the extent heap"),
    ("churn", ("--threads=8000",), "threads that allocate, hand over and end: taking over what a thread leaves"),
)
ANNOTATED = 2  # functions of each
CANDIDATES = 10
LEAST_SAMPLES = 20  # below that, shares of lines are chance


def main(values):
    root = source_tree()
    values = {**values, "frequency": values["frequency"] or FREQUENCY}
    docs = os.path.join(root, "docs")
    with contextlib.ExitStack() as stack:
        build = debug_build(root, stack)
        stack.enter_context(library_of(build))
        chosen = available()
        plan = record_run.Plan(values, chosen)
        place = values["output"] or stack.enter_context(tempfile.TemporaryDirectory(prefix="zeropool-workloads-"))
        sessions = [workload(plan, chosen, build, name, place) for name in suite.PROGRAMS]
        inner = [micro(plan, chosen[-1:], build, root, place, *each) for each in MICRO]
        pictures(sessions, os.path.join(docs, "perf"))
    page = perf_page.text(sessions, [i for i in inner if i], plan.frequency)
    results.store(os.path.join(docs, "perf-analysis.md"), page)
    say(f"wrote docs/perf-analysis.md and {len(os.listdir(os.path.join(docs, 'perf')))} pictures in docs/perf/")
    say("next: open docs/perf/*-diff.svg in a browser; git diff docs/perf-analysis.md")
    return OK


def source_tree():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    if not os.path.isfile(os.path.join(root, "meson.build")) or not os.path.isdir(os.path.join(root, "docs")):
        raise ToolError("--workloads works in the source tree: it writes docs/perf-analysis.md")
    return root


def debug_build(root, stack):
    """A build folder whose programs know their lines; ordinary build/ where meson is missing."""
    if not (shutil.which("meson") and shutil.which("ninja")):
        say("note: without meson and ninja no build with debug information; hot functions are shown as instructions")
        return os.path.join(root, "build")
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="zeropool-build-"))
    say("building with debug information")
    for words in (["meson", "setup", folder, root, "--buildtype=release", "-Ddebug=true", "-Dtests=disabled"],
                  ["ninja", "-C", folder]):
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
            raise ToolError(f"{words[0]} failed{': ' + last[0].strip() if last else ''}")
    return folder


@contextlib.contextmanager
def library_of(build):
    before = os.environ.get("ZEROPOOL_LIB")
    os.environ["ZEROPOOL_LIB"] = os.path.join(build, "shim", variants.SHIM)
    try:
        yield
    finally:
        if before is None:
            del os.environ["ZEROPOOL_LIB"]
        else:
            os.environ["ZEROPOOL_LIB"] = before


def available():
    """Variants to record; jemalloc may be missing, the others may not."""
    chosen, notes = variants.resolve_all(list(ALLOCATORS), False)
    for note in notes:
        say(f"note: {note}")
    if chosen[-1].name != ALLOCATORS[-1]:
        raise ToolError("libzeropool-preload.so is missing; build it first")
    for variant in chosen:
        variants.probe(variant, os.environ)
    return chosen


def run(plan, chosen, argv, shown, folder):
    """A recording as its folder holds it, under the command that a reader would type."""
    say(shown[0])
    folder = record_store.choose(folder, argv[0])
    with record_store.workshop(folder) as made:
        result, status = record_run.record_all(plan, chosen, argv, made, True)
        if status:
            raise ToolError(f"{shown[0]} ended with status {status}; nothing was written")
        result["command"] = shown
        folder = record_store.finish(made, folder, result)
    result["kept_in"] = folder
    for item in result["variants"]:
        item["stacks"] = record_store.read_stacks(os.path.join(folder, item["folder"], "stacks.folded"))
        if item["samples"] and item["unknown"] > UNKNOWN_LIMIT * item["samples"]:
            say(f"note: {item['name']}: {100 * item['unknown'] // item['samples']} % of the samples belong to no known code")
    return result


def workload(plan, chosen, build, name, place):
    arguments = ["--seed=1", "--sample=0", "--checksum-only", *suite.PROGRAMS[name]]
    plan = copy.copy(plan)
    plan.stack = max(plan.stack, DEEP.get(name, 0))
    result = run(plan, chosen, [os.path.join(build, "workloads", name), *arguments], [f"build/workloads/{name}", *arguments],
                 os.path.join(place, name))
    result["label"] = name
    return result


def micro(plan, chosen, build, root, place, name, arguments, what):
    """A recording under the pool alone, with the hot lines of its functions."""
    folder = os.path.join(place, name)
    program = os.path.join(build, "workloads", "micro", name)
    result = run(plan, chosen, [program, *arguments], [f"build/workloads/micro/{name}", *arguments], folder)
    item = result["variants"][0]
    data = os.path.join(result["kept_in"], item["folder"], "perf.data")
    found = []
    for symbol in hottest(item["stacks"]):
        hot = annotated.function(plan.perf, data, os.environ["ZEROPOOL_LIB"], symbol, root)
        if hot and hot.lines and hot.samples >= LEAST_SAMPLES:
            found.append(hot)
        if len(found) == ANNOTATED:
            break
    result.update(label=name, what=what, functions=found)
    return result


def hottest(stacks):
    """User-land functions, of whatever module; which of them are the pool's, perf knows."""
    own = sorted(((own, name) for name, (own, _) in folded.by_function(stacks).items() if own and not name.endswith(folded.KERNEL)), reverse=True)
    return [name for _, name in own[:CANDIDATES] if not name.startswith("[")]


def pictures(sessions, folder):
    """NAME-baseline.svg, NAME-optimized.svg and NAME-diff.svg: the first allocator and the last."""
    os.makedirs(folder, exist_ok=True)
    for result in sessions:
        items = (result["variants"][0], result["variants"][-1])
        for kind, item in zip(("baseline", "optimized"), items):
            results.store(os.path.join(folder, f"{result['label']}-{kind}.svg"),
                          record_store.picture(item["stacks"], item, result["command"], PICTURE_SHARE))
        results.store(os.path.join(folder, f"{result['label']}-diff.svg"),
                      record_store.difference(result["command"], items, [i["stacks"] for i in items], PICTURE_SHARE))
