# SPDX-License-Identifier: MIT
"""Memory of a whole process tree over time: RSS from /proc/PID/statm, or with PSS from /proc/PID/smaps_rollup.

LightSampler reads RSS from statm, which costs microseconds, within the runs that are measured. Reading smaps_rollup walks the page tables under the process's own lock, about 1 ms per GiB, which slows what is
measured: it is done in runs of their own, whose times do not count.
"""
import os
import time

from .runner import process_parents

PAGE = os.sysconf("SC_PAGE_SIZE")
MOST_POINTS = 800


class Sampler:
    """Pass `self.sample` as the tick of Runner.run."""

    def __init__(self):
        self.started = time.monotonic()
        self.points = []  # (seconds, rss bytes, pss bytes) summed over the tree

    def sample(self, pid):
        rss = pss = 0
        for member in tree(pid):
            try:
                with open(f"/proc/{member}/smaps_rollup", encoding="ascii") as file:
                    for line in file:
                        if line.startswith("Rss:"):
                            rss += int(line.split()[1]) * 1024
                        elif line.startswith("Pss:"):
                            pss += int(line.split()[1]) * 1024
                            break
            except (OSError, ValueError, IndexError):
                pass  # ended while we looked, or not ours to read
        if rss:
            self.points.append((round(time.monotonic() - self.started, 4), rss, pss))

    def summary(self):
        """Peak and time average, or None if the program was over before the first sample."""
        if not self.points:
            return None
        return {"peak_tree_rss_bytes": max(p[1] for p in self.points),
                "peak_tree_pss_bytes": None if self.points[0][2] is None else max(p[2] for p in self.points),
                "mean_tree_rss_bytes": sum(p[1] for p in self.points) // len(self.points),
                "points": [list(p) for p in self.points]}


class LightSampler(Sampler):
    """RSS only; keeps a bounded number of points, evenly spread."""

    def __init__(self):
        super().__init__()
        self.every, self.calls = 1, 0

    def sample(self, pid):
        self.calls += 1
        if self.calls % self.every:
            return
        rss = tree_rss(pid)
        if rss:
            self.points.append((round(time.monotonic() - self.started, 4), rss, None))
        if len(self.points) > MOST_POINTS:
            self.points, self.every = self.points[::2], self.every * 2


def tree_rss(pid):
    """RSS of a process and its descendants by the kernel's counters, which costs microseconds."""
    total, todo = 0, [pid]
    while todo:
        member = todo.pop()
        try:
            with open(f"/proc/{member}/statm", encoding="ascii") as file:
                total += int(file.read().split()[1]) * PAGE
            for thread in os.listdir(f"/proc/{member}/task"):
                with open(f"/proc/{member}/task/{thread}/children", encoding="ascii") as file:
                    todo += [int(word) for word in file.read().split()]
        except (OSError, ValueError, IndexError):
            pass  # ended while we looked
    return total


def tree(root):
    """root and all its descendants."""
    children = {}
    for pid, parent in process_parents():
        children.setdefault(parent, []).append(pid)
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found
