# SPDX-License-Identifier: MIT
"""zeropool diff: two stored results, before and after a change; with --threshold it fails where the later one costs more."""
import os

from . import diff_compare, diff_record, record_store, results
from .errors import MISMATCH, OK, ToolError, say
from .options import Command, Option, decimal_number, non_empty
from .report import check_comparison


def metric_name(text):
    if text not in results.METRICS:
        raise ValueError(f"one of {', '.join(results.METRICS)}")
    return text


COMMAND = Command(
    "diff", "[options] A B",
    "Compares two recordings (folders) or two comparisons (JSON), A before and B after a change.\n"
    "Of comparisons each allocator is judged by its ratio to the common baseline, which takes the speed of the machine out, or with\n"
    "--absolute by its figures. Of recordings by the sampled total (processor time, page faults, bytes).",
    (Option("--threshold", "exit 1 where B costs more than this many percent above A, and the difference is significant", None, "PCT",
            decimal_number(0, 1e6)),
     Option("--metric", "of comparisons: wall_s (default), user_s, sys_s, cpu_s, faults or peak_rss_bytes", None, "NAME", metric_name,
            "wall_s"),
     Option("--absolute", "of comparisons: figures, not ratios to the baseline"),
     Option("--only", "only this allocator", None, "NAME", non_empty),
     Option("--svg", "of recordings: write the differential flamegraph", None, "FILE", non_empty),
     Option("--help", "this text", "-h")),
    """Exit status: 0 no change beyond the threshold, or none given; 1 B is worse by more; 2 wrong usage; 125 a result cannot be
read, or the two have nothing in common.

Example: zeropool diff --threshold 5 before.json after.json""")


def main(words):
    values, rest = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    if len(rest) != 2:
        COMMAND.fail(f"two results are wanted, not {len(rest)}")
    if values["svg"]:
        results.check_writable(values["svg"])
    sides = [load(path) for path in rest]
    if sides[0]["schema"] != sides[1]["schema"]:
        raise ToolError(f"{rest[0]} and {rest[1]} are results of different commands")
    if sides[0]["schema"] == record_store.SCHEMA:
        worse, advice = diff_record.show(sides, rest, values)
    else:
        if values["svg"]:
            COMMAND.fail("--svg wants recordings")
        worse, advice = diff_compare.show(sides, rest, values)
    return verdict(worse, advice, values)


def load(path):
    if os.path.isdir(path):
        return record_store.load(path)
    result = record_store.read_json(path)
    schema = result.get("schema") if isinstance(result, dict) else None
    if schema == record_store.SCHEMA:
        return record_store.check(result, path)
    if schema != results.SCHEMA:
        raise ToolError(f"{path}: neither a recording nor a comparison of zeropool")
    check_comparison(result, path)
    return result


def verdict(worse, advice, values):
    """worse: [(what, percent)] of significant changes for the worse."""
    limit = values["threshold"]
    if limit is not None:
        beyond = [(what, percent) for what, percent in worse if percent > limit]
        if beyond:
            for what, percent in beyond:
                grown = "from nothing" if percent == float("inf") else f"by {percent:.1f} %"
                say(f"{what} grew {grown}, the threshold is {limit:g} %")
            return MISMATCH
        say(f"nothing grew by more than {limit:g} %")
    say(f"next: {advice}")
    return OK
