# SPDX-License-Identifier: MIT
"""zeropool bench: the benchmark suite, all allocators side by side in one table, with the bounds of the pool."""
import fnmatch
import os
import signal
import time

from . import VERSION, bench_counters, bench_real, bench_table, bench_threads, results as stored, session, variants
from .bench_rows import micro_rows
from .bench_run import Bench, rounds_of
from .compare import allocator_list
from .errors import OK, ToolError, say
from .options import Command, Option, closest, non_empty, whole_number
from .progress import Progress, human_time
from .words import plural

SCHEMA = "zeropool-bench-1"
ROUNDS, QUICK_ROUNDS = 5, 2
SEED = 20240229

COMMAND = Command(
    "bench", "[options]",
    "Runs the benchmark suite under several allocators in interleaved, shuffled rounds and prints one table: medians,\n"
    "time beside memory, and for zeropool whether it keeps the bound of each row, from the figures of this same run.\n"
    "Needs the programs of workloads/micro ('ninja -C build'). About 60 minutes; with --quick about 6. The rows of group\n"
    "threads run only with --only; all of them take another 40 minutes.",
    (Option("--quick", f"a selection of rows, {QUICK_ROUNDS} rounds"),
     Option("--only", "only these rows or groups; * and ? are wildcards (see --list)", None, "NAME,..", allocator_list),
     Option("--allocators", "as in 'zeropool compare' (default: all six, as far as installed)", "-a", "LIST",
            allocator_list),
     Option("--rounds", f"rounds (default {ROUNDS}); some rows take a multiple or a fraction of it", "-n", "N",
            whole_number(1, 1000)),
     Option("--json", "store everything, every run included, as JSON", None, "FILE", non_empty),
     Option("--markdown", "store the table as Markdown", None, "FILE", non_empty),
     Option("--build", "build folder with workloads/micro (default: build beside scripts)", None, "DIR", non_empty),
     Option("--seed", "of the order of runs (default fixed)", None, "N", whole_number(0, 2 ** 31), SEED),
     Option("--counters", "run each row once, under zeropool built with -Dcounters=true, and show locks and levels for\n"
            "1000 requests instead of times"),
     Option("--list", "name the rows and their bounds, and run nothing"),
     Option("--quiet", "no progress", "-q"),
     Option("--help", "this text", "-h")),
    """A verdict is 'met' or 'missed'; with a question mark where the 95 % interval of the ratio contains the bound.

Exit status: 0 measured, whatever the verdicts are; 1 a program failed, or printed something else than under another
allocator; 2 wrong usage; 125 zeropool itself failed; 130 after Ctrl-C (complete rows are shown).

Example: zeropool bench --only 'live*,pair' -a glibc,tcmalloc,zeropool --json result.json""", mixed=True)


def default_build():
    """The build tree of a source checkout: an installed zeropool has no benchmark programs."""
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    return os.path.join(os.path.dirname(home), "build")


def select(rows, only, quick):
    if not only:
        return [row for row in rows if (row.quick or not quick) and not row.only_named]
    known = {row.name for row in rows} | {row.group for row in rows}
    for pattern in only:
        if not fnmatch.filter(known, pattern):
            COMMAND.fail(f"--only: no row or group '{pattern}'{closest(pattern, known)}")
    chosen = [row for row in rows if any(fnmatch.fnmatchcase(word, p) for p in only for word in (row.name, row.group))]
    # A bound may look at another row, which is then needed, too.
    needed = {bound.row for row in chosen for bound in row.bounds if hasattr(bound, "row")}
    return [row for row in rows if row in chosen or row.name in needed]


def main(words):
    values, rest = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    if rest:
        COMMAND.fail(f"unexpected '{rest[0]}'")
    build = os.path.abspath(values["build"] or default_build())
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    with bench_real.RealPrograms(os.path.join(source, "workloads", "real", "bench")) as real:
        rows = micro_rows() + bench_threads.thread_rows() + real.rows
        if values["list"] and not values["only"] and not values["quick"]:
            return show_list(rows)
        rows = select(rows, values["only"], values["quick"])
        if values["list"]:
            return show_list(rows)
        return run(values, rows, real, os.path.join(build, "workloads", "micro"))


def show_list(rows):
    for row in rows:
        print(f"{row.name:<36}{row.group:<10}{row.label}{'; only where named' * row.only_named}")
        for bound in row.bounds:
            print(f"{'':<46}{bound.key} {bound.words()}")
    return OK


