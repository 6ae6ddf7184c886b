# SPDX-License-Identifier: MIT
"""What the kernel grants only to a process of one thread, or to one thread alone, after large blocks came and went."""
import ctypes
import os
import time

CLONE_NEWUSER = 0x10000000
CLONE_VM = 0x100
PR_SET_KEEPCAPS = 8
CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def churn():
    """Give an allocator reason to start what it starts: large blocks, and some time after they were freed."""
    for size in (100_000, 1_000_000, 40_000_000, 200_000_000):
        for _ in range(4):
            bytearray(size)[::4096]
    time.sleep(0.2)


def outcome(status):
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"status {code}" if code < 64 else f"errno {code - 64}"


def in_child(name, action, before_fork):
    """Churn before or after fork, then do one thing and report how it ended."""
    if before_fork:
        churn()
    child = os.fork()
    if child == 0:
        if not before_fork:
            churn()
        os._exit(action())
    print(name, "in a child that has", "not churned:" if before_fork else "churned:", outcome(os.waitpid(child, 0)[1]),
          flush=True)


def unshare(flags):
    """unshare(2); 0, or 64 + errno."""
    return 0 if libc.unshare(flags) == 0 else 64 + ctypes.get_errno()


def raise_capabilities():
    """Make effective what is permitted, for the calling thread."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    data[0], data[3] = data[1], data[4]
    libc.capset(header, data)


def change_user():
    """Change user with capabilities kept, which concerns the calling thread, then the group."""
    if os.geteuid() != 0:
        return 0
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setresuid(65534, 65534, 65534)
    raise_capabilities()
    try:
        os.setresgid(65534, 65534, 65534)
    except PermissionError as problem:
        return 64 + problem.errno
    return 0


def main():
    """Each action in a process of its own, as it cannot be undone."""
    for before_fork in (True, False):
        in_child("new user namespace", lambda: unshare(CLONE_NEWUSER), before_fork)
        in_child("unshared memory", lambda: unshare(CLONE_VM), before_fork)
        in_child("user, then group", change_user, before_fork)
    threads = len(os.listdir("/proc/self/task"))
    # Reported, not compared by the suite: a helper thread is allowed as long as nothing above notices it.
    with open("threads", "w", encoding="utf-8") as stream:
        stream.write(f"{threads}\n")


main()
