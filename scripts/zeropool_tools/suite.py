# SPDX-License-Identifier: MIT
"""Several programs under a few allocators, one table: what scripts/quickstart shows.

Each program gets the same share of the time budget: one run under glibc tells how long it takes, and from that
follow the rounds. Everything else (interleaving, checks of output, statistics) is compare's.
"""
import json
import math
import os
import time

from . import results, session, table, variants
from .errors import OK, ToolError, say
from .options import Command, Option, decimal_number, non_empty
from .progress import Progress
from .runner import Runner, status_in_words

LEAST_ROUNDS, MOST_ROUNDS = 3, 10
ALLOCATORS = ("glibc", "jemalloc", "zeropool")
PYTHON = "/usr/bin/python3"  # not the first in PATH: Debian's numpy belongs to Debian's python3
# name: (workload or None for Python, arguments). Sizes make each run about a second on a small machine while the
# blocks still are of the sizes that matter (checkpoint tensors of 16 and 64 MiB).
PROGRAMS = {
    "ml_checkpoint_loader": ("--scale=0.25", "--layers=8", "--distinct-layers=1", "--epochs=1"),
    "network_server": ("--scale=0.02",),
    "file_pipeline": ("--passes=2",),
    "stress_test": ("--ops=120",),
}

COMMAND = Command(
    "__suite", "--build DIR",
    "Runs the four workloads and a numpy program under glibc, jemalloc and zeropool and prints one table.",
    (Option("--build", "build folder with workloads/", None, "DIR", non_empty),
     Option("--budget", "seconds for everything (default 70)", None, "S", decimal_number(1, 1e5), 70.0),
     Option("--allocators", "as in compare", "-a", "LIST", lambda text: text.split(","), list(ALLOCATORS)),
     Option("--json", "store all results as one JSON array", None, "FILE", non_empty),
     Option("--markdown", "store the table as Markdown", None, "FILE", non_empty),
     Option("--quiet", "no progress", "-q"),
     Option("--help", "this text", "-h")))


def programs(build):
    """(name, argv) of everything to run."""
    examples = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "examples")
    found = [(name, [os.path.join(build, "workloads", name), "--seed=1", "--sample=0", "--checksum-only", *arguments])
             for name, arguments in PROGRAMS.items()]
    numpy = [PYTHON, os.path.join(examples, "numpy_temporaries.py"), "10"]
    # numpy asks for huge pages by itself, which hides most faults where the kernel grants them.
    return found + [("numpy temporaries", numpy),
                    ("numpy, small pages", ["/usr/bin/env", "NUMPY_MADVISE_HUGEPAGE=0", *numpy])]


def main(words):
    values, rest = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    if rest or not values["build"]:
        COMMAND.fail("wants --build DIR and no command")
    chosen, notes = variants.resolve_all(values["allocators"], False)
    for variant in chosen:
        variants.probe(variant, os.environ)
    notes += variants.remarks(os.environ)
    todo = programs(values["build"])
    rows, stored, failures = [], [], []
    deadline = time.monotonic() + values["budget"]
    for i, (name, argv) in enumerate(todo):
        say(f"{i + 1} of {len(todo)}: {name}")
        share = (deadline - time.monotonic()) / (len(todo) - i)  # what one program leaves over, the next ones get
        try:
            outcome = run_one(name, argv, chosen, share, values["quiet"])
        except ToolError as error:
            failures.append(f"{name}: {error}")
            continue
        failures += [f"{name}: {what}" for what in [outcome.failure, *outcome.mismatches] if what]
        if outcome.stopped_by:
            show(rows, stored, notes + ["interrupted: not everything was run"], values, chosen)
            return 128 + outcome.stopped_by
        if outcome.n_rounds and not outcome.failure:
            result = results.build(outcome)
            result["label"] = name
            stored.append(result)
            rows += [[name if j == 0 else "", *table.cells(v)] for j, v in enumerate(result["variants"])]
            rows.append([""] * (len(table.HEADINGS) + 1))
    show(rows, stored, notes, values, chosen)
    for failure in failures:
        say(failure)
    return 1 if failures else OK


def run_one(name, argv, chosen, budget_s, quiet):
    argv = session.check_command(argv)
    first = Runner().run(argv, chosen[0].environment(os.environ), timeout_s=120)
    if first.status:
        raise ToolError(f"{status_in_words(first.status)} under {chosen[0].name}{session.last_words(first)}")
    # That run was the warm-up, too: files are in the page cache now. Other allocators may be slower than glibc.
    rounds = int((budget_s - first.wall_s) / max(first.wall_s, 0.01) / len(chosen) * 0.8)
    plan = session.Plan(argv, chosen, rounds=min(max(rounds, LEAST_ROUNDS), MOST_ROUNDS), warmups=0, timeout_s=120,
                        label=f"{name}, ")
    return session.execute(plan, Progress(quiet=quiet))


def means(stored, name):
    """Geometric means of the wall and RSS ratios of one variant."""
    found = []
    for metric in ("wall_s", "peak_rss_bytes"):
        values = [v["ratio"][metric]["value"] for r in stored for v in r["variants"] if v["name"] == name and v["ratio"]]
        found.append(math.exp(sum(map(math.log, values)) / len(values)) if values and all(values) else None)
    return found


def show(rows, stored, notes, values, chosen):
    headings = ("program", *table.HEADINGS)
    if stored:
        for variant in chosen[1:]:
            wall, rss = means(stored, variant.name)
            rows.append(["geometric mean" if variant is chosen[1] else "", variant.name, "", "", "", "", "",
                         table.number(wall), table.number(rss)])
        print(table.align(rows, headings, left=2))
        rounds = sorted({r["rounds"] for r in stored})
        print(f"\nMedians of {rounds[0] if len(rounds) == 1 else f'{rounds[0]} to {rounds[-1]}'} interleaved rounds; "
              f"ratios to {chosen[0].name}, below 1 is faster or smaller.")
    noisy = [r["label"] for r in stored if any(note.startswith("noisy") for note in r["notes"])]
    if noisy:
        notes = notes + [f"times were noisy for {', '.join(noisy)}: close other programs, or allow more --seconds"]
    for note in notes:
        print(f"note: {note}")
    if values["json"]:
        results.store(values["json"], json.dumps(stored, indent=1) + "\n")
    if values["markdown"]:
        results.store(values["markdown"], table.markdown_table([r for r in rows if any(r)], headings, left=2) + "\n")
