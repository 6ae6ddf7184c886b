# SPDX-License-Identifier: MIT
"""A server under the allocator, a client without it: one run starts the server, lets the client work, and stops it.

Takes the place of Runner in a session. Wall time is the client's, from its start to its end; processor time, faults and
memory are those of the server over its whole life, with the children that it waited for.
"""
import os
import re
import shlex
import signal
import socket
import tempfile
import time
from dataclasses import replace

from .errors import ToolError
from .runner import Runner, kill_group, status_in_words, tail
from .sampler import tree_rss

LOCALHOST = "127.0.0.1"
PROBE_EVERY_S = 0.005
SAMPLE_S = 0.1
STOP_GRACE_S = 10.0
LAST_LINES = 3
# What redis-benchmark, ab and wrk print.
# "  99%    1.20ms" of wrk --latency, "  99%   12" of ab, "p50=0.247 msec" of redis-benchmark -q; and redis-benchmark's own summary.
PERCENTILE = re.compile(rb"^[ \t]+(?P<p>\d+(?:\.\d+)?)%[ \t]+(?P<n>[\d.]+)(?P<u>us|ms|s)?(?=[ \t]*(?:\(|$))|\bp(?P<q>\d+)=(?P<m>[\d.]+) msec", re.M)
SUMMARY = re.compile(rb"avg +min +p50 +p95 +p99 +max\s+[\d.]+ +[\d.]+ +([\d.]+) +([\d.]+) +([\d.]+)")
RATE = re.compile(rb"([\d.]+) requests per second|Requests per second:\s+([\d.]+)|Requests/sec:\s+([\d.]+)")


class ServerError(ToolError):
    """The server could not be used: one sentence that begins with what it did."""


def ready_address(text):
    """The port that TCP:PORT or TCP:auto means; 0 for a free one."""
    kind, _, port = text.partition(":")
    if kind.lower() == "tcp" and port.lower() == "auto":
        return 0
    if kind.lower() != "tcp" or not port.isascii() or not port.isdigit() or not 1 <= int(port[:6]) <= 65535:
        raise ValueError("TCP:PORT such as TCP:6379, or TCP:auto for a free port that stands for {port}")
    return int(port)


