# SPDX-License-Identifier: MIT
"""Starts the program to be recorded so that perf sees it from its first instruction, and nothing but it.

The obvious `perf record -- env LD_PRELOAD=... CMD` records env as well, and perf 6.1 then unwinds CMD's stacks with the
addresses at which env had the C library: nine of ten stacks end after one frame. So the program is forked here and
traced; it stops when its exec is done, perf attaches, and the program goes on. perf is outside the preload, the
program's standard error is its own, and wait4 gives the processor time exactly, beside the sampled one.
"""
import ctypes
import os
import signal
import time

from . import foreground
from .errors import NOT_EXECUTABLE, NOT_FOUND, ToolError

PTRACE_TRACEME, PTRACE_DETACH = 0, 17
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long
DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)


def start_stopped(argv, env, stdin=None, stdout=None):
    """pid of the program, stopped before its first instruction."""
    why, tell = os.pipe()  # closed by a successful exec; else it carries errno
    pid = os.fork()
    if pid == 0:
        child(argv, env, stdin, stdout, tell)
    os.close(tell)
    try:
        _, raw = os.waitpid(pid, 0)
        message = os.read(why, 16)
    finally:
        os.close(why)
    if os.WIFSTOPPED(raw) and os.WSTOPSIG(raw) == signal.SIGTRAP:
        return pid
    if os.WIFSTOPPED(raw):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    number = int(message or b"0")
    if number < 0:
        raise ToolError("this system does not allow tracing one's own child (ptrace), which record needs to start the program; "
                        "in a container: docker run --cap-add SYS_PTRACE")
    status = NOT_FOUND if number == 2 else NOT_EXECUTABLE
    raise ToolError(f"{argv[0]}: {os.strerror(number) if number else 'ended before it started'}", status)


def child(argv, env, stdin, stdout, tell):
    """Never returns."""
    try:
        for number in DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        if stdin is not None:
            os.dup2(stdin.fileno(), 0)
        if stdout is not None:
            os.dup2(stdout.fileno(), 1)
        if _libc.ptrace(PTRACE_TRACEME, 0, None, None):
            os.write(tell, b"-1")
            os._exit(125)
        os.execve(argv[0], argv, env)
    except OSError as error:
        if error.errno == 8:  # a script without #!; a shell would run it itself
            try:
                os.execve("/bin/sh", ["/bin/sh", *argv], env)
            except OSError:
                pass
        os.write(tell, str(error.errno or 0).encode())
    finally:
        os._exit(126)


def release(pid):
    """Lets the stopped program run, no longer traced."""
    if _libc.ptrace(PTRACE_DETACH, pid, None, None):
        raise ToolError(f"cannot let the program go on: {os.strerror(ctypes.get_errno())}")


def discard(pid):
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def wait(pid):
    """(status as a shell gives it, user and system seconds, wall seconds, signal that reached us or 0)."""
    with foreground.held():
        started = time.perf_counter()
        release(pid)
        raw, usage, seen = foreground.wait(pid)
        wall_s = time.perf_counter() - started
    code = os.waitstatus_to_exitcode(raw)
    return 128 - code if code < 0 else code, usage.ru_utime + usage.ru_stime, wall_s, seen
