# SPDX-License-Identifier: MIT
"""zeropool stat: statistics of running processes, or from files that `zeropool run --stats` wrote, summed."""
import json
import os
import sys

from . import calibrate, live, metrics, saved, stats_report
from .errors import OK, ToolError, say
from .options import Command, Option, decimal_number
from .table import align

ROWS_SHOWN = 20

COMMAND = Command(
    "stat", "[options] [PID | FILE]...",
    "Shows where requests were served (thread cache, shard, warm or fresh memory), by size, what is held, and how many page\n"
    "faults that avoided, between two bounds ('zeropool advise' measures it). A PID is a running program started with ZEROPOOL_LIVE=on;\n"
    "a FILE is what 'zeropool run --stats=FILE' wrote, one line per process, which are summed. Without either: all\n"
    "running processes that can be read.",
    (Option("--each", "every process at length, not only the sum"),
     Option("--json", "print the sum as JSON"),
     Option("--metrics", "print running processes as OpenMetrics text, for Prometheus; none running is no failure then"),
     Option("--fault-ns", "cost of a page fault in nanoseconds (default: measured now; --metrics: time saved is left out)", None, "N", decimal_number(0, 1e6)),
     Option("--help", "this text", "-h")),
    """Exit status: 0 shown; 2 wrong usage; 125 a process or file cannot be read.

Example: zeropool run --stats=out.json -- python3 job.py; zeropool stat out.json""", mixed=True)


def main(words):
    values, rest = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    if values["metrics"]:
        if values["json"] or values["each"]:
            COMMAND.fail("--metrics goes with neither --json nor --each")
        sys.stdout.write(metrics.text(pages_of(rest), values["fault_ns"]))
        return OK
    reports = [r for word in rest for r in load(word)] if rest else running()
    total = stats_report.add(reports)
    fault_ns = values["fault_ns"] if values["fault_ns"] is not None else calibrate.page_fault_ns()
    if values["json"]:
        low, high = stats_report.faults_avoided(total)
        saving = saved.of(reports, fault_ns)
        total |= {"schema": stats_report.SUM_SCHEMA, "faults_avoided": [low, high], "fault_ns": round(fault_ns, 1),
                  "seconds_saved": [round(saving.low_s, 6), round(saving.high_s, 6)],
                  "reports": reports}
        print(json.dumps(total, indent=1))
        return OK
    show(reports, total, fault_ns, values["each"])
    return OK


def show(reports, total, fault_ns, each):
    if len(reports) == 1:
        print(stats_report.text(reports[0], fault_ns, title(reports[0]), saved.of(reports, fault_ns)))
        return
    rows = stats_report.process_rows(reports, fault_ns)
    print(align(rows[:ROWS_SHOWN], stats_report.PROCESS_HEADINGS))
    if len(rows) > ROWS_SHOWN:
        print(f"and {len(rows) - ROWS_SHOWN} more")
    print("\n" + stats_report.text(total, fault_ns, f"all {len(reports)} processes", saved.of(reports, fault_ns)))
    for report in reports if each else ():
        print("\n" + stats_report.text(report, fault_ns, title(report), saved.of([report], fault_ns)))


def title(report):
    return f"process {stats_report.number(report, 'pid')} ({str(report.get('command', '?'))[:40]})"


def load(word):
    """The reports that one argument means."""
    if word.isdigit() and not os.path.exists(word):
        return [from_process(int(word[:10]))]
    try:
        if word == "-":
            text = sys.stdin.read()
        else:
            with open(word, encoding="utf-8", errors="replace") as file:
                text = file.read()
    except IsADirectoryError as error:
        raise ToolError(f"{word}: is a directory") from error
    reports = stats_report.parse(text, word)
    if not reports:
        raise ToolError(f"{word}: holds no statistics (did every process end by exit? _exit and signals leave none)")
    return reports


def pages_of(words):
    """The pages of these processes, each once; of all without words."""
    for word in words:
        if not (word.isascii() and word.isdigit()):
            COMMAND.fail(f"--metrics shows running processes, and '{word}' is no process id")
    return [page_of(pid) for pid in sorted({int(word[:10]) for word in words})] if words else list(live.pages().values())


def from_process(pid):
    page = page_of(pid)
    if page.age_s > 5:
        say(f"process {pid}: the page is {page.age_s:.0f} s old; the background thread has ended or is stopped")
    return page.report


def page_of(pid):
    page = live.pages().get(pid)
    if page:
        return page
    if live.start_ticks(pid) is None:
        raise ToolError(f"process {pid}: there is none")
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            loaded = "libzeropool-preload" in file.read()
    except OSError:
        loaded = None
    if loaded:
        raise ToolError(f"process {pid} has the pool but no page to read; start it with ZEROPOOL_LIVE=on")
    if loaded is None:
        raise ToolError(f"process {pid}: not yours, or no page to read")
    raise ToolError(f"process {pid} runs without the pool; start it with ZEROPOOL_LIVE=on zeropool run -- CMD")


def running():
    found = [page.report for page in live.pages().values()]
    if not found:
        raise ToolError("no running process to read; start one with: ZEROPOOL_LIVE=on zeropool run -- CMD")
    return found