def command_line(text):
    """Words as a shell would split them; no shell runs."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"a command ({error})") from error
    if not words:
        raise ValueError("a command")
    return words


def free_port():
    with socket.socket() as taken:
        taken.bind((LOCALHOST, 0))
        return taken.getsockname()[1]


def answers(port):
    try:
        with socket.create_connection((LOCALHOST, port), timeout=1):
            return True
    except OSError:
        return False


def with_port(words, port):
    return [word.replace("{port}", str(port)) for word in words]


def requests_per_s(output):
    """What the client says of itself; of several tests the harmonic mean, as if each had as many requests. None: nothing."""
    rates = [float(next(g for g in match.groups() if g)) for match in RATE.finditer(output)]
    rates = [rate for rate in rates if rate > 0]
    return len(rates) / sum(1 / rate for rate in rates) if rates else None


def milliseconds(number, unit):
    return float(number) * {b"us": 1e-3, b"ms": 1.0, b"s": 1e3, b"": 1.0}[unit]


def latencies(output):
    """{percentile: seconds} of what the client says of its requests; of several tests the slowest. Empty where it says nothing."""
    found = {}
    for match in PERCENTILE.finditer(output):
        text, number, unit = (match["p"], match["n"], match["u"]) if match["p"] else (match["q"], match["m"], b"ms")
        key = float(text)
        found[key] = max(found.get(key, 0.0), round(milliseconds(number, unit or b"") / 1e3, 9))
    summary = SUMMARY.findall(output)
    for p50, p95, p99 in summary:
        for key, number in ((50.0, p50), (95.0, p95), (99.0, p99)):
            found[key] = max(found.get(key, 0.0), round(float(number) / 1e3, 9))
    return found


class ServerRunner(Runner):
    def __init__(self, server, port, ready_timeout_s=30.0):
        super().__init__()
        self.server, self.port, self.ready_timeout_s = server, port, ready_timeout_s
        self.killed = 0  # servers that did not end on SIGTERM

    def run(self, argv, env, stdin=None, timeout_s=None, tick=None, tick_s=0.2):
        """argv is the client; env is the server's environment, while the client gets our own."""
        port = self.port or free_port()
        if answers(port):
            raise ServerError(f"port {port} is in use already: stop what listens there, or let a free one be chosen with "
                              "--ready TCP:auto and {port} in both commands")
        with tempfile.TemporaryFile() as log:
            actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                       (os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)]
            _, pid = self.start(with_port(self.server, port), env, actions)
            self.foreign.add(pid)  # the end of the client does not end it
            usage = None
            try:
                self.wait_ready(pid, port, log)
                peak, last = 0, 0.0

                def look(_client):
                    nonlocal peak, last
                    peak = max(peak, tree_rss(pid))
                    if tick and time.monotonic() - last >= tick_s * 0.9:
                        last = time.monotonic()
                        tick(pid)

                result = super().run(with_port(argv, port), dict(os.environ), stdin, timeout_s, look,
                                     min(SAMPLE_S, tick_s))
                peak = max(peak, tree_rss(pid))
                self.check_alive(pid, log, "while the client ran")
                usage = self.stop(pid)
            finally:
                self.foreign.discard(pid)
                if usage is None:
                    self.kill(pid)
                left = self.end_all(pid)
            total = self.reaped
            total.add(usage)
            return replace(result, user_s=total.ru_utime, sys_s=total.ru_stime, minor_faults=total.ru_minflt,
                           major_faults=total.ru_majflt, peak_rss_bytes=max(peak, total.ru_maxrss * 1024),
                           left_behind=result.left_behind + left, requests_per_s=requests_per_s(result.stdout),
                           latencies=latencies(result.stdout))

    def wait_ready(self, pid, port, log):
        deadline = time.monotonic() + self.ready_timeout_s
        while not answers(port):
            self.check_alive(pid, log, f"before port {port} answered")
            if time.monotonic() > deadline:
                raise ServerError(f"the server did not answer on port {port} within {self.ready_timeout_s:g} s "
                                  f"(--ready-timeout){said(log)}")
            time.sleep(PROBE_EVERY_S)
        # Something else may have taken the port in the meantime.
        self.check_alive(pid, log, f"before port {port} answered")

    def check_alive(self, pid, log, when):
        state = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if state is None:
            return
        status = state.si_status if state.si_code == os.CLD_EXITED else 128 + state.si_status
        hint = ""
        if status == 0:
            hint = "; it must stay in the foreground (nginx: -g 'daemon off;')"
        raise ServerError(f"the server {status_in_words(status)} {when}{hint}{said(log)}")

    def stop(self, pid):
        """SIGTERM, and SIGKILL for the whole session where that does not help; the server's resource usage."""
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_GRACE_S
        while time.monotonic() < deadline:
            done, _, usage = os.wait4(pid, os.WNOHANG)
            if done:
                return usage
            time.sleep(PROBE_EVERY_S)
        self.killed += 1
        kill_group(pid, signal.SIGKILL)
        return os.wait4(pid, 0)[2]

    @staticmethod
    def kill(pid):
        """After a failure: it may have ended by itself, and nobody is interested in its figures."""
        try:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline and not os.waitpid(pid, os.WNOHANG)[0]:
                time.sleep(PROBE_EVERY_S)
            kill_group(pid, signal.SIGKILL)
        except (ProcessLookupError, ChildProcessError):
            pass


def said(log):
    lines = [line.strip() for line in tail(log).splitlines() if line.strip()][-LAST_LINES:]
    return f"; its last words: {' | '.join(line[:200] for line in lines)}" if lines else "; it said nothing"
