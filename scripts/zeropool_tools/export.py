# SPDX-License-Identifier: MIT
"""Stacks in the formats of other viewers: what zeropool report --collapsed, --speedscope, --pprof and --firefox write.

Every format holds the stacks and weights of stacks.folded, none merged or left out: the total that a viewer shows is that
of `report`. The order of stacks in time is not recorded, so they come sorted by name.
"""
import calendar
import json
import shlex
import time
from dataclasses import dataclass, replace
from typing import Callable

from . import export_firefox, export_pprof, folded, results
from .errors import ToolError, say

SPEEDSCOPE_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
SPEEDSCOPE_UNITS = {"us": "microseconds", "bytes": "bytes"}  # of other things it shows the bare number


@dataclass(frozen=True)
class Profile:
    """The stacks of one allocator, or of one file."""
    name: str
    stacks: dict
    unit: str  # "us", "faults", "bytes" or "samples"
    wall_s: float = 0.0

    @property
    def ordered(self):
        return sorted(self.stacks.items())

    @property
    def total(self):
        return sum(self.stacks.values())


@dataclass(frozen=True)
class Sheet:
    """What is exported together."""
    title: str
    profiles: list
    started: float = 0.0  # seconds since 1970; 0: not known
    hz: int = 0  # samples per second; 0: not known


def from_recording(result, stacks):
    """The Sheet of a stored recording with the stacks of each of its variants; a damaged field beside them is left out."""
    try:
        started = max(0, calendar.timegm(time.strptime(result["time"], "%Y-%m-%dT%H:%M:%SZ")))
    except (KeyError, TypeError, ValueError):
        started = 0
    hz = result.get("frequency") if result.get("event") == "cpu" else 0
    profiles = [Profile(item["name"], found, item["unit"], sane(item.get("wall_s"))) for item, found in zip(result["variants"], stacks)]
    return Sheet(" ".join(map(str, result["command"])), profiles, started, int(sane(hz)))


def sane(value):
    return value if isinstance(value, (int, float)) and 0 < value < 1e9 else 0


def collapsed(sheet):
    return folded.to_text(sheet.profiles[0].stacks).encode()


def speedscope(sheet):
    indices, frames, profiles = {}, [], []
    for profile in sheet.profiles:
        samples = []
        for stack, _ in profile.ordered:
            for name in stack:
                if name not in indices:
                    indices[name] = len(frames)
                    frames.append({"name": name})
            samples.append([indices[name] for name in stack])
        profiles.append({"type": "sampled", "name": profile.name, "unit": SPEEDSCOPE_UNITS.get(profile.unit, "none"), "startValue": 0,
                         "endValue": profile.total, "samples": samples, "weights": [weight for _, weight in profile.ordered]})
    return json.dumps({"$schema": SPEEDSCOPE_SCHEMA, "name": sheet.title, "exporter": "zeropool", "activeProfileIndex": 0,
                       "shared": {"frames": frames}, "profiles": profiles}, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Format:
    encode: Callable
    several: bool  # one file holds the stacks of several allocators
    viewer: str  # how to open FILE


FORMATS = {
    "collapsed": Format(collapsed, False, "flamegraph.pl FILE >flamegraph.svg, or any viewer of collapsed stacks"),
    "speedscope": Format(speedscope, True, "open https://www.speedscope.app and drop FILE on it, or: npx speedscope FILE"),
    "pprof": Format(export_pprof.encode, False, "go tool pprof -top FILE"),
    "firefox": Format(export_firefox.encode, True, "open https://profiler.firefox.com and drop FILE on it"),
}


def prepare(sheet, values, path):
    """[(format, file, bytes)] of what `values` asks for. ToolError where it cannot be."""
    wanted = [name for name in FORMATS if values[name]]
    if not wanted:
        return []
    profiles = [p for p in sheet.profiles if p.stacks and values.get("only") in (None, p.name)]
    names = [p.name for p in sheet.profiles if p.stacks]
    if not names:
        raise ToolError(f"{path} has no stacks that could be exported")
    if not profiles:
        raise ToolError(f"{path} has no stacks of {values['only']}; there are: {', '.join(names)}")
    for name in wanted:
        if len(profiles) > 1 and not FORMATS[name].several:
            raise ToolError(f"--{name} holds one allocator, and {path} has {', '.join(names)}; choose one: --only {shlex.quote(names[-1])}")
    sheet = replace(sheet, profiles=profiles)
    return [(name, values[name], FORMATS[name].encode(sheet)) for name in wanted]


def store(prepared):
    """Writes the files; the advice how to open them, or ''."""
    for _, path, content in prepared:
        results.store(path, content)
        say(f"stored {path}")
    return "; ".join(FORMATS[name].viewer.replace("FILE", shlex.quote(path)) for name, path, _ in prepared)
