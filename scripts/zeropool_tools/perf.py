# SPDX-License-Identifier: MIT
"""Everything that calls perf: is it there and allowed to, record, script, report, annotate.

perf itself runs outside the preload and attaches to the program (see perf_launch), so its messages are kept apart and explained.
"""
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass

from . import foreground, perf_images, perf_launch, unwaited
from .errors import ToolError
from .folded import HEAD

FIELDS = "comm,pid,tid,time,event,period,ip,sym,symoff,dso"
CAP_SYS_ADMIN, CAP_PERFMON = 21, 38
PARANOID = "/proc/sys/kernel/perf_event_paranoid"
KPTR = "/proc/sys/kernel/kptr_restrict"
BUFFERS = "4M"  # per CPU; perf's 512 KiB hold some twenty stacks, and a busy machine loses samples
MAX_DATA = "2G"


@dataclass
class Recorded:
    status: int  # of the program, as a shell gives it
    wall_s: float
    cpu_s: float  # user and system, as the kernel counts it
    interrupted: int  # signal that reached us meanwhile, or 0
    remarks: list


def find():
    """The path of perf. ToolError with the command that installs it."""
    path = shutil.which("perf")
    if not path:
        raise ToolError("perf is not installed; on Debian: apt-get install linux-perf")
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False,
                              env=clean_environment(), stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{path} does not run: {error}") from error
    if said.returncode or "perf version" not in said.stdout:
        first = (said.stderr or said.stdout).strip().splitlines()
        raise ToolError(f"{path} does not work{': ' + first[0] if first else ''}; on Debian: apt-get install linux-perf")
    return path


def clean_environment():
    """The user's environment without what would be loaded into perf; perf speaks English and asks no server."""
    env = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "GLIBC_TUNABLES", "DEBUGINFOD_URLS")}
    env.update(LC_ALL="C", PERF_PAGER="cat", PAGER="cat")
    return env


def read_number(path):
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def privileged():
    """Whether the paranoid setting does not bind us."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            bits = int(re.search(r"^CapEff:\s*([0-9a-f]+)", file.read(), re.M)[1], 16)
    except (OSError, TypeError):
        return os.geteuid() == 0
    return bool(bits & (1 << CAP_SYS_ADMIN | 1 << CAP_PERFMON))


def check_rights(event):
    """Remarks on what perf will not see here; ToolError where it may do nothing, with the command that mends it."""
    level = read_number(PARANOID)
    remarks = []
    free = privileged()
    if level is None:
        raise ToolError(f"this kernel offers no perf events ({PARANOID} is missing)")
    if event == "alloc" and not (free and os.access("/sys/kernel/tracing/uprobe_events", os.W_OK)):
        raise ToolError("-e alloc sets probes in the allocator, which only root may; run it as: sudo zeropool record -e alloc ...")
    if level >= 3 and not free:
        raise ToolError(f"perf may not be used here (kernel.perf_event_paranoid is {level}); "
                        "as root: sysctl kernel.perf_event_paranoid=1")
    if level >= 2 and not free:
        remarks.append(f"time in the kernel is not seen (kernel.perf_event_paranoid is {level}), so page faults and unmap are "
                       "missing; as root: sysctl kernel.perf_event_paranoid=1")
    elif (read_number(KPTR) or 0) >= (1 if not free else 2):
        remarks.append("kernel functions have no names (kernel.kptr_restrict); as root: sysctl kernel.kptr_restrict=0")
    return remarks


def explain(text):
    """perf's own complaint as one line with a remedy."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("[ perf record")]
    first = next((line for line in lines if line != "Error:"), "it said nothing")
    low = text.lower()
    if "permission" in low or "not permitted" in low or "perf_event_paranoid" in low:
        return (f"perf is not permitted here ({first[:120]}); as root: sysctl kernel.perf_event_paranoid=1; "
                "in a container: docker run --cap-add PERFMON --security-opt seccomp=unconfined")
    if "no space left" in low:
        return "the disk is full: perf could not write its data (-o DIR chooses another place, -F 99 takes less)"
    return f"perf failed: {first[:300]}"


def record(perf, options, variant, argv, data, stdin=None, stdout=None):
    """Runs argv under `variant` and has perf record it from its first instruction to its end."""
    pid = perf_launch.start_stopped(argv, variant.environment(dict(os.environ)), stdin, stdout)
    with tempfile.TemporaryFile() as messages:
        try:
            recorder, control, answer = attach([perf, "record", "-q", "--no-buildid-cache", "-m", BUFFERS, f"--max-size={MAX_DATA}", *options,
                               "-p", str(pid), "-o", data], messages)
        except BaseException:
            perf_launch.discard(pid)
            raise
        try:
            status, cpu_s, wall_s, number = perf_launch.wait(pid)
        except BaseException:
            perf_launch.discard(pid)
            raise
        finally:
            # perf ends by itself with the last process it follows; what the program left running is not waited for.
            detach(recorder, control, answer)
        remarks = remarks_on(data, read_all(messages))
    return Recorded(status, wall_s, cpu_s, number, remarks)


