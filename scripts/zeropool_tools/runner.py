# SPDX-License-Identifier: MIT
"""Runs one command once and says what it cost: time, faults, memory, exit status, output.

How the child is started matters for what is measured. The kernel carries a process's peak RSS through exec, and
a child spawned by Python would begin with Python's 9 MB. So setsid(1), which is small, forks the child and
goes away; the child comes back to us because we are its subreaper, and wait4 gives its own figures, with those of
the children it waited for. Children that it did not wait for come to us, too, and are added. The new session also lets us end
everything it started. The clock starts when setsid is gone, 0.1-0.2 ms after the child began.

stdout and stderr go to unlinked files, so nothing stays behind even if we are killed.
"""
import ctypes
import hashlib
import os
import select
import signal
import tempfile
import time
from dataclasses import dataclass, field

from .errors import ToolError

PR_SET_CHILD_SUBREAPER = 36
SETSID = "/usr/bin/setsid"
DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
TERM_GRACE_S = 1.0
TAIL_BYTES = 4096


@dataclass
class Usage:
    """Sum over processes that were waited for; the peak is that of the largest."""
    ru_utime: float = 0.0
    ru_stime: float = 0.0
    ru_minflt: int = 0
    ru_majflt: int = 0
    ru_maxrss: int = 0

    def add(self, other):
        self.ru_utime += other.ru_utime
        self.ru_stime += other.ru_stime
        self.ru_minflt += other.ru_minflt
        self.ru_majflt += other.ru_majflt
        self.ru_maxrss = max(self.ru_maxrss, other.ru_maxrss)


@dataclass
class Result:
    wall_s: float
    user_s: float
    sys_s: float
    minor_faults: int
    major_faults: int
    peak_rss_bytes: int  # of the largest single process
    status: int  # as a shell gives it: 128+n for signal n
    stdout_sha256: str
    stdout_bytes: int
    stderr_tail: str = ""
    left_behind: int = 0  # processes that outlived the command and were ended
    timed_out: bool = False
    stdout: bytes = b""  # its end, where a caller reads figures from it
    requests_per_s: float = None  # of a server, where its client says so
    latencies: dict = field(default_factory=dict)  # percentile -> seconds, the same

    @property
    def latency_p50_s(self):
        return self.latencies.get(50.0)

    @property
    def latency_p95_s(self):
        return self.latencies.get(95.0)

    @property
    def latency_p99_s(self):
        return self.latencies.get(99.0)

    @property
    def faults(self):
        return self.minor_faults + self.major_faults

    @property
    def cpu_s(self):
        return self.user_s + self.sys_s


def status_in_words(status):
    if status > 128:
        try:
            return f"was ended by {signal.Signals(status - 128).name}"
        except ValueError:
            pass
    return f"exited with status {status}"


class Runner:
    def __init__(self):
        # Without a subreaper (some sandboxes refuse), or /proc to find what it adopted, everything still works; only peak
        # RSS has Python's as its floor, and what left the command's process group is not ended.
        libc = ctypes.CDLL(None, use_errno=True)
        self.adopts = os.path.exists("/proc/self/stat") and os.access(SETSID, os.X_OK) and \
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        self.foreign = set(self.children())  # children we had before, e.g. from a shell's exec: not ours to end
        self.reaped = Usage()  # of what end_all() found
        self.current = 0  # process id of the command while it runs

    def run(self, argv, env, stdin=None, timeout_s=None, tick=None, tick_s=0.2):
        """Runs argv to its end. tick(pid) is called every tick_s seconds while it runs."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            actions = [(os.POSIX_SPAWN_OPEN, 0, stdin or os.devnull, os.O_RDONLY, 0),
                       (os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, err.fileno(), 2)]
            started, pid = self.start(argv, env, actions)
            self.current, total = pid, Usage()
            try:
                timed_out = self.watch(pid, started, timeout_s, tick, tick_s)
                _, raw, usage = os.wait4(pid, 0)
                wall = time.perf_counter() - started
                total.add(usage)
            finally:
                self.current = 0
                left = self.end_all(pid)
                total.add(self.reaped)
            code = os.waitstatus_to_exitcode(raw)
            digest, size = hash_file(out)
            self.look_at_output(out, err)
            return Result(wall, total.ru_utime, total.ru_stime, total.ru_minflt, total.ru_majflt,
                          total.ru_maxrss * 1024, 128 - code if code < 0 else code, digest, size,
                          tail(err), left, timed_out, last_bytes(out))

    def look_at_output(self, out, err):
        """For those who want more of it than its digest."""

    def start(self, argv, env, actions):
        """(start time, pid)."""
        try:
            if not self.adopts:
                started = time.perf_counter()
                return started, os.posix_spawn(argv[0], argv, env, file_actions=actions, setpgroup=0,
                                               setsigdef=DEFAULT_SIGNALS)
            before = set(self.children())
            helper = os.posix_spawn(SETSID, ["setsid", "-f", *argv], env, file_actions=actions,
                                    setsigdef=DEFAULT_SIGNALS)
        except OSError as error:
            raise ToolError(f"cannot start {argv[0]}: {error.strerror}") from error
        _, raw, _ = os.wait4(helper, 0)
        started = time.perf_counter()
        new = [p for p in self.children() if p not in before]
        if raw or not new:
            raise ToolError(f"setsid could not start {argv[0]}")
        return started, new[0]

    def watch(self, pid, started, timeout_s, tick, tick_s):
        """Waits until pid has ended. True where it had to be ended because timeout_s was over."""
        descriptor = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            while not poll.poll(tick_s * 1000 if tick or timeout_s else None):
                if timeout_s and time.perf_counter() - started > timeout_s:
                    kill_group(pid, signal.SIGTERM)
                    if not poll.poll(TERM_GRACE_S * 1000):
                        kill_group(pid, signal.SIGKILL)
                        poll.poll()
                    return True
                if tick:
                    tick(pid)
            return False
        finally:
            os.close(descriptor)

    def end_all(self, group=None):
        """Ends and reaps whatever is left of the command, adding up `reaped`; the number of processes that were still there."""
        self.reaped = Usage()
        if group:
            kill_group(group, signal.SIGKILL)
        ended = 0
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            rest = [p for p in self.children() if p not in self.foreign]
            if not rest:
                break
            for pid in rest:
                alive = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
                if alive:
                    # A killed process hands us its own children, so look again afterwards.
                    ended += 1
                    os.kill(pid, signal.SIGKILL)
                self.reaped.add(os.wait4(pid, 0)[2])
        return ended

    @staticmethod
    def children():
        me = os.getpid()
        try:
            with open(f"/proc/self/task/{me}/children", encoding="ascii") as file:
                return [int(word) for word in file.read().split()]
        except OSError:  # kernel without CONFIG_PROC_CHILDREN
            return [pid for pid, parent in process_parents() if parent == me]


def process_parents():
    """(pid, parent pid) of every process."""
    pairs = []
    try:
        names = os.listdir("/proc")
    except OSError:
        names = []
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    pairs.append((int(name), int(file.read().rpartition(b")")[2].split()[1])))
            except (OSError, IndexError, ValueError):
                pass  # it ended while we looked
    return pairs


def kill_group(group, number):
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def hash_file(file):
    file.seek(0)
    digest = hashlib.sha256()
    size = 0
    while chunk := file.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def last_bytes(file):
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL_BYTES))
    return file.read()


def tail(file):
    return last_bytes(file).decode(errors="replace")
