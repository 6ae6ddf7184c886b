# SPDX-License-Identifier: MIT
"""What the kinds of invisible.py share: runs without the library and with it, control groups, bounds."""
import itertools
import os
import re
import shutil
import signal
import statistics
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"
# What the bounds of docs/memory-policy.md allow beside what the program takes without the library, in MiB.
PEAK, PEAK_SLACK = 1.25, 16
PEAK_OF_LOADS = 1.10
REST, REST_SLACK = 1.10, 8
CHILD_SHARE = 32
# Bytes of stack.
STACK_SLACK = 1024

FIGURE = re.compile(r"^(\w[\w-]*) (-?\d+(?:\.\d+)?)$")


class Skipped(Exception):
    pass


class Place:
    """Where the library and the programs are; set once by main."""
    library = folder = ""


class Result:
    """How a run ended: its figures by name, and the other lines of its output."""

    def __init__(self, status, output, messages):
        self.status, self.messages = status, messages
        found = [(line, FIGURE.match(line)) for line in output.splitlines()]
        self.figures = {m[1]: float(m[2]) for _, m in found if m}
        self.lines = [line for line, m in found if not m]

    def __getitem__(self, name):
        return self.figures.get(name, float("nan"))

    def ended(self):
        if isinstance(self.status, int) and self.status < 0:
            return "killed by " + signal.Signals(-self.status).name
        return f"status {self.status}"


def need(program):
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Skipped(f"{program} is not installed")
    return path


def need_root():
    if os.geteuid() != 0:
        raise Skipped("needs root")


def built(name):
    return os.path.join(Place.folder, name)