def record_running(perf, options, pid, data, seconds):
    """Records a process that runs already, for that long, until its end, or until Ctrl-C."""
    before, started = unwaited.figures(pid), time.monotonic()
    descriptor = os.pidfd_open(pid)
    number, last = 0, before
    with tempfile.TemporaryFile() as messages, foreground.held():
        recorder, control, answer = attach([perf, "record", "-q", "--no-buildid-cache", "-m", BUFFERS, f"--max-size={MAX_DATA}", *options,
                                            "-p", str(pid), "-o", data], messages)
        try:
            while time.monotonic() - started < seconds and not number and not select.select([descriptor], [], [], 0)[0]:
                number = foreground.pending(min(0.05, seconds))
                last = unwaited.figures(pid) or last
        finally:
            detach(recorder, control, answer)
            os.close(descriptor)
        remarks = remarks_on(data, read_all(messages))
    return Recorded(0, time.monotonic() - started, last[2] - before[2], number, remarks)


def remarks_on(data, text):
    """What is to be said of a recording in that file, after which perf has said this text."""
    if not os.path.isfile(data) or os.path.getsize(data) < 1024:
        raise ToolError(explain(text))
    if "max-size" in text or "size limit" in text.lower():
        return [f"perf stopped at {MAX_DATA}B of data; what came later is missing (-F 99 takes less)"]
    return []


def detach(recorder, control, answer):
    """Ends what attach has begun. Asked and not signalled: while perf writes the header of its file, a signal would simply kill it."""
    try:
        os.write(control, b"stop\n")
    except BrokenPipeError:
        pass
    recorder.wait()
    os.close(control)
    os.close(answer)


def attach(words, messages):
    """(the running perf, the descriptor that takes commands, that of its answers), once it says that it records.

    Both are closed after its end only: an answer that nobody can read would end it by SIGPIPE.
    """
    theirs, control = os.pipe()
    answer, acknowledge = os.pipe()
    try:
        # A session of its own: Ctrl-C is for the program, and perf follows it to its end.
        process = subprocess.Popen([*words, "-D", "-1", f"--control=fd:{theirs},{acknowledge}"], env=clean_environment(),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=messages,
                                   pass_fds=(theirs, acknowledge), start_new_session=True)
        os.close(theirs)
        os.close(acknowledge)
        theirs = acknowledge = -1
        os.write(control, b"enable\n")
        # perf first lists what the kernel has: a second or two. An end without an answer means that it failed.
        if not os.read(answer, 16):
            process.wait()
            raise ToolError(explain(read_all(messages)))
        kept, control, answer = (control, answer), -1, -1
        return process, *kept
    except OSError as error:
        raise ToolError(f"cannot start {words[0]}: {error.strerror}") from error
    finally:
        for descriptor in (theirs, control, answer, acknowledge):
            if descriptor >= 0:
                os.close(descriptor)


def read_all(file):
    file.seek(0)
    return file.read().decode(errors="replace")


def call(words, timeout_s=300):
    """What a reading perf command prints; '' where it fails or takes too long."""
    try:
        done = subprocess.run(words, env=clean_environment(), capture_output=True, timeout=timeout_s, check=False,
                              stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


def script(perf, data, fields=FIELDS):
    """The samples as lines of text, program by program (see perf_images)."""
    images = perf_images.find(lines(perf, data, "--show-task-events", "-F", perf_images.FIELDS))
    groups = images.passes()
    if len(groups) < 2:
        yield from lines(perf, data, "--show-lost-events", "-F", fields)
        return
    for number, group in enumerate(groups):
        options = ["--show-lost-events"] if not number else []
        wanted, keep = set(group), False
        for line in lines(perf, data, *options, *images.limits(group), "-F", fields):
            head = HEAD.match(line) if line[:1] not in "\t\n" else None
            if head:
                keep = images.of_sample.get((head["pid"], head["time"])) in wanted
            if keep or "PERF_RECORD_LOST" in line:
                yield line


def lines(perf, data, *options):
    """What perf script prints. Inlining would start addr2line for every frame: a minute instead of a second."""
    words = [perf, "script", "--no-inline", *options, "-i", data]
    # Into a file: a damaged perf.data can give more complaints than a pipe holds.
    with tempfile.TemporaryFile() as complaints, subprocess.Popen(
            words, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, text=True,
            errors="replace") as process:
        yield from process.stdout
        if process.wait():
            said = read_all(complaints).strip().splitlines() or ["no reason given"]
            raise ToolError(f"{data}: perf cannot read it: {said[-1][:200]}")


def report(perf, data):
    """perf report as text: by function, then with callers' totals."""
    common = [perf, "report", "-i", data, "--stdio", "--no-inline", "-g", "none", "--percent-limit", "0.2"]
    return call([*common, "--no-children"]) + "\n" + call([*common, "--children"])


def annotate(perf, data, symbols):
    """perf annotate of these symbols, one after the other."""
    parts = []
    for symbol in symbols:
        text = call([perf, "annotate", "-i", data, "--stdio", "--stdio-color", "never", "--symbol", symbol], 60)
        if text.strip():
            parts.append(text.rstrip() + "\n")
    return "\n".join(parts)


def symbols_advice(module):
    """The command that brings the debug symbols of a module."""
    if module.startswith("/usr/bin/python3."):
        return f"on Debian: apt-get install {os.path.basename(module)}-dbg"
    if "/libc.so" in module or "/ld-linux" in module:
        return "on Debian: apt-get install libc6-dbg"
    package = call(["dpkg-query", "-S", os.path.realpath(module)], 20) or call(["dpkg-query", "-S", module], 20)
    if package:
        return f"on Debian, with the archive debian-debug: apt-get install {package.split(':')[0]}-dbgsym"
    return "build it with -g and do not strip it"
