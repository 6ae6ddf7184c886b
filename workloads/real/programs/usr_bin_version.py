# SPDX-License-Identifier: MIT
"""Start every program of /usr/bin with --version and write down what it printed and how it ended.

The first run of the case, without the library, does this twice and leaves the names of the programs that differ from
themselves (clocks, process ids, random file names) in SUITE_SHARED; the second run leaves those out as well. The
programs run as nobody, cannot gain rights, have no terminal, and are killed after a short time.
"""
import concurrent.futures
import ctypes
import fnmatch
import os
import pwd
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from suite import process  # noqa: E402  (the path above must be set first)

FOLDER = "/usr/bin"
TIMEOUT_S = 10
PARALLEL = 2
PR_SET_NO_NEW_PRIVS = 38
OUTPUT_LIMIT_BYTES = 1 << 20


def skip_patterns(path):
    """The patterns of the skip list."""
    with open(path, encoding="utf-8") as stream:
        return [line.split()[0] for line in stream if line.strip() and not line.startswith("#")]


def programs(patterns):
    """Names of all programs to start."""
    names = []
    for name in sorted(os.listdir(FOLDER)):
        path = os.path.join(FOLDER, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                names.append(name)
    return names


class Starter:
    """Starts programs in scratch directories, with or without the library."""

    def __init__(self):
        self.env = {name: os.environ[name] for name in ("PATH", "LC_ALL", "TZ", "TERM")}
        self.env.update({name: value for name, value in os.environ.items() if name.startswith("ZEROPOOL_")})
        if os.environ["SUITE_PRELOAD"]:
            self.env["LD_PRELOAD"] = os.environ["SUITE_PRELOAD"]
        self.scratch = os.environ["TMPDIR"]
        self.user = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def start(self, name):
        """What one program printed, and its exit status."""
        scratch = os.path.join(self.scratch, name)
        os.mkdir(scratch)
        os.chmod(scratch, 0o777)
        env = dict(self.env, HOME=scratch, TMPDIR=scratch, PWD=scratch)
        try:
            child = subprocess.Popen([os.path.join(FOLDER, name), "--version"], env=env, cwd=scratch,
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                     start_new_session=True, **self.user)
        except OSError as problem:
            return f"cannot start: {problem.strerror}\n".encode()
        return self.finish(child).replace(scratch.encode(), b"@SCRATCH@")

    def finish(self, child):
        """Wait for the end, or enforce it."""
        try:
            stdout, stderr = child.communicate(timeout=TIMEOUT_S)
            end = f"status {child.returncode}"
        except subprocess.TimeoutExpired:
            stdout = stderr = b""
            end = "killed after the timeout"
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        # A process that left the group may hold the pipes open; nobody reads them any more.
        child.stdout.close()
        child.stderr.close()
        child.wait()
        return b"\n".join([end.encode(), b"stdout:", stdout[:OUTPUT_LIMIT_BYTES], b"stderr:",
                           stderr[:OUTPUT_LIMIT_BYTES], b""])

    def start_all(self, names):
        """{name: what it printed}."""
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            results = dict(zip(names, pool.map(self.start, names)))
        for name in names:
            shutil.rmtree(os.path.join(self.scratch, name), ignore_errors=True)
        return results


def unstable_programs(starter, names, results):
    """Names of programs whose second start differs; known to the second run through a file."""
    path = os.path.join(os.environ["SUITE_SHARED"], "unstable")
    if not os.path.exists(path):
        again = starter.start_all(names)
        with open(path, "w", encoding="utf-8") as stream:
            stream.writelines(f"{name}\n" for name in names if again[name] != results[name])
    with open(path, encoding="utf-8") as stream:
        return stream.read().split()


def main():
    """One run of the case."""
    # Inherited by all that is started here: setuid programs stay without rights, and see the preload.
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    process.become_subreaper()
    names = programs(skip_patterns(sys.argv[1]))
    starter = Starter()
    results = starter.start_all(names)
    unstable = unstable_programs(starter, names, results)
    os.mkdir("output")
    for name in names:
        if name not in unstable:
            with open(os.path.join("output", name), "wb") as stream:
                stream.write(results[name])
    print(f"{len(names)} programs, {len(unstable)} of them differ from one start to the next:", *unstable)
    process.kill_everything()


main()
