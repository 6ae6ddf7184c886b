# SPDX-License-Identifier: MIT
"""zeropool report: shows any stored result again: a recording, a comparison, a suite, a bench, statistics, perf.data, folded stacks."""
import json
import os
import shlex

from . import bench_stored, calibrate, callers, export, folded, html, perf, record_store, record_text, results, stat, stats_report, table
from .bench import SCHEMA as BENCH_SCHEMA
from .errors import OK, ToolError, say
from .options import Command, Option, non_empty
from .words import plural

def one_unit(text):
    if text not in ("us", "faults", "bytes", "samples"):
        raise ValueError("us, faults, bytes or samples")
    return text


COMMAND = Command(
    "report", "[options] DIR|FILE",
    "Shows a stored result again. DIR: a folder of zeropool record. FILE: JSON of zeropool compare, bench or quickstart, statistics\n"
    "of zeropool run --stats, a perf.data of any perf record with call graphs, or folded stacks.",
    (Option("--svg", "write the flamegraph of a perf.data or of folded stacks", None, "FILE", non_empty),
     Option("--unit", "of the weights of folded stacks: us (microseconds), faults, bytes or samples (default: what the record.json beside\n"
            "them says, else samples)", None, "UNIT", one_unit),
     Option("--html", "write the page of a comparison", None, "FILE", non_empty),
     Option("--csv", "write every run of a comparison as a line", None, "FILE", non_empty),
     Option("--markdown", "write the table as Markdown", None, "FILE", non_empty),
     Option("--collapsed", "write the stacks of a recording, a perf.data or of folded stacks as collapsed stacks", None, "FILE", non_empty),
     Option("--speedscope", "the same for speedscope.app", None, "FILE", non_empty),
     Option("--pprof", "the same for 'go tool pprof' and its kin", None, "FILE", non_empty),
     Option("--firefox", "the same for profiler.firefox.com", None, "FILE", non_empty),
     Option("--only", "these four of this allocator of the recording; pprof and collapsed stacks hold one", None, "NAME", non_empty),
     Option("--top", "show this many functions (default 12)", None, "N", lambda text: int(text) if text.isdigit() else bad_number(), 12),
     Option("--help", "this text", "-h")),
    """Exit status: 0 shown, 2 wrong usage, 125 the file cannot be read or is no result of zeropool.

Example: zeropool report zeropool-record-python3""", mixed=True)


def bad_number():
    raise ValueError("a whole number")


def main(words):
    values, rest = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    if len(rest) != 1:
        COMMAND.fail("one folder or file is wanted" if rest else "no folder or file given")
    show, given = find(rest[0])
    for key in ("svg", "html", "csv", "markdown", *export.FORMATS, "unit", "only"):
        if values[key] and key not in show.options:
            COMMAND.fail(f"--{key} does not fit {show.what}")
        if values[key] and key not in ("unit", "only"):
            results.check_writable(values[key])
    if values["only"] and not any(values[key] for key in export.FORMATS):
        COMMAND.fail("--only goes with " + ", ".join(f"--{key}" for key in export.FORMATS))
    show(given, rest[0], values)
    return OK


def shows(what, *options):
    """Marks a function as the reader of one kind of result, with the options that fit it."""
    def mark(function):
        function.what, function.options = what, options
        return function
    return mark


def find(path):
    """(the function that shows it, what was read from it)."""
    if os.path.isdir(path):
        if not os.path.isfile(os.path.join(path, record_store.RECORD)):
            raise ToolError(f"{path}: no recording in this folder ({record_store.RECORD} is missing)")
        return recording, record_store.load(path)
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from error
    if head in (b"PERFILE2", b"2ELIFREP"):
        return perf_data, None
    if head.lstrip()[:1] in (b"{", b"["):
        return find_json(path)
    try:
        return stacks, record_store.read_stacks(path)
    except (ToolError, UnicodeDecodeError):
        raise ToolError(f"{path}: no result of zeropool (JSON, perf.data or folded stacks)") from None


