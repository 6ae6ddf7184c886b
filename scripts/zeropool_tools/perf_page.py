# SPDX-License-Identifier: MIT
"""The text of docs/perf-analysis.md, from the recordings of record_workloads."""
import shlex

from . import annotated, flame, folded, record_text, table
from .words import plural

HOT = 6  # functions per allocator
CHANGED = 8  # functions per difference

HEAD = """# Where the time goes

Four workloads under {names}, recorded by `perf` in one session: where each allocator lets a program spend its
processor time, and what changes from {first} (the baseline) to {last} (optimized). The whole file, with its pictures, comes
from one command, on a quiet machine, as root:

<!-- doctest: skip because it records for two minutes and writes this file -->

```sh
scripts/zeropool record --workloads
```

Recorded on {cpus} CPUs, Linux {kernel}, with `cpu-clock` at {frequency} Hz and DWARF call graphs. Times are processor time of all threads, from
samples: a figure of n samples is good to about 1/sqrt(n), and a difference of a few percent between two recordings says nothing
(`zeropool compare` measures those). Every sample is exactly one of:

| kind | what |
| --- | --- |
| program | its own code and its libraries, in user land |
| allocator | functions of the allocator, in user land |
| page faults | in the kernel, for touched memory that had no page: entering, clearing, counting |
| unmap | in the kernel, giving pages back: munmap, madvise, brk, the end of the process |
| other system | the rest of the kernel: reading and writing files, waking threads, interrupts |

In the pictures a frame is as wide as the time spent in it and in what it calls; red is page faults, blue the kernel, green the
allocator. In the differences, drawn on the widths of {first}, blue is what {last} spends less on, red what it spends
more on. Opened by themselves in a browser they zoom (click), search (Ctrl+F) and change sides (w).
"""


def text(sessions, inner, frequency):
    first = sessions[0]
    names = [v["name"] for v in first["variants"]]
    machine = first["machine"]
    parts = [HEAD.format(names=f"{', '.join(names[:-1])} and {names[-1]}", first=names[0], last=names[-1], cpus=machine["usable_cpus"],
                         kernel=".".join(machine["kernel"].split(".")[:2]), frequency=frequency)]
    parts.append(overview(sessions))
    parts += [section(result) for result in sessions]
    parts.append(pool(inner, names[-1]))
    parts.append(names_known(sessions + inner))
    return "\n".join(parts).rstrip() + "\n"


def seconds(us):
    return f"{us / 1e6:.2f}"


def overview(sessions):
    """The split of all workloads in one table."""
    headings = ("workload", "run under", "CPU, s", *folded.KINDS)
    rows = []
    for result in sessions:
        for i, item in enumerate(result["variants"]):
            rows.append([result["label"] if not i else "", item["name"], seconds(item["total"]),
                         *(seconds(item["kinds"].get(kind, 0)) for kind in folded.KINDS)])
    lines = [f"- {result['label']}: {change}" for result in sessions for change in
             [record_text.changes(result["variants"][0], result["variants"][-1])]]
    return "\n".join(["## In one table", "", table.markdown_table(rows, headings, left=2), "", "What changed, the largest change first:", "",
                      *lines, ""])


def section(result):
    name, items = result["label"], result["variants"]
    parts = [f"## {name}", "", f"`{shlex.join(result['command'])}`", "",
             f"[![difference](perf/{name}-diff.svg)](perf/{name}-diff.svg)", "",
             f"Alone: [baseline, {items[0]['name']}](perf/{name}-baseline.svg), [optimized, {items[-1]['name']}](perf/{name}-optimized.svg).",
             "", "The functions that take the most time themselves:", ""]
    for item in items:
        rows = [[function(row[0]), *row[1:3]] for row in record_text.hot(item["stacks"], item["unit"], HOT)]
        parts += [table.markdown_table(rows, (f"under {item['name']}", "self", "share")), ""]
    parts += [f"From {items[0]['name']} to {items[-1]['name']}, the largest changes:", "",
              table.markdown_table(changed(items[0], items[-1]), ("function", items[0]["name"], items[-1]["name"], "change")), ""]
    return "\n".join(parts)


def function(name):
    """As code; the kernel's functions are marked as such in words."""
    return f"`{name.removesuffix(folded.KERNEL)}`{' (kernel)' if name.endswith(folded.KERNEL) else ''}"


def changed(before, after):
    own = [{name: mine for name, (mine, _) in folded.by_function(item["stacks"]).items()} for item in (before, after)]
    steps = sorted(((own[1].get(n, 0) - own[0].get(n, 0), n) for n in own[0].keys() | own[1].keys()), key=lambda s: (-abs(s[0]), s[1]))
    return [[function(name), seconds(own[0].get(name, 0)), seconds(own[1].get(name, 0)), f"{step / 1e6:+.2f}"]
            for step, name in steps[:CHANGED] if abs(step) >= 5000]


def pool(inner, name):
    """Hot functions of the pool, annotated."""
    if not inner:
        return ""
    parts = [f"## The functions of {name} itself", "",
             "In the workloads above they take too little time to be seen. These programs do nothing else than allocate and free, "
             "without touching\nwhat they get unless it is said. The percentages beside a line are shares of the samples in its function.", ""]
    for result in inner:
        item = result["variants"][0]
        parts += [f"### {result['label']}", "", f"{result['what'][0].upper()}{result['what'][1:]}: `{shlex.join(result['command'])}`", "",
                  f"{record_split(item)}.", ""]
        rows = [[function(row[0]), *row[1:3]] for row in record_text.hot(item["stacks"], item["unit"], HOT)]
        parts += [table.markdown_table(rows, ("function", "self", "share")), ""]
        for found in result["functions"]:
            parts += ["```text", annotated.listing(found), "```", ""]
    return "\n".join(parts)


def record_split(item):
    kinds = ", ".join(f"{kind} {flame.share(item['kinds'].get(kind, 0), item['total'])}" for kind in folded.KINDS
                      if item["kinds"].get(kind))
    return f"{flame.amount(item['total'], 'us')} of processor time in {plural(item['samples'], 'sample')}: {kinds}"


def names_known(recordings):
    """How far the names can be trusted."""
    worst = max((item["unknown"] / item["samples"], result["label"], item["name"])
                for result in recordings for item in result["variants"] if item["samples"])
    items = [item for result in recordings for item in result["variants"]]
    lost = sum(item["lost"] for item in items)
    lost = f"{lost} of {sum(item['samples'] for item in items) + lost}" if lost else "no"
    return (f"## How complete this is\n\nAt most {100 * worst[0]:.1f} % of the samples of a recording belong to no known code "
            f"({worst[1]} under {worst[2]}); {lost} samples were lost.\n")
