# SPDX-License-Identifier: MIT
"""The files that ZEROPOOL_PROFILE has processes write: reading one, and adding up those of several processes.

The format is in shim/sites_write.c. A file that is cut, or was changed, is refused: its sums would be those of nothing.
"""
import os
import re
from dataclasses import dataclass, field

from .errors import ToolError

KIND = "zeropool-sites-"
MAGIC = KIND + "1"
COLUMNS = ("calls", "bytes", "live", "peak", "freed", "foreign", "life_ns", "allocating_ns", "mapped", "looked", "touched", "faulted")
NUMBERS = ("wall_ns", "least_bytes", "rate_bytes", "has_pool", "peak_bytes", "not_followed")
MODULE = re.compile(r"module (\d+) ([0-9a-f]+) ([0-9a-f]+|-) (\S+)$")
PYTHON = re.compile(r"python (\d+) (\d+) (\S+) (\S+)$")
PYTHON_FRAME = re.compile(r"@(\d+)$")
FRAME = re.compile(r"(?:(\d+)\+)?([0-9a-f]+)$")
CUT = "..."
MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Module:
    path: str
    build_id: str = ""


@dataclass(frozen=True)
class PythonPlace:
    function: str
    file: str
    line: int


@dataclass
class Sums:
    """Of the calls of one stack, one line or all; None of what cannot be told."""
    calls: int = 0
    bytes: int = 0
    live: int = 0
    peak: int = 0
    freed: int = 0
    foreign: int = 0
    life_ns: int = 0
    allocating_ns: int = 0
    mapped: int = 0
    looked: int = 0
    touched: int = 0
    faulted: int = 0

    def add(self, other):
        for name in COLUMNS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class Profile:
    """Of one process, or of several together."""
    commands: list = field(default_factory=list)  # (process, name)
    stacks: dict = field(default_factory=dict)  # (frames, is cut) -> Sums; a frame is (Module, PythonPlace or None, address), innermost first
    lost: Sums = field(default_factory=Sums)  # of calls whose stack found no place
    numbers: dict = field(default_factory=dict)  # of NUMBERS
    python: bool = False  # an interpreter whose functions are not known

    @property
    def total(self):
        total = Sums()
        for each in (*self.stacks.values(), self.lost):
            total.add(each)
        return total


class Damaged(Exception):
    pass


def unescape(name):
    raw = re.sub(rb"\\([0-3][0-7][0-7])", lambda m: bytes([int(m[1], 8)]), name.encode())
    return raw.decode(errors="surrogateescape")


def sums(words):
    if len(words) < len(COLUMNS) or not all(w.isascii() and w.isdigit() and len(w) < 21 for w in words[:len(COLUMNS)]):
        raise Damaged("a line of sums")
    return Sums(*map(int, words[:len(COLUMNS)]))


def frames_of(words, modules, places):
    found = []
    for word in words:
        match = PYTHON_FRAME.match(word)
        if match:
            if int(match[1]) not in places:
                raise Damaged("a frame")
            found.append((places[int(match[1])], 0))
            continue
        match = FRAME.match(word)
        if not match or match[1] and int(match[1]) not in modules:
            raise Damaged("a frame")
        found.append((modules[int(match[1])] if match[1] else None, int(match[2], 16)))
    return tuple(found)


def parse(text):
    """The Profile of one file's text; raises Damaged, with what is wrong."""
    lines = text.split("\n")
    if lines[0] != MAGIC:
        raise Damaged(f"the first line: of another version than {MAGIC}")
    if len(lines) < 3 or lines[-1] or not lines[-2].startswith("end "):
        raise Damaged("cut: the last line is missing")
    profile, modules, places, has_columns, n_stacks = Profile(), {}, {}, False, 0
    for line in lines[1:-2]:
        kind, *words = line.split(" ")
        if kind == "stack" and has_columns:
            n_stacks += 1
            frames, is_cut = words[len(COLUMNS):], words[-1:] == [CUT]
            # Without frames there was no room for them.
            found = frames_of(frames[:-1] if is_cut else frames, modules, places)
            into = profile.stacks.setdefault((found, is_cut), Sums()) if found else profile.lost
            into.add(sums(words))
        elif kind == "module" and MODULE.match(line):
            match = MODULE.match(line)
            modules[int(match[1])] = Module(unescape(match[4]), match[3].strip("-"))
        elif kind == "python" and PYTHON.match(line):
            match = PYTHON.match(line)
            places[int(match[1])] = PythonPlace(unescape(match[3]), unescape(match[4]), int(match[2]))
        elif kind == "columns":
            has_columns = tuple(words) == COLUMNS
            if not has_columns:
                raise Damaged("the columns")
        elif kind == "lost" and has_columns:
            profile.lost.add(sums(words))
        elif kind == "process" and len(words) == 3:
            profile.commands.append((words[0], unescape(words[2])))
        elif kind in NUMBERS and len(words) == 1 and words[0].isdigit():
            profile.numbers[kind] = int(words[0])
        else:
            raise Damaged(f"a line that begins with '{kind[:20]}'")
    if lines[-2] != f"end {n_stacks}" or set(profile.numbers) != set(NUMBERS) or not profile.commands:
        raise Damaged("lines are missing")
    profile.python = any(re.match(r"(lib)?python3", os.path.basename(m.path)) for m in modules.values()) and len(places) < 2
    return profile


def is_sites(path):
    """Does the file begin as one of these?"""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC) + 1) == MAGIC.encode() + b"\n"
    except OSError:
        return False


def read(path):
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from error
    if not data.startswith(KIND.encode()):
        raise ToolError(f"{path}: no profile of allocation sites (ZEROPOOL_PROFILE)")
    try:
        return parse(data.decode("ascii"))
    except UnicodeDecodeError:
        raise ToolError(f"{path}: a damaged profile: characters that are none of it") from None
    except Damaged as error:
        raise ToolError(f"{path}: a damaged profile: {error}") from None


def files(path):
    """The files that a name stands for: itself, those of a folder, or those of the processes that were told this name."""
    if os.path.isdir(path):
        found = sorted(each.path for each in os.scandir(path) if each.is_file() and is_sites(each.path))
        if not found:
            raise ToolError(f"{path}: no profile of allocation sites in this folder")
        return found
    if not os.path.exists(path):
        folder, name = os.path.split(path)
        of_processes = re.compile(re.escape(name) + r"\.\d+$")
        try:
            found = sorted(os.path.join(folder, each) for each in os.listdir(folder or ".") if of_processes.match(each))
        except OSError:
            found = []
        if found:
            return found
    return [path]


def holds_sites(path):
    """Is that a profile, a folder of profiles, or the name of some?"""
    try:
        return any(is_sites(each) for each in files(path))
    except ToolError:
        return False


def together(profiles):
    """One Profile of several processes. Peaks are added, as if all processes had had theirs at the same time."""
    whole = Profile(numbers=dict.fromkeys(NUMBERS, 0))
    for each in profiles:
        whole.commands += each.commands
        whole.python = whole.python or each.python
        whole.lost.add(each.lost)
        for stack, found in each.stacks.items():
            whole.stacks.setdefault(stack, Sums()).add(found)
        for name in ("peak_bytes", "not_followed"):
            whole.numbers[name] += each.numbers[name]
        whole.numbers["wall_ns"] = max(whole.numbers["wall_ns"], each.numbers["wall_ns"])
    for name in ("least_bytes", "rate_bytes", "has_pool"):
        whole.numbers[name] = min(each.numbers[name] for each in profiles)
    return whole


def load(paths):
    return together([read(file) for path in paths for file in files(path)])