def find_json(path):
    try:
        given = record_store.read_json(path)
    except ToolError:
        given = read_lines(path)
    first = given[0] if isinstance(given, list) and given else given
    schema = first.get("schema", "") if isinstance(first, dict) else ""
    if schema == results.SCHEMA:
        for each in given if isinstance(given, list) else [given]:
            check_comparison(each, path)
        return comparisons, given if isinstance(given, list) else [given]
    if schema == record_store.SCHEMA:
        return recording, record_store.check(given, path)
    if schema == BENCH_SCHEMA:
        return benchmark, given
    if isinstance(first, dict) and (schema == stats_report.SUM_SCHEMA or isinstance(first.get("gets"), int)):
        return statistics, stats_report.reports_of(given if isinstance(given, list) else [given], path)
    if isinstance(first, dict) and (schema or "zeropool" in first or "pid" in first):
        return plain, given
    raise ToolError(f"{path}: JSON, but no result of zeropool")


def read_lines(path):
    """JSON with one object per line, as --stats appends it."""
    with open(path, encoding="utf-8", errors="replace") as file:
        try:
            return [json.loads(line) for line in file if line.strip()]
        except (ValueError, RecursionError) as error:
            raise ToolError(f"{path}: not readable as JSON ({str(error)[:80]})") from error


def check_comparison(result, path):
    """The result has the shape that table and html rely on, or ToolError."""
    try:
        good = isinstance(result["command"], list) and isinstance(result["notes"], list) and result["rounds"] > 0
        good = good and result["schema"] == results.SCHEMA and bool(result["variants"])
        for variant in result["variants"]:
            table.cells(variant)
            good = good and all(isinstance(run[m], (int, float)) for run in variant["runs"] for m in results.METRICS)
        table.sentences(result)
        table.rows(result)
        results.title(result)
        table.memory_text(result)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        good = False
    if not good:
        raise ToolError(f"{path}: no comparison of zeropool, or a damaged one")


@shows("a recording", "markdown", "only", *export.FORMATS)
def recording(result, path, values):
    folder = path if os.path.isdir(path) else os.path.dirname(path) or "."
    stacks_of, missing = [], []
    for item in result["variants"]:
        try:
            stacks_of.append(record_store.read_stacks(os.path.join(folder, item["folder"], "stacks.folded")))
        except ToolError as error:
            stacks_of.append(None)
            missing.append(error)
    exported = export.prepare(export.from_recording(result, stacks_of), values, path)
    print(record_text.summary(result))
    for error in missing:
        say(f"note: {error}")
    blocks = []
    for item, found in zip(result["variants"], stacks_of):
        if found is None:
            continue
        rows = record_text.hot(found, item["unit"], values["top"])
        print(f"\n{item['name']}\n{table.align(rows, record_text.HOT_HEADINGS)}" if rows else f"\n{item['name']}: no samples")
        print_callers(item.get("callers") or callers.of_stacks(found), item["unit"], item["total"], values["top"])
        blocks.append(f"\n{item['name']}:\n\n{table.markdown_table(rows, record_text.HOT_HEADINGS)}\n")
    for note in result["notes"]:
        print(f"note: {note}")
    if values["markdown"]:
        headings, lines = record_text.rows(result)
        results.store(values["markdown"], f"`{shlex.join(result['command'])}`\n\n{table.markdown_table(lines, headings)}\n"
                      + "".join(blocks))
        say(f"stored {values['markdown']}")
    advice = export.store(exported)
    say(f"files in {folder}: {record_text.files(folder)}")
    say(f"next: {advice}" if advice else
        f"next: zeropool diff {shlex.quote(folder)} OTHER   (after a change), or perf report -i "
        f"{shlex.quote(os.path.join(folder, result['variants'][0]['folder'], 'perf.data'))}")


def print_callers(found, unit, total, limit):
    lines = callers.rows(found, unit, total, limit)
    if lines:
        print("\n" + table.align(lines, callers.HEADINGS))


