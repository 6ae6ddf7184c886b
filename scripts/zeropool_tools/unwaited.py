# SPDX-License-Identifier: MIT
"""Usage of children that nobody waits for: the kernel forgets them where their parent ignores SIGCHLD.

All other processes of a tree are in the figures of wait4: of their parent, or of this process, their subreaper. These are read from
/proc while they run, and what was read last counts, so what they do after the last look is missed.
"""
import os
import signal

TICKS = os.sysconf("SC_CLK_TCK")
CHILD_BIT = 1 << (signal.SIGCHLD - 1)


class Unwaited:
    """Pass `sample` as the tick of a run; `total()` after its end."""

    def __init__(self):
        self.seen = {}  # (pid, start) of a child of a process that ignores SIGCHLD -> (faults, processor seconds)

    def sample(self, pid):
        todo = [pid]
        while todo:
            parent = todo.pop()
            members = children(parent)
            todo += members
            if members and ignores_children(parent):
                for child in members:
                    found = figures(child)
                    if found:
                        self.seen[child, found[0]] = found[1:]

    def total(self):
        """(page faults, processor seconds)."""
        return sum(faults for faults, _ in self.seen.values()), sum(cpu_s for _, cpu_s in self.seen.values())


def children(pid):
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        pass  # ended while we looked
    return found


def ignores_children(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("SigIgn:"):
                    return bool(int(line.split()[1], 16) & CHILD_BIT)
    except (OSError, ValueError, IndexError):
        pass
    return False


def figures(pid):
    """(start, faults, processor seconds) of a process and the children it waited for; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
        faults = sum(int(words[i]) for i in (7, 8, 9, 10))
        return int(words[19]), faults, sum(int(words[i]) for i in (11, 12, 13, 14)) / TICKS
    except (OSError, ValueError, IndexError):
        return None
