# SPDX-License-Identifier: MIT
"""zeropool advise: runs a program under glibc and under the pool, and says whether the pool is worth it, why, and at what price."""
import array
import fcntl
import functools
import json
import os
import select
import shlex
import stat
import tempfile
import termios

from . import (advise_estimate, advise_live, advise_measure, advise_text, calibrate, elf, results, server, session, stats_report,
               variants)
from .advise_measure import GLIBC, POOL
from .errors import OK, say
from .options import Command, Option, decimal_number, non_empty, whole_number
from .progress import Progress
from .runner import status_in_words
from .words import plural

TUNED, OWN = "glibc-retain", "zend-off"

COMMAND = Command(
    "advise", "[options] -- CMD...\n       zeropool advise [options] --server CMD --client CMD --ready TCP:PORT\n"
    "       zeropool advise --pid PID [--seconds S]",
    "Runs CMD under glibc and under the pool in turns, as often as a clear answer needs, and says whether the pool is worth it:\n"
    "yes, no, or do not use it, with the processor time saved, an interval, its causes, the price in memory, what a setting of\n"
    "glibc alone would bring, and the settings that fit. Children count however they end. CMD's standard input is empty unless\n"
    "it is a file; its output is shown after its first run. Do not use it on a command that must not run more than once.",
    (Option("--once", "one run each, and a wider interval"),
     Option("--max-time", "stop after about this many seconds (default 60), but not before each has run", None, "S",
            decimal_number(0.1, 1e6), 60.0),
     Option("--input", "standard input of CMD", None, "FILE", non_empty),
     Option("--server", "as in compare: start this, let the client work, and stop it", None, "CMD", server.command_line),
     Option("--client", "what the server has to serve; runs without the pool", None, "CMD", server.command_line),
     Option("--ready", "TCP:PORT or TCP:auto, as in compare", None, "TCP:PORT", server.ready_address),
     Option("--ready-timeout", "give up when the server is not ready after this long (default 30)", None, "S",
            decimal_number(0.1, 3600), 30.0),
     Option("--pid", "look at a running process instead", None, "PID", whole_number(1, 1 << 30)),
     Option("--seconds", "for that long (default 10)", None, "S", decimal_number(0.1, 1e6), 10.0),
     Option("--json", "store the answer and every run as JSON", None, "FILE", non_empty),
     Option("--quiet", "no progress", "-q"),
     Option("--help", "this text", "-h")),
    """Exit status: that of CMD in its first run (128+n when signal n ended it), 0 for servers and running processes; 2 wrong usage,
125 zeropool failed, 126, 127 CMD cannot be executed or was not found. After Ctrl-C it says what is known until then,
and ends with 130 where CMD had ended before.

Example: zeropool advise -- python3 job.py""")


def main(words):
    values, argv = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    given = [name for name in ("server", "client", "ready") if values[name] is not None]
    if values["pid"]:
        if argv or given:
            COMMAND.fail("either --pid or a command")
        return advise_live.main(values["pid"], values["seconds"])
    if given and (len(given) < 3 or argv):
        COMMAND.fail("--server, --client and --ready belong together, without another command")
    if not argv and not given:
        COMMAND.fail("no command given")
    if given and values["ready"] == 0 and not any("{port}" in word for word in values["server"]):
        COMMAND.fail("with --ready TCP:auto, --server needs {port} where it takes its port")
    if values["json"]:
        results.check_writable(values["json"])
    return advise(values, session.check_command(values["client"] or argv))


def advise(values, argv):
    served = session.check_command(values["server"]) if values["server"] else None
    subject = served or argv
    chosen, rivals = candidates(subject)
    for variant in chosen.values():
        variants.probe(variant, os.environ)
    obstacles = elf.obstacles(subject[0])
    for obstacle in obstacles:
        say(f"warning: {obstacle}")
    with tempfile.NamedTemporaryFile(prefix="zeropool-advise-") as copied, Progress(quiet=values["quiet"]) as bar:
        measurement = advise_measure.Measurement(
            argv, chosen, values["max_time"], values["once"], standard_input(values["input"], copied),
            (served, values["ready"] or 0, values["ready_timeout"]) if served else None,
            lambda fraction, name: bar.update(fraction, f"a run under {name}"))
        result = measurement.all(is_clear)
    lines, stored = answer(result, rivals, subject, again(values, argv, served), served is not None)
    for line in lines:
        say(line)
    if not result.reports and not result.stopped_by and stored["verdict"] == advise_estimate.NO:
        say(f"next: zeropool doctor {shlex.quote(subject[0])}   (was the pool in it?)")
    if values["json"]:
        results.store(values["json"], json.dumps(stored, indent=1) + "\n")
    if result.stopped_by and result.partial.get(GLIBC) is not result.first:
        return 128 + result.stopped_by
    return OK if served and not result.stopped_by else result.first.status