def start(command, preloaded, settings=None, group=None):
    """The library is loaded into the command only, not into the shell that enters the control group."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ZEROPOOL_") and k != "LD_PRELOAD"}
    own = {"MALLOC_PERTURB_": "0", "LC_ALL": "C", **(settings or {})}
    if preloaded:
        own["LD_PRELOAD"] = Place.library
    command = [str(word) for word in command]
    if group:
        words = [f"{k}={v}" for k, v in own.items()]
        command = ["/bin/sh", "-c", 'echo $$ >"$0" && exec env "$@"', group.entry(), *words, *command]
    else:
        clean.update(own)
    return subprocess.Popen(command, env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, errors="replace", start_new_session=True)


def finish(process, timeout, said=""):
    """The result; of a run that has to be ended the status is "hang"."""
    try:
        output, messages = process.communicate(timeout=timeout)
        return Result(process.returncode, said + output, messages)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, messages = process.communicate()
        return Result("hang", said + output, messages)


def require(plain):
    """Nothing is learned where the program does not work by itself."""
    if plain.status == 77:
        raise Skipped(plain.messages.strip()[-200:] or "cannot be had here")
    if plain.status != 0:
        raise Skipped(f"does not work without the library here: {plain.ended()} {plain.messages.strip()[-200:]}")
    return plain


def run(command, preloaded, timeout=120, **options):
    return finish(start(command, preloaded, **options), timeout)


def both(command, timeout=120, **options):
    """Without the library and with it, at the same time."""
    processes = [start(command, preloaded, **options) for preloaded in (False, True)]
    plain, ours = (finish(process, timeout) for process in processes)
    return require(plain), ours


def medians(command, names, preloaded, times=3, **options):
    """Of so many runs, the median of each figure; None if a run does not end well."""
    results = [run(command, preloaded, **options) for _ in range(times)]
    if not preloaded:
        for result in results:
            require(result)
    if any(result.status != 0 for result in results):
        return None
    return [statistics.median(result[name] for result in results) for name in names]


def allowed(plain, ours):
    return plain == ours or (plain.endswith("refused") and ours == plain[:-len("refused")] + "ok")


def same_lines(plain, ours):
    """(good, what differs): as without the library, or better."""
    if plain.status != ours.status:
        return False, f"{plain.ended()} -> {ours.ended()} {ours.messages.strip()[-100:]} {ours.lines[-1:]}"
    if len(plain.lines) != len(ours.lines):
        return False, f"{len(plain.lines)} lines -> {len(ours.lines)}"
    differing = [f"'{a}' -> '{b}'" for a, b in zip(plain.lines, ours.lines) if not allowed(a, b)]
    return not differing, "; ".join(differing) or ", ".join(ours.lines)[:80] or ours.ended()


def within(plain, ours, peak=(PEAK, PEAK_SLACK), rest=(REST, REST_SLACK)):
    """(good, figures) of the peak and of what rests, each bound a factor and MiB beside it."""
    if ours.status != 0:
        return False, f"{ours.ended()} {ours.messages.strip()[-100:]}"
    good, told = True, []
    for name, bound in (("peak", peak), ("rest", rest)):
        if name not in plain.figures:
            continue
        limit = bound[0] * plain[name] + bound[1]
        good = good and ours[name] <= limit
        told.append(f"{name} {plain[name]:.0f} -> {ours[name]:.0f} MiB (at most {limit:.0f})")
    return good and bool(told), ", ".join(told) or "nothing was measured"


def pass_on(folder, controller):
    """Version 2: the groups inside this one get the controller."""
    with open(f"{folder}/cgroup.subtree_control", "w", encoding="ascii") as file:
        file.write("+" + controller)


class Group:
    """A control group of this process for the length of a with statement; a parent group may have the limit instead."""

    numbers = itertools.count()
    FILES = {("memory", 1): "memory.limit_in_bytes", ("memory", 2): "memory.max", ("pids", 1): "pids.max",
             ("pids", 2): "pids.max", ("soft", 1): "memory.soft_limit_in_bytes", ("soft", 2): "memory.high"}

    def __init__(self, controller, version, limit, limit_of_parent=False, soft=None):
        need_root()
        self.controller = controller
        name = f"zeropool-test-{os.getpid()}-{next(Group.numbers)}"
        top = os.path.join(self.mount(controller, version), name)
        self.folders = [top, os.path.join(top, "inner")] if limit_of_parent else [top]
        self.limit_file = os.path.join(top, self.FILES[controller, version])
        self.wanted = [(self.limit_file, limit)]
        if soft is not None:
            self.wanted.append((os.path.join(top, self.FILES["soft", version]), soft))

    @staticmethod
    def mount(controller, version):
        with open("/proc/self/mounts", encoding="utf-8") as file:
            mounts = [line.split() for line in file]
        for _, folder, kind, options, *_ in mounts:
            if version == 1 and kind == "cgroup" and controller in options.split(","):
                return folder
            if version == 2 and kind == "cgroup2":
                with open(f"{folder}/cgroup.controllers", encoding="ascii") as file:
                    if controller not in file.read().split():
                        continue
                try:
                    pass_on(folder, controller)
                except OSError as error:
                    raise Skipped(f"the {controller} controller is not handed on to groups here: {error}") from error
                return folder
        raise Skipped(f"no {controller} control groups of version {version} are mounted")

    def entry(self):
        return os.path.join(self.folders[-1], "cgroup.procs")

    def lower(self, limit, seconds):
        """Whether the limit could be lowered within so many seconds: the kernel refuses what it cannot reclaim."""
        end = time.monotonic() + seconds
        while True:
            try:
                with open(self.limit_file, "w", encoding="ascii") as file:
                    file.write(str(limit))
                return True
            except OSError:
                if time.monotonic() > end:
                    return False
                time.sleep(0.02)

    def __enter__(self):
        try:
            for folder in self.folders:
                os.mkdir(folder)
                if folder != self.folders[-1] and os.path.exists(f"{folder}/cgroup.subtree_control"):
                    pass_on(folder, self.controller)
            for path, value in self.wanted:
                with open(path, "w", encoding="ascii") as file:
                    file.write(str(value))
        except OSError as error:
            self.__exit__()
            raise Skipped(f"control groups cannot be made here: {error}") from error
        return self

    def __exit__(self, *_):
        for folder in reversed(self.folders):
            for _ in range(100):
                try:
                    os.rmdir(folder)
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.05)


class Variation:
    """One line of the result. mib is what both runs may hold together; alone means that it measures speed."""

    def __init__(self, name, function, *arguments, mib=64, alone=False, **options):
        self.name, self.mib, self.alone = name, mib, alone
        self.run = lambda: function(*arguments, **options)
