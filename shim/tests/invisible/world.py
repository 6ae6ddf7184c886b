# SPDX-License-Identifier: MIT
"""Kinds about the world around a process: tasks that others count, children, /proc."""
import concurrent.futures
import os
import shutil
import signal
import tempfile
import time

from harness import (CHILD_SHARE, HERE, PYTHON, REST, REST_SLACK, Group, Place, Result, Variation, both, built, finish, need,
                     need_root, require, run, same_lines, start)

CLONE_NEWUSER, CLONE_NEWNS, CLONE_THREAD = 0x10000000, 0x20000, 0x10000


# --- tasks ---

def same(*command, timeout=60):
    return same_lines(*both(command, timeout))


def tasks(name, *arguments):
    return Variation(name, lambda: same(built("tasks"), *arguments), mib=300)


def count_of(command, at_most):
    plain, ours = both(command)
    return ours.status == 0 and ours["tasks"] <= at_most, f"{plain['tasks']:.0f} -> {ours['tasks']:.0f} tasks (at most {at_most})"


def counts(name, how, *arguments, at_most=1):
    return Variation(name, lambda: count_of([built("tasks"), how, *arguments], at_most), mib=300)


def places(version, n, earlier=0, ended=0, by_processes=0):
    def one(preloaded):
        with Group("pids", version, n) as group:
            return run([built("tasks"), "places", n, earlier, ended, by_processes], preloaded, timeout=60, group=group)
    return same_lines(require(one(False)), one(True))


def user_places(n, *more):
    """Unlike others, root is never refused a task: the program becomes another user."""
    need_root()
    return same(built("tasks"), "user-places", n, *more)


def script(name, *arguments):
    return [PYTHON, f"{HERE}/programs.py", name, *arguments]


TASKS = [
    tasks("signals-one-thread", "signals", 0, 0), tasks("signals-3-threads", "signals", 3, 0),
    tasks("signals-3-threads-2-ended", "signals", 3, 2), tasks("signals-5-ended", "signals", 0, 5),
    tasks("signals-20-threads", "signals", 20, 1), tasks("signals-from-outside", "signals-from-outside", 0, 0),
    tasks("signals-from-outside-3", "signals-from-outside", 3, 0), counts("one-task", "count", 0, 64),
    counts("one-task-much", "count", 0, 200), counts("one-task-after-threads", "count", 4, 64),
    counts("one-more-with-3-threads", "count-with-threads", 3, 0, at_most=2),
    counts("one-more-with-threads-ended", "count-with-threads", 2, 3, at_most=2),
    Variation("python-pool-then-fork", lambda: count_of(script("pool-then-fork", 8, 20), 1), mib=600),
    Variation("python-large-pool-then-fork", lambda: count_of(script("pool-then-fork", 3, 60), 1), mib=800),
    tasks("unshares", "unshares", 0), tasks("unshares-after-threads", "unshares", 3), tasks("joins", "joins"),
    Variation("python-unshare-user", lambda: same(*script("unshare", CLONE_NEWUSER, 20)), mib=200),
    Variation("python-unshare-mount", lambda: same(*script("unshare", CLONE_NEWNS, 40)), mib=200),
    Variation("python-unshare-thread", lambda: same(*script("unshare", CLONE_THREAD, 60)), mib=200),
    Variation("pids-5", places, 1, 5), Variation("pids-12", places, 1, 12), Variation("pids-20", places, 1, 20),
    Variation("pids-10-with-2-threads", places, 1, 10, 2), Variation("pids-8-after-2-ended", places, 1, 8, 0, 2),
    Variation("pids-6-processes", places, 1, 6, 0, 0, 1), Variation("pids-9-version-2", places, 2, 9),
    Variation("pids-20-version-2", places, 2, 20), Variation("pids-10-with-2-threads-version-2", places, 2, 10, 2),
    Variation("pids-8-after-2-ended-version-2", places, 2, 8, 0, 2), Variation("pids-6-processes-version-2", places, 2, 6, 0, 0, 1),
    Variation("user-6", user_places, 6), Variation("user-15", user_places, 15),
    Variation("user-9-with-2-threads", user_places, 9, 2), Variation("user-7-processes", user_places, 7, 0, 0, 1),
    Variation("user-10-after-3-ended", user_places, 10, 0, 3),
]


# --- children ---

def keeps_little(command):
    """A child's private memory beyond what it has without the library."""
    plain, ours = both(command)
    names = [name for name in plain.figures if "child" in name]
    if ours.status != 0 or not names:
        return False, f"{ours.ended()} {ours.messages.strip()[-100:]}"
    return all(ours[n] <= plain[n] + CHILD_SHARE for n in names), \
        ", ".join(f"{n} {plain[n]:.0f} -> {ours[n]:.0f}" for n in names) + f" MiB (at most {CHILD_SHARE} more)"


def refills(command):
    plain, ours = both(command)
    return ours.status == 0 and ours["refill-us"] <= plain["refill-us"], f"{plain['refill-us']:.0f} -> {ours['refill-us']:.0f} us"


def forks(name, how, block, count, judge=keeps_little):
    return Variation(name, lambda: judge([built("forks"), how, block, count]), mib=block * count * 2 + 100)


