# SPDX-License-Identifier: MIT
"""Rounds of one comparison: warm-up, then rounds in which every variant runs once, in a new random order each.

Interleaving spreads what the machine does meanwhile over all variants; shuffling keeps a variant from always
running after the same neighbour. The outcome of a run (output and exit status) is held against the first one.
"""
import os
import random
import resource
import signal
import time
from dataclasses import dataclass, field, replace

from . import stats
from .errors import ToolError
from .progress import Progress
from .runner import Runner, status_in_words
from .sampler import LightSampler, Sampler
from .server import ServerError, ServerRunner
from .unwaited import Unwaited
from .words import plural

AUTO_MIN, AUTO_MAX, AUTO_STEP = 15, 40, 5
TICK_S = 0.02  # between looks at the memory of what runs
FEW_ROUNDS = 3  # even if the time is over, so that a median exists


@dataclass
class Plan:
    argv: list
    variants: list
    baseline: int = 0  # index into variants
    rounds: int = 0  # 0: as many as precision needs, see next_target
    warmups: int = 1
    max_time_s: float = 300.0
    timeout_s: float = None
    stdin: str = None
    sample_s: float = 0.0  # 0: no memory runs
    ignore_output: bool = False
    seed: int = stats.SEED
    label: str = ""
    server: list = None  # argv of a server that runs under the allocator; argv is then its client
    port: int = 0  # of the server; 0: a free one for each run
    ready_timeout_s: float = 30.0
    prepare: list = None  # argv of what runs before each run, without the allocator and without being measured
    cleanup: list = None  # the same after each run, however that ended
    commands: list = None  # of a comparison of commands: what was given, [argv]
    given: list = None  # and what that means, [compare_commands.Given]
    scan: str = None


@dataclass
class Session:
    plan: Plan
    runs: dict = field(default_factory=dict)  # variant name -> [Result], index is the round
    memory: dict = field(default_factory=dict)  # variant name -> Sampler.summary()
    references: dict = field(default_factory=dict)  # argv of a variant -> the first Result of that command
    mismatches: list = field(default_factory=list)
    failure: str = ""  # the baseline itself fails
    failure_status: int = 0
    notes: list = field(default_factory=list)
    stopped_by: int = 0  # signal that ended the session early
    seconds: float = 0.0

    @property
    def reference(self):
        """The first Result of all; None before."""
        return next(iter(self.references.values()), None)

    @property
    def n_rounds(self):
        return min((len(r) for r in self.runs.values()), default=0)

    def complete_rounds(self, name):
        return self.runs[name][:self.n_rounds]


class HelperError(ToolError):
    """What was to run before or after each run failed."""


class Stop(Exception):
    def __init__(self, number):
        super().__init__()
        self.number = number


def raise_stop(number, _frame):
    # A second Ctrl-C, by an impatient user, must not break the clean-up that the first one started.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise Stop(number)


def execute(plan, progress=None):
    """Runs the plan; whatever happens, returns the Session with what was measured until then."""
    session = Session(plan, {v.name: [] for v in plan.variants})
    started = time.monotonic()
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, raise_stop) for each in handled}
    runner = ServerRunner(plan.server, plan.port, plan.ready_timeout_s) if plan.server else Runner()
    if not runner.adopts:
        what = "no subreaper here" if os.path.exists("/proc/self/stat") else "/proc is not mounted"
        session.notes.append(f"{what}: peak RSS up to {own_mib()} MiB is this tool's own")
    try:
        with progress or Progress() as bar:
            Rounds(session, runner, bar, started).all()
    except Stop as stop:
        session.stopped_by = stop.number
    except (ServerError, HelperError) as error:
        session.failure, session.failure_status = str(error), error.status
    finally:
        runner.end_all()
        for each, handler in before.items():
            signal.signal(each, handler)
        session.seconds = time.monotonic() - started
    return session


