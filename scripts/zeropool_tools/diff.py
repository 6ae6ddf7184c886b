# SPDX-License-Identifier: MIT
"""zeropool diff: two stored results, before and after a change; with --threshold it fails where the later one costs more."""
import os

from . import diff_compare, diff_record, diff_sites, record_store, results, sites_file
from .errors import MISMATCH, OK, ToolError, say
from .options import Command, Option, decimal_number, non_empty
from .report import check_comparison


def metric_name(text):
    if text not in results.METRICS:
        raise ValueError(f"one of {', '.join(results.METRICS)}")
    return text


COMMAND = Command(
    "diff", "[options] A B",
    "Compares two recordings (folders), two comparisons (JSON) or two profiles of allocation sites (files or folders), A before and B\n"
    "after a change.\n"
    "Of comparisons the common baseline is judged by its figures, every other allocator by its ratio to it, which takes the speed of\n"
    "the machine out. Of recordings the sampled total (processor time, page faults, bytes) is judged, of profiles\n"
    "of allocation sites the bytes, live bytes at the peak and modelled page faults.",
    (Option("--threshold", "exit 1 where B costs more than this many percent above A, and the difference is significant", None, "PCT",
            decimal_number(0, 1e6)),
     Option("--metric", "of comparisons: wall_s (default), user_s, sys_s, cpu_s, faults or peak_rss_bytes", None, "NAME", metric_name,
            "wall_s"),
     Option("--absolute", "of comparisons: judge figures only"),
     Option("--relative", "of comparisons: judge ratios only, as if A and B came from different machines. A program that became\n"
            "slower under all allocators alike then passes"),
     Option("--only", "only this allocator", None, "NAME", non_empty),
     Option("--svg", "of recordings: write the differential flamegraph", None, "FILE", non_empty),
     Option("--help", "this text", "-h")),
    """Exit status: 0 no change beyond the threshold, or none given; 1 B is worse by more; 2 wrong usage; 125 a result cannot be
read, the two have nothing in common, or too few rounds for what --threshold asks.

Example: zeropool diff --threshold 5 before.json after.json""", mixed=True)


def main(words):
    values, rest = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    if len(rest) != 2:
        COMMAND.fail(f"two results are wanted, not {len(rest)}")
    if values["absolute"] and values["relative"]:
        COMMAND.fail("either --absolute or --relative")
    if values["svg"]:
        results.check_writable(values["svg"])
    of_sites = [sites_file.holds_sites(path) for path in rest]
    if all(of_sites):
        for key in ("svg", "only", "relative", "absolute"):
            if values[key]:
                COMMAND.fail(f"--{key} does not fit profiles of allocation sites")
        return verdict(*diff_sites.show([sites_file.load([path]) for path in rest], rest), values)
    if any(of_sites):
        raise ToolError(f"{rest[0]} and {rest[1]} are results of different commands")
    sides = [load(path) for path in rest]
    if sides[0]["schema"] != sides[1]["schema"]:
        raise ToolError(f"{rest[0]} and {rest[1]} are results of different commands")
    if sides[0]["schema"] == record_store.SCHEMA:
        found, advice = diff_record.show(sides, rest, values)
    else:
        if values["svg"]:
            COMMAND.fail("--svg wants recordings")
        found, advice = diff_compare.show(sides, rest, values)
    return verdict(found, advice, values)


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


def verdict(found, advice, values):
    """found: [Growth] of what costs more in B, or cannot be judged."""
    limit = values["threshold"]
    if limit is None:
        say(f"next: {advice}")
        return OK
    few = [growth for growth in found if growth.few]
    if few:
        raise ToolError(f"{few[0].what}: {few[0].doubt}; --threshold can judge nothing")
    beyond = [growth for growth in found if growth.percent > limit]
    for growth in beyond:
        doubt = f", but {growth.doubt}" if growth.doubt else f", the threshold is {limit:g} %"
        say(f"{growth.what} grew {growth.by()}{doubt}")
    if not all(growth.doubt for growth in beyond):
        return MISMATCH
    say(f"nothing else grew by more than {limit:g} %" if beyond else f"nothing grew by more than {limit:g} %")
    say(f"next: {advice}")
    return OK