def candidates(argv):
    """({name: Variant}, {name: how to get it without the pool})."""
    pool = variants.resolve(POOL, "advise")
    chosen = {POOL: pool, GLIBC: variants.Variant(GLIBC), TUNED: variants.Variant(TUNED, tunables=variants.RETAIN_TUNABLES)}
    rivals = {TUNED: f"GLIBC_TUNABLES={variants.RETAIN_TUNABLES}"}
    if advise_text.is_php(argv):
        chosen[OWN] = variants.Variant(OWN, pool.preload, settings={"USE_ZEND_ALLOC": "0"})
        rivals[OWN] = "the pool with USE_ZEND_ALLOC=0"
    return chosen, rivals


def standard_input(path, copied):
    """What every run can read from its beginning: a file that was named or redirected, else nothing."""
    if path:
        session.check_input(path)
        return path
    try:
        kind = os.fstat(0).st_mode
        if stat.S_ISFIFO(kind) and select.select([0], [], [], 0)[0] and unread(0):
            say("note: standard input is a pipe, which only one run could read: CMD finds it empty; --input FILE gives it a file")
        if stat.S_ISREG(kind):
            # A copy, as another open of a deleted file or one past its beginning would read something else.
            while chunk := os.read(0, 1 << 20):
                copied.write(chunk)
            copied.flush()
            return copied.name
    except OSError:
        pass
    return None


def unread(descriptor):
    """How many bytes wait in a pipe."""
    waiting = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
    return waiting[0]


def again(values, argv, served):
    if not served:
        return f"zeropool compare -- {shlex.join(argv)}"
    return results.again({"command": argv, "server": {"command": served, "port": values["ready"] or "auto"}})


def estimate_of(result, name):
    total = stats_report.add(result.reports)
    requests = advise_estimate.requests_of(total) if result.reports else None
    mapped = advise_estimate.requests_of(total, stats_report.GLIBC_MAPS_FROM)
    return advise_estimate.estimate(result.of(GLIBC), result.of(name), page_fault_ns(), requests,
                                    mapped * calibrate.mapping_ns() / 1e9 if mapped else 0.0)


def is_clear(result):
    return advise_estimate.clear(estimate_of(result, POOL))


@functools.cache
def page_fault_ns():
    return calibrate.page_fault_ns()


def differs(result):
    """Why the pool must not be used, where the program does something else under it; '' otherwise."""
    base, pool = result.of(GLIBC), result.of(POOL)
    before, after = {run.status for run in base}, {run.status for run in pool}
    if len(before) == len(after) == 1 and before != after:
        return f"under the pool CMD {status_in_words(after.pop())}, under glibc it {status_in_words(before.pop())}"
    before, after = {run.output for run in base}, {run.output for run in pool}
    if len(base) > 1 and len(before) == len(after) == 1 and before != after:
        return "the output of CMD is another one under the pool than under glibc"
    return ""


def answer(result, rivals, subject, next_command, served):
    """(lines to say, what to store)."""
    fault_ns = page_fault_ns()
    if not result.rounds:
        bounds = advise_estimate.by_rates(result.partial.get(GLIBC) or result.first, result.partial.get(POOL), fault_ns)
        return advise_text.unfinished(result, bounds, subject), {"verdict": "interrupted", "low": bounds[0], "high": bounds[1]}
    found = estimate_of(result, POOL)
    base, pool = result.of(GLIBC), result.of(POOL)
    word = advise_estimate.verdict(found, base, pool)
    parts = advise_estimate.causes(found, base, pool, stats_report.add(result.reports), fault_ns, calibrate.page_clear_ns())
    long_enough = found.base_s >= advise_estimate.SHORT_S
    estimates = {name: estimate_of(result, name) for name in rivals if result.of(name) and long_enough}
    lines = advise_text.advice(result, found, word, parts, rivals, estimates, subject, next_command, "the server" if served else "CMD")
    why = differs(result)
    if why:
        word = advise_estimate.HARM
        lines = [f"{word}: {why}", f"next: {next_command}"]
    if result.stopped_by:
        lines.insert(1, f"interrupted; the figures are those of {plural(result.rounds, 'complete run')} each")
    stored = {"schema": "zeropool-advise-1", "command": subject, "verdict": word, "share": round(found.share, 5),
              "low": round(found.bounds[0], 5), "high": round(found.bounds[1], 5), "saved_s": round(found.saved_s, 6),
              "fault_ns": round(fault_ns, 1), "causes": dict(parts), "rounds": result.rounds, "seconds": round(result.seconds, 3),
              "rivals": {name: round(each.share, 5) for name, each in estimates.items()},
              "runs": {name: [vars(run) for run in runs] for name, runs in result.runs.items()}, "reports": result.reports}
    return lines, stored
