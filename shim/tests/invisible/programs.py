# SPDX-License-Identifier: MIT
"""Python programs that are run without the library and with it. usage: programs.py NAME NUMBER..."""
import concurrent.futures
import ctypes
import os
import subprocess
import sys
import threading
import time

MIB = 1 << 20


def status_mib(field, pid="self"):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field + ":"))


def tell(name, value):
    print(name, round(value, 2), flush=True)


def filled(n):
    return bytearray(b"x") * n


def bytearrays(n_threads, mib):
    """Each thread in turn makes and drops a buffer; then all rest."""
    turn = threading.Condition()
    state = {"turn": 0}

    def work(me):
        while True:
            with turn:
                turn.wait_for(lambda: state["turn"] % n_threads == me)
                if state["turn"] < 4 * n_threads:
                    filled(mib * MIB)
                state["turn"] += 1
                turn.notify_all()
                if state["turn"] >= 4 * n_threads:
                    break
        time.sleep(60)

    for me in range(n_threads):
        threading.Thread(target=work, args=(me,), daemon=True).start()
    with turn:
        turn.wait_for(lambda: state["turn"] >= 4 * n_threads)
    tell("peak", status_mib("VmHWM"))
    time.sleep(10)
    tell("rest", status_mib("VmRSS"))
    sys.stdout.flush()
    os._exit(0)


def repeated_by_child(n, mib):
    """A child does what its parent did before it."""
    work = f"d = [bytearray(b'x') * ({mib} << 20) for _ in range({n})]; del d"
    exec(work)
    print("child", subprocess.run([sys.executable, "-c", work], check=False).returncode)


def pool_then_fork(n_threads, mib):
    """Python 3.12 warns at a fork where the kernel counts more than one task."""
    with concurrent.futures.ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(lambda i: len(filled(mib * MIB)), range(2 * n_threads)))
    most = 0
    for _ in range(10):
        filled(mib * MIB)
        most = max(most, len(os.listdir("/proc/self/task")))
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        time.sleep(0.05)
    tell("tasks", most)


def unshare(flags, mib):
    """By a foreign function interface: the program does not import it, and no symbol tells."""
    libc = ctypes.CDLL(None, use_errno=True)
    filled(mib * MIB)
    parts = [bytearray(MIB) for _ in range(8)]
    time.sleep(0.3)
    print("unshare", libc.unshare(flags), ctypes.get_errno(), len(parts))


def idle_child(n, mib):
    """A child that uses small objects only."""
    kept = [filled(mib * MIB) for _ in range(n)]
    del kept
    pid = os.fork()
    if pid == 0:
        while os.getppid() > 1:
            time.sleep(0.2)
            len([str(i) for i in range(1000)])
        os._exit(0)
    time.sleep(1.5)
    tell("child", status_mib("RssAnon", pid))
    time.sleep(4)
    tell("child-later", status_mib("RssAnon", pid))
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def main():
    cases = {"bytearrays": bytearrays, "repeated-by-child": repeated_by_child, "pool-then-fork": pool_then_fork,
             "unshare": unshare, "idle-child": idle_child}
    cases[sys.argv[1]](*map(int, sys.argv[2:]))


main()