def run(values, rows, real, micro):
    for key in ("json", "markdown"):
        if values[key]:
            stored.check_writable(values[key])
    if not os.access(os.path.join(micro, "settle"), os.X_OK):
        raise ToolError(f"no benchmark programs in {micro}; build them with 'meson setup build && ninja -C build'")
    library = os.path.join(os.path.dirname(os.path.dirname(micro)), "shim", variants.SHIM)
    if values["build"] and os.path.isfile(library):
        os.environ.setdefault("ZEROPOOL_LIB", library)  # not that of another build folder
    if values["counters"]:
        return bench_counters.run(rows, micro, variants.find_shim(), values["json"])
    chosen, notes = variants.resolve_all(values["allocators"] or variants.NAMES, values["allocators"] is not None, "bench")
    for variant in chosen:
        variants.probe(variant, os.environ)
    notes += variants.remarks(os.environ)
    rounds = values["rounds"] or (QUICK_ROUNDS if values["quick"] else ROUNDS)
    started = time.monotonic()
    found, stopped_by = measure(rows, chosen, rounds, micro, real, values)
    found.notes[:0] = notes + [note for note in real.notes if any(row.group == bench_real.GROUP for row in rows)]
    seconds = time.monotonic() - started
    report(values, rows, found, rounds, seconds, bool(stopped_by))
    for failure in found.failures:
        say(failure)
    if stopped_by:
        say(f"interrupted; the table shows {len(found.runs)} of {plural(len(rows), 'row')}")
        return 128 + stopped_by
    if found.failures:
        return 1
    say(f"next: {advice(values, rows)}")
    return OK


def measure(rows, chosen, rounds, micro, real, values):
    """(Results, signal that ended it early or 0)."""
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, session.raise_stop) for each in handled}
    stopped_by = 0
    try:
        with Progress(quiet=values["quiet"]) as bar:
            bench = Bench(rows, chosen, rounds, micro, real, bar, values["seed"])
            try:
                bench.all()
            except session.Stop as stop:
                stopped_by = stop.number
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    return bench.results, stopped_by


def judge(found, rows):
    """(verdicts by row, verdicts over several rows) for the first variant that is the pool."""
    if not found.subjects:
        return {}, []
    subject = found.subjects[0]
    rows = [row for row in rows if row.name in found.runs]
    verdicts = {row.name: [bound.judge(found, row, subject) for bound in row.bounds] for row in rows}
    real = [row for row in rows if row.group == bench_real.GROUP]
    extra = [("all real programs", v) for v in bench_real.mean_verdicts(found, real, subject)] if len(real) > 1 else []
    threads = [row for row in rows if row.group == bench_threads.GROUP]
    if len(threads) > 1:
        every = [v for row in threads for v in verdicts[row.name]]
        extra += [("all rows of threads", v) for v in bench_threads.share_verdicts(every)]
    return verdicts, extra


def report(values, rows, found, rounds, seconds, interrupted):
    verdicts, extra = judge(found, rows)
    machine = stored.machine()
    closing = [f"Medians of {plural(rounds, 'interleaved round')} (some rows take more or fewer), {human_time(seconds)} in all; "
               f"{machine['usable_cpus']} CPUs ({machine['cpu']}), Linux {machine['kernel']}."]
    if found.repeated:
        closing.append(f"{plural(found.repeated, 'run')} repeated because something else had the processor or the memory.")
    if found.subjects:
        closing.append(bench_table.tally(verdicts, extra) + ".")
    closing += [f"note: {note}" for note in found.notes] + [f"failed: {failure}" for failure in found.failures]
    print(bench_table.text(found, rows, verdicts, extra))
    print("\n" + "\n".join(closing))
    if values["markdown"]:
        stored.store(values["markdown"], bench_table.markdown(found, rows, verdicts, extra, closing))
        say(f"stored {values['markdown']}")
    if values["json"]:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        measured = [row for row in rows if row.name in found.runs]
        document = {"schema": SCHEMA, "zeropool": VERSION, "time": now,
                    "command": ["zeropool", "bench", *given(values)], "machine": machine, "rounds": rounds,
                    "seconds": round(seconds, 1), "interrupted": interrupted, "repeated_runs": found.repeated,
                    "variants": [{"name": v.name, "preload": list(v.preload), "tunables": v.tunables}
                                 for v in found.variants],
                    "rows": [row_document(found, row, verdicts.get(row.name, []), rounds) for row in measured],
                    "over_rows": [verdict_document(v) for _, v in extra],
                    "notes": found.notes, "failures": found.failures}
        stored.store(values["json"], stored.to_json(document))
        say(f"stored {values['json']}")


def given(values):
    """The options that make a difference, to run the same again."""
    words = ["--quick"] if values["quick"] else []
    for key in ("only", "allocators"):
        if values[key]:
            words.append(f"--{key}={','.join(values[key])}")
    return words + ([f"--rounds={values['rounds']}"] if values["rounds"] else [])


def row_document(found, row, verdicts, rounds):
    names = list(found.runs[row.name])
    return {"name": row.name, "group": row.group, "label": row.label, "argv": list(row.argv),
            "rounds": rounds_of(row, rounds), "runs": found.runs[row.name],
            "median": {n: {m.key: found.median(row.name, n, m.key) for m in row.measures} for n in names},
            "verdicts": [verdict_document(v) for v in verdicts]}


def verdict_document(v):
    numbers = {k: None if getattr(v, k) is None else round(getattr(v, k), 5) for k in ("value", "low", "high")}
    return {"measure": v.key, "bound": v.bound, "limit": v.limit, **numbers, "against": v.against, "verdict": v.word}


def advice(values, rows):
    if values["quick"]:
        return "zeropool bench --json FILE   (all rows, more rounds)"
    if not values["json"]:
        return "zeropool bench --json FILE   (keeps every run)"
    return f"zeropool bench --only {rows[0].group} -n 15   (more rounds of one group)"

