# SPDX-License-Identifier: MIT
"""The real programs of workloads/real/bench as rows of the benchmark."""
import glob
import json
import os
import shutil
import subprocess
import tempfile

from .bench_bounds import BestPeer, Verdict, mean_ratio
from .bench_rows import CPU, FAULTS, PEAK, WALL, Row
from .errors import ToolError

GROUP = "real"
# The real programs that the bounds on geometric means speak of; a wall of 1-2 s each.
MEAN_WALL_LIMIT, MEAN_RSS_LIMIT = 0.65, 1.10
QUICK = ("numpy_temporaries", "cpython_bytes", "ruby_strings")


class RealPrograms:
    """Rows and scratch folders; use as a context manager, which removes the folders."""

    def __init__(self, folder, scale="1"):
        self.folder, self.scale = folder, scale
        self.notes, self.rows, self.scratch = [], [], []
        self.programs = {}
        path = os.path.join(folder, "list.json")
        if not os.path.isfile(path):
            self.notes.append(f"real programs left out: no {path}")
            return
        with open(path, encoding="utf-8") as stream:
            programs = json.load(stream)["programs"]
        for program in programs:
            if not all(glob.glob(needed) for needed in program["needs"]):
                packages = " ".join(program["packages"])
                self.notes.append(f"{program['name']} left out; on Debian: apt-get install {packages}")
                continue
            name = f"real-{program['name']}"
            self.programs[name] = program
            self.rows.append(Row(name, GROUP, f"real: {program['name']}", tuple(program["argv"]),
                                 (WALL, CPU, PEAK, FAULTS), (BestPeer("wall_s", 1.0),), settle_mib=768,
                                 quick=program["name"] in QUICK, json=False, env=program["env"]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for folder in self.scratch:
            shutil.rmtree(folder, ignore_errors=True)

    def prepare(self, row):
        """(argv, environment) of a row; makes what the program needs first."""
        program = self.programs[row.name]
        scratch = tempfile.mkdtemp(prefix="zeropool-bench-")
        os.chmod(scratch, 0o755)  # PostgreSQL runs as another user
        self.scratch.append(scratch)
        values = {"bench": self.folder, "dir": scratch, "scale": self.scale}
        # The same surroundings for everyone, whatever the user's shell has set.
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": scratch, **program["env"]}
        if "prepare" in program:
            done = subprocess.run([word.format(**values) for word in program["prepare"]], env=env, capture_output=True,
                                  stdin=subprocess.DEVNULL, check=False)
            if done.returncode:
                words = done.stderr.decode(errors="replace").strip().splitlines()
                raise ToolError(f"{row.name}: preparing it failed: {words[-1] if words else done.returncode}")
        return [word.format(**values) for word in program["argv"]], env


def mean_verdicts(results, rows, subject):
    """The two bounds on the geometric means over all real programs; without an interval."""
    found = []
    for key, limit, what in (("wall_s", MEAN_WALL_LIMIT, "wall"), ("peak_rss_bytes", MEAN_RSS_LIMIT, "peak RSS")):
        value = mean_ratio(results, rows, key, subject, "glibc")
        words = f"geometric mean of {what} <= {limit:.2f} x glibc"
        found.append(Verdict(key, words, limit, value, value, value, "glibc"))
    return found
