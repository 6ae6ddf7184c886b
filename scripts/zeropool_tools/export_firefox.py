# SPDX-License-Identifier: MIT
"""Stacks as a processed profile of the Firefox profiler: one process per allocator, with one thread.

Version 60 of that format is written; newer viewers know how to read older versions. Each stack is one sample, whose weight
counts. Samples need places on the time axis: processor time and bytes stand one after the other, so the axis is their
sum; of faults it is their number, shown as milliseconds, as the format has no third unit.
"""
import json

from .folded import ALLOCATOR, FAULT, KERNEL, KINDS, UNMAP

VERSION = 60
GECKO_VERSION = 27  # of Firefox's own format; must be there, says nothing here
COLOURS = dict(zip(KINDS, ("yellow", "green", "red", "blue", "lightblue")))
CATEGORIES = ("Other", *KINDS)  # the viewer wants a grey one
WEIGHTS = {"us": "tracing-ms", "bytes": "bytes"}  # of the rest: samples


def kind_within(outer, name):
    """The kind of a frame, given that of its caller: all of the kernel that a page fault runs is page fault."""
    if not name.endswith(KERNEL):
        return "allocator" if ALLOCATOR.match(name) else "program"
    bare = name.removesuffix(KERNEL)
    if outer == "page faults" or FAULT.search(bare):
        return "page faults"
    return "unmap" if outer == "unmap" or UNMAP.search(bare) else "other system"


class Tables:
    """The tables that all threads share: texts, functions, frames (a function and its kind), stacks (a tree of frames)."""

    def __init__(self):
        self.names, self.frames, self.stacks = {}, {}, {}

    def stack(self, names):
        """The index of a stack; its callers' are made on the way."""
        at, kind = None, "program"
        for name in names:
            kind = kind_within(kind, name)
            function = self.names.setdefault(name, len(self.names))
            frame = self.frames.setdefault((function, CATEGORIES.index(kind)), len(self.frames))
            at = self.stacks.setdefault((at, frame), len(self.stacks))
        return at

    def shared(self):
        n, frames = len(self.names), len(self.frames)
        return {
            "stringArray": list(self.names),
            "funcTable": {"length": n, "name": list(range(n)), "isJS": [False] * n, "relevantForJS": [False] * n,
                          "resource": [-1] * n, "source": [None] * n, "lineNumber": [None] * n, "columnNumber": [None] * n},
            "frameTable": {"length": frames, "address": [-1] * frames, "inlineDepth": [0] * frames,
                           "category": [kind for _, kind in self.frames], "subcategory": [0] * frames,
                           "func": [function for function, _ in self.frames], "nativeSymbol": [None] * frames,
                           "innerWindowID": [0] * frames, "line": [None] * frames, "column": [None] * frames},
            "stackTable": {"length": len(self.stacks), "frame": [frame for _, frame in self.stacks],
                           "prefix": [prefix for prefix, _ in self.stacks]},
            "resourceTable": {"length": 0, "lib": [], "name": [], "host": [], "type": []},
            "nativeSymbols": {"length": 0, "libIndex": [], "address": [], "name": [], "functionSize": []},
            "sources": {"length": 0, "id": [], "filename": []}}


def samples(profile, tables):
    scale = 1000 if profile.unit == "us" else 1
    weights = [weight / scale if scale > 1 else weight for _, weight in profile.ordered]
    times, at = [], 0
    for _, weight in profile.ordered:
        times.append(at / scale if scale > 1 else at)
        at += weight
    return {"length": len(weights), "stack": [tables.stack(stack) for stack, _ in profile.ordered], "time": times,
            "weight": weights, "weightType": WEIGHTS.get(profile.unit, "samples")}


def thread(number, profile, tables):
    empty = {"length": 0, "data": [], "name": [], "startTime": [], "endTime": [], "phase": [], "category": []}
    return {"processType": "default", "processName": profile.name, "name": profile.name, "isMainThread": True,
            "pid": str(number), "tid": number, "processStartupTime": 0, "processShutdownTime": None, "registerTime": 0,
            "unregisterTime": None, "pausedRanges": [], "samples": samples(profile, tables), "markers": empty}


def encode(sheet):
    tables = Tables()
    threads = [thread(number, profile, tables) for number, profile in enumerate(sheet.profiles)]
    unit = "bytes" if sheet.profiles[0].unit == "bytes" else "ms"
    meta = {"interval": 1000 / sheet.hz if sheet.hz else 1, "startTime": sheet.started * 1000, "processType": 0, "stackwalk": 1,
            "product": sheet.title, "arguments": sheet.title, "importedFrom": "zeropool", "version": GECKO_VERSION,
            "preprocessedProfileVersion": VERSION, "symbolicated": True, "symbolicationNotSupported": True,
            "markerSchema": [], "usesOnlyOneStackType": True, "sourceCodeIsNotOnSearchfox": True, "keepProfileThreadOrder": True,
            "initialVisibleThreads": list(range(len(threads))), "initialSelectedThreads": [0],
            "sampleUnits": {"time": unit, "eventDelay": "ms", "threadCPUDelta": "ns"},
            "categories": [{"name": name, "color": COLOURS.get(name, "grey"), "subcategories": ["Other"]} for name in CATEGORIES]}
    return json.dumps({"meta": meta, "libs": [], "shared": tables.shared(), "threads": threads}, separators=(",", ":")).encode()
