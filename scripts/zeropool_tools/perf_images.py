# SPDX-License-Identifier: MIT
"""Reads samples program by program: perf 6.1 unwinds right only within one of them.

It remembers where the C library lay in the first process that it unwound, and uses that for every program that another
process executes later. So a first pass finds out which sample belongs to which executed program (an image: exec makes a new
one, fork keeps it), and each image with a share worth the time gets a perf script of its own.
"""
import re
from collections import Counter
from dataclasses import dataclass

EXEC = re.compile(r"^.*?\s+\d+/\d+\s+(?P<time>[\d.]+): PERF_RECORD_COMM exec: .*:(?P<pid>\d+)/\d+\s*$")
FORK = re.compile(r"PERF_RECORD_FORK\((?P<pid>\d+):\d+\):\((?P<parent>\d+):\d+\)")
SAMPLE = re.compile(r"^.*?\s+(?P<pid>\d+)/\d+\s+(?P<time>[\d.]+):\s*(?P<event>[^\s:]+[^\s]*:)?\s*$")
MOST_PASSES = 12
LEAST_SHARE = 0.01
FIELDS = "comm,pid,tid,time"


@dataclass
class Images:
    of_sample: dict  # (pid, time) -> image
    counts: Counter  # image -> samples

    def passes(self):
        """Lists of images to read together: the big ones each alone, the rest in one last pass."""
        total = sum(self.counts.values())
        ranked = [image for image, _ in self.counts.most_common()]
        alone = [i for i in ranked[:MOST_PASSES - 1] if self.counts[i] >= LEAST_SHARE * total]
        rest = [i for i in ranked if i not in alone]
        return [[i] for i in alone] + ([rest] if rest else [])

    def limits(self, images):
        """perf script options that leave out most of what belongs to other images."""
        wanted = set(images)
        keys = [key for key, image in self.of_sample.items() if image in wanted]
        pids = sorted({pid for pid, _ in keys}, key=int)
        times = sorted((time for _, time in keys), key=float)
        # A limit on pids that is too long for a command line is no limit.
        return [*(["--pid", ",".join(pids)] if len(pids) < 1000 else []), "--time", f"{times[0]},{times[-1]}"]


def find(lines):
    """Images from `perf script --show-task-events -F FIELDS`."""
    current, images = {}, Images({}, Counter())
    newest = 0
    for line in lines:
        if "PERF_RECORD_" in line:
            started, forked = EXEC.match(line), FORK.search(line)
            if started:
                newest += 1
                current[started["pid"]] = newest
            elif forked and forked["pid"] != forked["parent"]:
                current[forked["pid"]] = current.get(forked["parent"], 0)
            continue
        match = SAMPLE.match(line)
        if match:
            image = current.setdefault(match["pid"], 0)
            images.of_sample[match["pid"], match["time"]] = image
            images.counts[image] += 1
    return images
