# SPDX-License-Identifier: MIT
"""The command line of run-suite, the choice of cases and the report."""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from . import case as casefile
from . import execute, process

HERE = execute.HERE
ROOT = os.path.dirname(os.path.dirname(HERE))
DEFAULT_LIBRARY = os.path.join(ROOT, "build", "shim", "libzeropool-preload.so")
EPILOG = """
Exit status: 0 all cases passed or were skipped; 1 a case failed; 2 wrong usage or an unusable library.
ZEROPOOL_* variables of the environment are passed on to the runs with the library.
"""


class UsageError(Exception):
    """Something the user has to put right first."""


class Parser(argparse.ArgumentParser):
    """argparse with the project's prefix on its messages."""

    def error(self, message):
        print(f"run-suite: {message} (try --help)", file=sys.stderr)
        sys.exit(2)


def parser():
    """All options of run-suite."""
    options = Parser(prog="run-suite", allow_abbrev=False, epilog=EPILOG,
                     description="Run real programs without and with a preloaded library, and compare output, "
                                 "files and exit status.",
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--lib", metavar="PATH", default=DEFAULT_LIBRARY,
                         help="the library to test (default: build/shim/libzeropool-preload.so)")
    options.add_argument("--next", metavar="LIB", help="an allocator preloaded in both runs, behind the library")
    options.add_argument("--threshold", metavar="N", help="ZEROPOOL_THRESHOLD for the runs with the library")
    options.add_argument("--only", metavar="NAME,..", help="only these cases")
    options.add_argument("--long", action="store_true", help="also the cases that take minutes")
    options.add_argument("--list", action="store_true", help="list the cases and what they need; run nothing")
    options.add_argument("--json", metavar="F", help="write verdicts and measurements to this file")
    options.add_argument("--timeout", metavar="S", type=float, help="seconds for each run instead of the case's own")
    options.add_argument("--keep", action="store_true", help="keep the directories of the runs")
    options.add_argument("--cases", metavar="DIR", default=os.path.join(HERE, "cases"), help=argparse.SUPPRESS)
    return options


def choose(options):
    """The cases to run, in order."""
    if not os.path.isdir(options.cases):
        raise UsageError(f"no such folder of cases: {options.cases}")
    known = casefile.load_all(options.cases)
    if options.only is None:
        return [case for case in known.values() if options.long or options.list or not case.long]
    names = [name for name in options.only.split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(f"no such case: {', '.join(unknown) or 'empty list'} (--list shows all)")
    return [known[name] for name in names]


def show_list(cases):
    """One line per case, and what is missing for it."""
    for case in cases:
        notes = " [--long]" if case.long else ""
        missing = case.missing_packages()
        if missing:
            notes += f" [missing: {' '.join(missing)}]"
        print(f"{case.name:<20} {case.summary}{notes}")


def library(path, base, label):
    """The library to preload, as a copy if it lies outside the system's folders.

    The copy is readable for other users whatever the folder it was built in allows, and it stays the same
    when somebody rebuilds during the run.
    """
    if not os.path.isfile(path):
        raise UsageError(f"{label}: no such file: {path}")
    path = os.path.realpath(path)
    if path.startswith("/usr/"):
        return path
    if any(mark in path for mark in ": "):
        raise UsageError(f"{label}: LD_PRELOAD cannot name a path with a colon or a space: {path}")
    copy = os.path.join(base, os.path.basename(path))
    shutil.copyfile(path, copy)
    os.chmod(copy, 0o755)
    return copy


def check_loads(preload):
    """Refuse to start with a library that ld.so would ignore: every case would pass."""
    env = {"PATH": execute.PATH, "LC_ALL": "C.UTF-8", "LD_PRELOAD": preload.after}
    probe = subprocess.run(["/usr/bin/cat", "/proc/self/maps"], env=env, capture_output=True, check=False,
                           timeout=30)
    first = preload.after.split(":")[0]
    if probe.returncode != 0 or first.encode() not in probe.stdout:
        message = probe.stderr.decode(errors="replace").strip() or f"cat ends with status {probe.returncode}"
        raise UsageError(f"cannot preload {first}: {message}")


def report(result):
    """One line per case; on failure the evidence below it."""
    line = f"{result.verdict}  {result.case.name:<20}"
    if result.reason:
        line += f" {result.reason}"
    elif len(result.runs) == 2:
        before, after = (run.outcome for run in result.runs)
        line += (f" {before.wall_s:6.2f} s -> {after.wall_s:6.2f} s, page faults "
                 f"{before.minor_faults} -> {after.minor_faults}")
    print(line.rstrip())
    for detail in result.details:
        print(f"      {detail}")
    sys.stdout.flush()


def run_all(cases, options, base):
    """Run the cases in a base directory; returns the results."""
    behind = library(options.next, base, "--next") if options.next else None
    preload = execute.Preload(library(options.lib, base, "--lib"), behind, options.threshold)
    check_loads(preload)
    results = []
    for case in cases:
        result = execute.run_case(case, base, preload, options.timeout, options.keep)
        report(result)
        results.append(result)
    return results


def write_json(path, options, results, totals):
    """The machine-readable report."""
    document = {"library": os.path.abspath(options.lib), "next": options.next, "threshold": options.threshold,
                **totals, "cases": [result.as_json() for result in results]}
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(document, stream, indent=2)
        stream.write("\n")


def summarize(options, results):
    """The last line, the JSON file, and the exit status."""
    counts = {verdict: sum(result.verdict == verdict for result in results)
              for verdict in ("pass", "fail", "skip")}
    if options.json:
        write_json(options.json, options, results,
                   {"passed": counts["pass"], "failed": counts["fail"], "skipped": counts["skip"]})
    print(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped")
    return 1 if counts["fail"] else 0


def interrupted(number, _frame):
    """Turn SIGTERM and SIGHUP into an exception, so that what runs is killed and removed."""
    raise SystemExit(128 + number)


def main(arguments):
    """Entry point; returns the exit status."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    base = None
    try:
        cases = choose(options)
        if options.list:
            show_list(cases)
            return 0
        process.become_subreaper()
        base = tempfile.mkdtemp(prefix="zpreal-")
        os.chmod(base, 0o755)
        return summarize(options, run_all(cases, options, base))
    except (UsageError, casefile.CaseError) as problem:
        print(f"run-suite: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads the report (`run-suite | head`); say nothing when Python flushes at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        if base and options.keep:
            print(f"run-suite: kept {base}", file=sys.stderr)
        elif base:
            shutil.rmtree(base, ignore_errors=True)
