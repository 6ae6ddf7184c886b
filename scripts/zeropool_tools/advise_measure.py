# SPDX-License-Identifier: MIT
"""Runs of a command under glibc, under the pool and under its rivals, in turns, until the answer is clear or the time is over.

The first run is under glibc, as the user knows the program. Where the time allows more rounds it only warms caches up. Later rounds
alternate: what a run leaves behind for the next one meets both sides alike. Signals that ask for an end are passed on to the
command; the rounds that were complete by then are what there is, or the shares of page faults where not even one was.
"""
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field

from . import stats_report
from .errors import ToolError
from .runner import Runner, kill_group
from .server import ServerRunner
from .stats_report import number
from .unwaited import Unwaited

POOL, GLIBC = "zeropool", "glibc"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 5.0  # for the command to end after a signal
SAME_S = 0.5  # signals so close to each other are one: to this process, and to its group
TICK_S = 0.03
MOST_ROUNDS, LEAST_ROUNDS = 20, 3
ROUNDS_TO_WARM_UP = 3  # as many must fit behind a run that does not count


@dataclass(frozen=True)
class Run:
    cpu_s: float
    user_s: float
    sys_s: float
    wall_s: float
    faults: int
    peak: int
    status: int
    output: str  # its digest; None of a server's client, which may print times


@dataclass
class Measured:
    runs: dict  # variant name -> [Run]
    reports: list = field(default_factory=list)  # statistics of the last complete run under the pool
    first: Run = None  # under glibc, whether it counts or not
    partial: dict = field(default_factory=dict)  # variant name -> the run that was interrupted
    stopped_by: int = 0
    unwaited: int = 0  # faults of children that nobody waited for
    seconds: float = 0.0

    @property
    def rounds(self):
        return min(len(self.runs[POOL]), len(self.runs[GLIBC]))

    def of(self, name):
        return self.runs.get(name, [])


class Shown:
    """Mixed into a runner: the output of the first run goes to the user."""
    shown = False

    def look_at_output(self, out, err):
        if not self.shown:
            self.shown = True
            for file, stream in ((out, sys.stdout), (err, sys.stderr)):
                file.seek(0)
                shutil.copyfileobj(file, stream.buffer)
                stream.flush()


class CommandRunner(Shown, Runner):
    pass


class ServedRunner(Shown, ServerRunner):
    pass


class Measurement:
    def __init__(self, argv, variants, budget_s, once, stdin=None, served=None, on_progress=None):
        """variants: by name, POOL and GLIBC among them; served: (server argv, port, ready timeout) of a server, then argv is its client."""
        self.argv, self.variants, self.budget_s, self.once, self.stdin = argv, variants, budget_s, once, stdin
        self.runner = ServedRunner(*served) if served else CommandRunner()
        self.served = bool(served)
        self.progress = on_progress or (lambda fraction, label: None)
        self.result = Measured({name: [] for name in variants})
        self.signals, self.passed_on, self.kill_at = 0, 0, None

    def all(self, clear):
        """The Measured; clear(Measured) says whether the answer needs no more rounds."""
        before = {each: signal.signal(each, self.stop) for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN}
        started = time.monotonic()
        try:
            self.rounds(started, clear)
        finally:
            self.runner.end_all()
            for each, handler in before.items():
                signal.signal(each, handler)
            self.result.seconds = time.monotonic() - started
        return self.result

    def rounds(self, started, clear):
        self.result.first = first = self.one(GLIBC)
        if self.result.stopped_by:
            return
        spent = time.monotonic() - started
        names = [name for name in self.variants if name in (POOL, GLIBC) or (2 + ROUNDS_TO_WARM_UP) * 3 * spent < self.budget_s]
        if self.once:
            names = [GLIBC, POOL]
        warm = not self.once and spent * (1 + ROUNDS_TO_WARM_UP * len(names)) < self.budget_s
        if not warm:
            self.keep(GLIBC, first)
        order = names if warm else [n for n in names if n != GLIBC]
        limit = 1 if self.once else MOST_ROUNDS
        while True:
            for name in order:
                self.progress(min(1.0, (time.monotonic() - started) / self.budget_s), name)
                run = None if self.result.stopped_by else self.one(name)
                if self.result.stopped_by:
                    return
                self.keep(name, run)
            done = self.result.rounds
            order = list(reversed(names)) if done % 2 else names
            passed = time.monotonic() - started
            longest = max(run.wall_s for runs in self.result.runs.values() for run in runs) * 1.2 * len(names)
            if done >= limit or passed + longest > self.budget_s or done >= LEAST_ROUNDS and clear(self.result):
                return

    def keep(self, name, run):
        self.result.runs[name].append(run)

    def one(self, name):
        with tempfile.TemporaryDirectory(prefix="zeropool-advise-") as folder:
            path = os.path.join(folder, "stats")
            environment = self.variants[name].environment(os.environ)
            if name == POOL:
                environment["ZEROPOOL_STATS"] = path
            unwaited = Unwaited()
            result = self.runner.run(self.argv, environment, self.stdin, None, lambda pid: self.tick(pid, unwaited), TICK_S)
            if name == POOL and (not self.result.stopped_by or not self.result.reports):
                self.result.reports = read(path)
        faults, cpu_s = unwaited.total()
        self.result.unwaited = max(self.result.unwaited, faults)
        run = Run(result.cpu_s + cpu_s, result.user_s, result.sys_s, result.wall_s, result.faults + faults, result.peak_rss_bytes,
                  result.status, None if self.served else result.stdout_sha256)
        if self.result.stopped_by:
            self.result.partial[name] = run
        return run

    def tick(self, pid, unwaited):
        unwaited.sample(pid)
        if self.signals > self.passed_on:
            self.pass_on(pid)
        if self.kill_at and time.monotonic() > self.kill_at:
            kill_group(pid, signal.SIGKILL)

    def stop(self, number, _frame):
        """The command is in a session of its own, so what a terminal sends does not reach it."""
        now = time.monotonic()
        if self.signals and now < self.kill_at - GRACE_S + SAME_S:
            return
        self.signals += 1
        self.result.stopped_by = self.result.stopped_by or number
        self.kill_at = self.kill_at or now + GRACE_S
        if self.runner.current:
            self.pass_on(self.runner.current)

    def pass_on(self, pid):
        kill_group(pid, self.result.stopped_by if self.signals == 1 else signal.SIGKILL)
        self.passed_on = self.signals


def read(path):
    """The statistics that processes left, but for those of setsid(1), which starts the command."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    try:
        found = stats_report.parse(text, "statistics")
    except ToolError:  # the last line of a process that was killed while it wrote
        found = stats_report.parse("\n".join(text.splitlines()[:-1]), "statistics")
    return [report for report in found if report.get("command") != "setsid" or number(report, "gets")]
