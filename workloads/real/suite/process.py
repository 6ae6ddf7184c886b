# SPDX-License-Identifier: MIT
"""Run one command to its end or its timeout, and leave no process of it behind.

Programs under test daemonise, change session and outlive their parent (pg_ctl, redis-server), so a process
group is not enough to find them again. This process therefore becomes a child subreaper: whatever loses its
parent becomes our child, and all that runs below us belongs to the case. That holds as long as only one
case runs at a time in this process, which `run` relies on.
"""
import ctypes
import os
import resource
import signal
import subprocess
import time

PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.005
# Processes a case leaves running may be on their way out; after this they count as left behind.
LINGER_S = 2.0
KILL_S = 10.0
# A program gone wild must not fill the disk.
FILE_LIMIT_BYTES = 4 << 30


class Outcome:
    """How a command ended and what it took."""

    def __init__(self):
        self.status = None        # exit status, or -N when signal N ended it
        self.timed_out = False
        self.left_behind = []     # names of processes that were still running at the end
        self.wall_s = 0.0
        self.user_s = 0.0
        self.system_s = 0.0
        self.minor_faults = 0
        self.peak_rss_kib = 0

    def describe(self):
        """The end of the command in words."""
        if self.timed_out:
            return f"timed out after {self.wall_s:.0f} s"
        if self.status < 0:
            return f"killed by {signal_name(-self.status)}"
        if self.status > 128 and signal_name(self.status - 128):
            return f"exit status {self.status} ({signal_name(self.status - 128)})"
        return f"exit status {self.status}"

    def figures(self):
        """Measurements for the JSON report."""
        return {"status": self.status, "timed_out": self.timed_out, "wall_s": round(self.wall_s, 4),
                "user_s": round(self.user_s, 4), "system_s": round(self.system_s, 4),
                "minor_faults": self.minor_faults, "peak_rss_kib": self.peak_rss_kib}


def signal_name(number):
    """SIGSEGV for 11; an empty string for a number that is no signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def become_subreaper():
    """Adopt the orphans of all descendants; see the top of this file."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants():
    """Processes below this one: {pid: (name, state)}, zombies included."""
    parents = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stream:
                head, _, tail = stream.read().rpartition(")")
        except OSError:
            continue
        fields = tail.split()
        parents[int(entry)] = (int(fields[1]), head.partition("(")[2], fields[0])
    below = {}
    todo = [os.getpid()]
    while todo:
        parent = todo.pop()
        for pid, (ppid, name, state) in parents.items():
            if ppid == parent and pid not in below:
                below[pid] = (name, state)
                todo.append(pid)
    return below


def reap():
    """Collect exit statuses of adopted orphans."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass


def alive():
    """Names of the running descendants, by pid."""
    reap()
    return {pid: name for pid, (name, state) in descendants().items() if state not in "ZX"}


def kill_everything():
    """SIGKILL all descendants, again and again until none is left (they may be forking)."""
    deadline = time.monotonic() + KILL_S
    while True:
        running = alive()
        if not running:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"cannot kill: {running}")
        for pid in running:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(POLL_S)


def _limits():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    soft = FILE_LIMIT_BYTES if hard == resource.RLIM_INFINITY else min(hard, FILE_LIMIT_BYTES)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def run(argv, env, folder, stdout_path, stderr_path, timeout_s):
    """Run argv in `folder` and return its Outcome; standard input is empty."""
    outcome = Outcome()
    with open(stdout_path, "wb") as stdout, open(stderr_path, "wb") as stderr:
        start = time.monotonic()
        child = subprocess.Popen(argv, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout,
                                 stderr=stderr, start_new_session=True, preexec_fn=_limits)
        try:
            _wait(child, outcome, start + timeout_s)
            outcome.wall_s = time.monotonic() - start
            if not outcome.timed_out:
                outcome.left_behind = _linger()
        finally:
            kill_everything()
            # wait4 took the status already; without this Popen would look for the process again.
            child.returncode = outcome.status if outcome.status is not None else -signal.SIGKILL
    return outcome


def _wait(child, outcome, deadline):
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            outcome.status = os.waitstatus_to_exitcode(status)
            outcome.user_s, outcome.system_s = usage.ru_utime, usage.ru_stime
            outcome.minor_faults, outcome.peak_rss_kib = usage.ru_minflt, usage.ru_maxrss
            return
        if time.monotonic() > deadline:
            outcome.timed_out = True
            return
        time.sleep(POLL_S)


def _linger():
    deadline = time.monotonic() + LINGER_S
    while True:
        running = alive()
        if not running or time.monotonic() > deadline:
            return sorted(running.values())
        time.sleep(POLL_S)