def own_mib():
    return -(-resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


class Rounds:
    def __init__(self, session, runner, bar, started):
        self.session, self.plan, self.runner, self.bar = session, session.plan, runner, bar
        self.started = started
        self.environment = dict(os.environ)
        self.random = random.Random(self.plan.seed)
        self.done = 0
        self.target = self.plan.rounds or AUTO_MIN
        self.stray = 0
        self.what = "client" if self.plan.server else "command"

    def all(self):
        for _ in range(self.plan.warmups):
            if not self.round(keep=False):
                return
        while self.session.n_rounds < self.target:
            if not self.round(keep=True):
                return
            if self.over_time():
                self.session.notes.append(
                    f"stopped after {plural(self.session.n_rounds, 'round')}: {self.plan.max_time_s:g} s are over (--max-time)")
                break
            self.target = self.next_target()
        if self.plan.sample_s:
            self.memory_runs()
        if self.stray:
            self.session.notes.append(f"the {self.what} left {plural(self.stray, 'process', 'processes')} behind, ended since")
        if self.plan.server and self.runner.killed:
            self.session.notes.append(f"{plural(self.runner.killed, 'time')} the server did not end on SIGTERM and was killed; "
                                      "what children of it cost is then not counted")

    def over_time(self):
        if self.plan.rounds or self.session.n_rounds < FEW_ROUNDS:
            return False
        return time.monotonic() - self.started > self.plan.max_time_s

    def next_target(self):
        """In automatic mode: 15 rounds, then five more at a time until every interval is narrow, at most 40."""
        n = self.session.n_rounds
        if self.plan.rounds or n < self.target or n >= AUTO_MAX:
            return self.target
        walls = {name: [r.wall_s for r in runs] for name, runs in self.session.runs.items()}
        base = walls[self.plan.variants[self.plan.baseline].name]
        done = all(stats.precise_enough(w, base) for w in walls.values() if w is not base)
        return n if done else min(AUTO_MAX, n + AUTO_STEP)

    def round(self, keep):
        order = list(self.plan.variants)
        if keep:
            self.random.shuffle(order)
        else:
            # The baseline first: whether the command works at all is then said about the plain allocator.
            order.insert(0, order.pop(self.plan.baseline))
        for variant in order:
            result = self.one(variant)
            if not self.accept(variant, result):
                return False
            if keep:
                self.session.runs[variant.name].append(result)
        return True

    def one(self, variant, tick=None, tick_s=TICK_S):
        light, unwaited = None if tick else LightSampler(), Unwaited()

        def show(pid):
            self.show(variant)
            (tick or light.sample)(pid)
            unwaited.sample(pid)

        self.show(variant)
        self.helper("--prepare", self.plan.prepare)
        try:
            result = self.runner.run(list(variant.argv) or self.plan.argv, variant.environment(self.environment), self.plan.stdin,
                                     self.plan.timeout_s, show, tick_s)
        except ServerError as error:
            raise ServerError(f"under {variant.name}: {error}") from error
        finally:
            self.helper("--cleanup", self.plan.cleanup)
        faults, cpu_s = unwaited.total()
        result = replace(result, minor_faults=result.minor_faults + faults, user_s=result.user_s + cpu_s)
        if light and light.points:
            self.session.memory[variant.name] = light.summary()
        self.done += 1
        self.stray += result.left_behind
        return result

    def helper(self, option, argv):
        """Runs the command of --prepare or --cleanup; the comparison makes no sense where that fails."""
        if not argv:
            return
        # As Runner does it, also where the runs themselves are those of a server.
        result = Runner.run(self.runner, argv, self.environment, timeout_s=self.plan.timeout_s)
        if result.timed_out:
            raise HelperError(f"{option} took longer than {self.plan.timeout_s:g} s (--timeout)")
        if result.status:
            raise HelperError(f"{option} {status_in_words(result.status)}" + last_words(result))

    def show(self, variant):
        total = len(self.plan.variants) * (self.plan.warmups + self.target + (1 if self.plan.sample_s else 0))
        spent = time.monotonic() - self.started
        left = spent / self.done * (total - self.done) if self.done else None
        if left is not None and not self.plan.rounds:
            left = min(left, max(0.0, self.plan.max_time_s - spent))
        round_number = max(0, self.done // len(self.plan.variants) - self.plan.warmups + 1)
        where = f"round {round_number}/{self.target}" if round_number else "warm-up"
        self.bar.update(self.done / total, f"{self.plan.label}{where} {variant.name}", left)

    def accept(self, variant, result):
        """False ends the session: the command fails, or differs from what it did before."""
        session = self.session
        if result.timed_out:
            session.failure = f"under {variant.name} the {self.what} took longer than {self.plan.timeout_s:g} s (--timeout)"
            session.failure_status = 125
            return False
        if variant.argv not in session.references:
            session.references[variant.argv] = result
            if result.status and not self.plan.ignore_output:
                session.failure = (f"the {self.what} {status_in_words(result.status)} under {variant.name}"
                                   " (--ignore-output measures it all the same)" + last_words(result))
                session.failure_status = result.status
                return False
            return True
        if self.plan.ignore_output:
            return True
        first = session.references[variant.argv]
        base = self.plan.variants[self.plan.baseline]
        if base.argv != variant.argv:
            base = next(each for each in self.plan.variants if each.argv == variant.argv)
        if result.status != first.status:
            session.mismatches.append(f"exit status differs: under {variant.name} the {self.what} "
                                      f"{status_in_words(result.status)}, under {base.name} it "
                                      f"{status_in_words(first.status)}" + last_words(result))
        elif result.stdout_sha256 != first.stdout_sha256 and not self.plan.server:  # a client reports times
            session.mismatches.append(self.explain_output(variant, base, result, first))
        return not session.mismatches

    def explain_output(self, variant, base, result, first):
        # Blame the allocator only if the command gives the same output twice without it.
        again = self.one(base)
        if again.stdout_sha256 != first.stdout_sha256:
            return (f"the command's output changes from run to run, also under {base.name}; "
                    "--ignore-output compares it all the same")
        return (f"output differs: {plural(result.stdout_bytes, 'byte')} under {variant.name}, "
                f"{first.stdout_bytes} under {base.name} (SHA-256 {result.stdout_sha256[:12]} and "
                f"{first.stdout_sha256[:12]}); --ignore-output compares it all the same")

    def memory_runs(self):
        if not os.path.exists("/proc/self/smaps_rollup"):
            self.session.notes.append("no memory over time: /proc is not mounted, or the kernel has no smaps_rollup")
            return
        for variant in self.plan.variants:
            sampler = Sampler()
            result = self.one(variant, sampler.sample, self.plan.sample_s)
            if not self.accept(variant, result):
                return
            summary = sampler.summary()
            if summary:
                self.session.memory[variant.name] = summary
            else:
                self.session.notes.append(f"{variant.name}: over before the first look at its memory")


def last_words(result):
    lines = [line for line in result.stderr_tail.splitlines() if line.strip()]
    return f"; its last words: {lines[-1].strip()[:200]}" if lines else ""


def check_command(argv):
    """argv with the program's full path; ToolError 126 or 127 as env(1) would say."""
    if not argv[0]:
        raise ToolError("the command is an empty word", 127)
    if "/" in argv[0]:
        if not os.path.exists(argv[0]):
            raise ToolError(f"{argv[0]}: not found", 127)
        if os.path.isdir(argv[0]):
            raise ToolError(f"{argv[0]}: is a directory", 126)
        if not os.access(argv[0], os.X_OK):
            raise ToolError(f"{argv[0]}: not executable", 126)
        return [argv[0], *argv[1:]]
    seen = None
    for folder in os.environ.get("PATH", "/usr/bin:/bin").split(":"):
        path = os.path.join(folder or ".", argv[0])
        if os.path.isfile(path):
            seen = seen or path
            if os.access(path, os.X_OK):
                return [path, *argv[1:]]
    if seen:
        raise ToolError(f"{seen}: not executable", 126)
    hint = "; a command is given as words, without quotes around all of it" if " " in argv[0] else ""
    raise ToolError(f"{argv[0]}: not found in PATH{hint}", 127)


def check_input(path):
    """What --input names can be read as standard input."""
    if os.path.isdir(path):
        raise ToolError(f"--input {path}: is a folder")
    if not os.access(path, os.R_OK):
        raise ToolError(f"--input {path}: {'cannot be read' if os.path.exists(path) else 'no such file'}")