FORKS = [
    forks("computes", "computes", 4, 100), forks("sleeps", "sleeps", 2, 256), forks("polls", "polls", 16, 20),
    forks("reads", "reads", 100, 4), forks("small", "small", 1, 600),
    forks("small-after-one-block", "small", 500, 1), forks("large", "large", 8, 60),
    forks("grandchild", "grandchild", 4, 100), forks("from-thread", "from-thread", 2, 200),
    forks("while-freeing", "while-freeing", 2, 200), forks("going-back", "going-back", 2, 256),
    forks("going-back-one-mib", "going-back", 1, 400), forks("going-back-large", "going-back", 64, 6),
    forks("vfork", "vfork", 64, 1, refills), forks("spawn", "spawn", 64, 1, refills),
    Variation("python-small", lambda: keeps_little(script("idle-child", 30, 16)), mib=1100),
    Variation("python-small-blocks", lambda: keeps_little(script("idle-child", 400, 1)), mib=900),
]


def busy(*arguments):
    """Each child has a pool, and its calls cost at most three times what they cost with glibc alone."""
    names = ("without-pool", "median-us", "ninth-tenth-us")
    command = [built("busy"), *arguments]
    plain, ours = require(run(command, False)), run(command, True)
    if ours.status != 0:
        return False, ours.ended()
    plain, ours = ([result[name] for name in names] for result in (plain, ours))
    good = ours[0] == 0 and ours[1] <= 3 * plain[1] and ours[2] <= 3 * plain[2]
    return good, f"{ours[0]:.0f} of {arguments[1]} without pool, median {plain[1]:.1f} -> {ours[1]:.1f} us, " \
        f"ninth tenth {plain[2]:.1f} -> {ours[2]:.1f} us"


CHILDREN = [Variation(name, busy, *arguments, mib=200, alone=True) for name, arguments in {
    "1-thread": (1, 24, 1024), "2-threads": (2, 24, 512), "4-threads-large": (4, 16, 4096), "8-threads": (8, 12, 300),
    "from-thread": (2, 24, 1024, "from-thread"), "threads-in-child": (2, 24, 2048, "threads-in-child")}.items()]


# --- /proc ---

def leaf(pid):
    """The last descendant: the program behind the wrappers that make namespaces."""
    while True:
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                children = file.read().split()
        except OSError:
            return pid
        if not children:
            return pid
        pid = int(children[-1])


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


def one_resting(wrapper, arguments, preloaded, folder):
    preload = [f"LD_PRELOAD={folder}/preload.so"] if preloaded else []
    command = [*wrapper, "/usr/bin/env", *preload, f"{folder}/resting", *arguments]
    process = start(command, False)
    try:
        said = ""
        while "resting" not in said:
            line = process.stdout.readline()
            if not line:
                return finish(process, 10, said)
            said += line
        time.sleep(10)
        said += f"rest {resident_mib(leaf(process.pid)):.2f}\n"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return Result(0, said, "")


def rests_with_proc(script_text, user, *arguments):
    """In namespaces of its own, in which the script has changed /proc; another user must be able to read the files."""
    need_root()
    wrapper = [need("unshare"), "--pid", "--mount", "--fork", "--kill-child", "/bin/sh", "-c", script_text + ' && exec "$@"', "sh"]
    if user:
        wrapper += [need("setpriv"), f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copy(built("resting"), f"{folder}/resting")
        shutil.copy(Place.library, f"{folder}/preload.so")
        with concurrent.futures.ThreadPoolExecutor(2) as runs:
            plain, ours = runs.map(lambda preloaded: one_resting(wrapper, arguments, preloaded, folder), (False, True))
    require(plain)
    if ours.status != 0:
        return False, f"{ours.ended()} {ours.messages.strip()[-100:]}"
    most = REST * plain["rest"] + REST_SLACK
    return ours["rest"] <= most and ours["made"] <= 3, \
        f"rest {plain['rest']:.0f} -> {ours['rest']:.0f} MiB (at most {most:.0f}), {ours['made']:.0f} tasks made (at most 3)"


PROC = [
    Variation("foreign", rests_with_proc, "true", None, 200, 2, mib=500),
    Variation("foreign-other-user", rests_with_proc, "true", 65534, 300, 1, mib=700),
    Variation("foreign-3-threads", rests_with_proc, "true", 65534, 200, 4, 3, mib=500),
    Variation("hidden", rests_with_proc, "mount -t proc -o hidepid=2 proc /proc", 65534, 200, 2, mib=500),
    Variation("hidden-3-threads", rests_with_proc, "mount -t proc -o hidepid=2 proc /proc", 65534, 150, 10, 3, mib=400),
    Variation("subset", rests_with_proc, "mount -t proc -o subset=pid proc /proc", None, 200, 2, mib=500),
    Variation("covered", rests_with_proc, "mount -t tmpfs none /proc", None, 200, 2, mib=500),
    Variation("covered-3-threads", rests_with_proc, "mount -t tmpfs none /proc", None, 100, 2, 3, mib=300),
    Variation("missing", rests_with_proc, "umount -l /proc", 65534, 250, 5, mib=600),
]

KINDS = {"tasks": TASKS, "forks": FORKS, "children": CHILDREN, "proc": PROC}