@shows("a comparison", "html", "csv", "markdown")
def comparisons(given, path, values):
    for key in ("html", "csv"):
        if values[key] and len(given) > 1:
            COMMAND.fail(f"--{key} wants a single comparison, and this file holds several")
    for result in given:
        print(f"{result.get('label') or results.title(result)}: {plural(result['rounds'], 'round')}, medians, ratios to "
              f"{result['baseline']}")
        print(table.text(result))
        if table.memory_text(result):
            print("\n" + table.memory_text(result))
        print()
        for line in [*table.sentences(result), *(f"note: {n}" for n in result["notes"])]:
            print(line)
    if values["markdown"]:
        results.store(values["markdown"], "\n".join(table.markdown(r) for r in given))
    if values["html"]:
        results.store(values["html"], html.page(given[0]))
    if values["csv"]:
        results.store(values["csv"], results.to_csv(given[0]))
    for key in ("markdown", "html", "csv"):
        if values[key]:
            say(f"stored {values[key]}")
    say(f"next: zeropool diff {shlex.quote(path)} OTHER.json   (after a change)")


@shows("a benchmark")
def benchmark(given, path, _values):
    print(bench_stored.text(given, path))
    say(f"next: {shlex.join(given['command'])}   (measures the same again)")


@shows("statistics")
def statistics(reports, path, _values):
    stat.show(reports, stats_report.add(reports), calibrate.page_fault_ns(), False)
    say(f"next: zeropool stat --each {shlex.quote(path)}   (every process at length)")


@shows("this kind of JSON")
def plain(given, path, _values):
    """JSON of another command: as it is, readable."""
    for each in given if isinstance(given, list) else [given]:
        print(json.dumps(each, indent=1))
    say(f"next: zeropool report {shlex.quote(os.path.dirname(path) or '.')}   shows a recording; this file is shown as it is")


@shows("a perf.data", "svg", *export.FORMATS)
def perf_data(_given, path, values):
    text = perf.script(perf.find(), path)
    profile = folded.fold(text, "us")
    if not profile.samples:
        raise ToolError(f"{path}: no samples with a time; was it recorded with -e cpu-clock and --call-graph?")
    item = {"name": "perf.data", "unit": "us", "total": profile.total, "kinds": dict(profile.kinds)}
    print(record_store.split_line(item))
    picture_and_table(profile.stacks, item, path, values, callers.with_lines(profile.callers))


@shows("folded stacks", "svg", "unit", *export.FORMATS)
def stacks(found, path, values):
    if not found:
        raise ToolError(f"{path}: empty")
    item = {"name": "folded stacks", "unit": values["unit"] or unit_of(path), "total": sum(found.values()), "kinds": {}}
    picture_and_table(found, item, path, values)


def unit_of(path):
    """The unit of stacks.folded, from the record.json of its recording; of other files nobody knows."""
    folder = os.path.dirname(os.path.abspath(path))
    for place in (folder, os.path.dirname(folder)):
        try:
            return record_store.load(place)["variants"][0]["unit"]
        except (ToolError, OSError):
            pass
    return "samples"


def picture_and_table(found, item, path, values, called=None):
    name = os.path.basename(path)
    exported = export.prepare(export.Sheet(name, [export.Profile(name, found, item["unit"])]), values, path)
    print(table.align(record_text.hot(found, item["unit"], values["top"]), record_text.HOT_HEADINGS))
    print_callers(called or callers.of_stacks(found), item["unit"], item["total"], values["top"])
    advice = export.store(exported)
    if values["svg"]:
        results.store(values["svg"], record_store.picture(found, item, [name]))
        say(f"stored {values['svg']}")
        advice = f"open {shlex.quote(values['svg'])} in a browser" + (f"; {advice}" if advice else "")
    if advice:
        say(f"next: {advice}")
    else:
        say(f"next: zeropool report --svg flamegraph.svg {shlex.quote(path)}")
