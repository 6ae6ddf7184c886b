# SPDX-License-Identifier: MIT
"""Waits for the user's program as a shell does: signals are the program's, and this process outlives it and cleans up.

What a terminal sends reaches the program by itself, as it is in the same process group. What is sent to this process alone
(kill, timeout, a supervisor) is passed on, unless the program ends by itself first: a signal to the whole group cannot be
told from that, and a second one may cut short what the program does at its first.
"""
import os
import signal
import time
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
SI_KERNEL = 0x80  # si_code of what a terminal sends
GRACE_S = 0.2


class Interrupted(KeyboardInterrupt):
    """A signal that ends this command, as an exception so that `with` and `finally` clean up."""

    def __init__(self, number):
        super().__init__()
        self.number = number


def raise_interrupted(number, _frame):
    # A second signal must not break the clean-up that the first one started.
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)


def clean_up_on_signals():
    """Signals that end a process raise Interrupted instead; those that are ignored (nohup) stay so."""
    # With SIGCHLD ignored, which is inherited, no child's status could be had.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, raise_interrupted)


@contextmanager
def held():
    """Signals within are kept for wait(). Yields the mask that the program must start with."""
    wanted = {each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted | {signal.SIGCHLD})
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait(pid):
    """(raw status, resource usage, first signal that came meanwhile or 0). Call within held()."""
    wanted = {each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN} | {signal.SIGCHLD}
    first, due = 0, {}  # due: signal -> when to pass it on
    while True:
        done, raw, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return raw, usage, first
        now = time.monotonic()
        for number in [each for each, at in due.items() if at <= now]:
            del due[number]
            os.kill(pid, number)
        if due:
            info = signal.sigtimedwait(wanted, min(due.values()) - now if min(due.values()) > now else 0)
        else:
            info = signal.sigwaitinfo(wanted)
        if info is None or info.si_signo == signal.SIGCHLD:
            continue
        first = first or info.si_signo
        if info.si_code != SI_KERNEL:
            due.setdefault(info.si_signo, time.monotonic() + GRACE_S)


def run(argv, env):
    """Status of a command as a shell gives it. Signals are the command's; we outlive it."""
    with held() as mask:
        raw, _, _ = wait(os.posix_spawn(argv[0], argv, env, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ], setsigmask=mask))
    code = os.waitstatus_to_exitcode(raw)
    return 128 - code if code < 0 else code


def pending(seconds):
    """The signal that ends this command, if one comes within that time; 0 otherwise. Call within held()."""
    wanted = {each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN}
    info = signal.sigtimedwait(wanted, seconds)
    return info.si_signo if info else 0
