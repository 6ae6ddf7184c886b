# SPDX-License-Identifier: MIT
"""The hot lines of a function: what perf annotate says of its instructions, summed by line of source.

Where the library has no debug information, the instructions themselves take the place of the lines.
"""
import os
import re
from collections import Counter
from dataclasses import dataclass

from . import perf
from .words import plural

LEAST_PERCENT = 2.0
INSTRUCTION = re.compile(r"^\s*(?P<percent>\d+\.\d+)\s+:\s+(?P<address>[0-9a-f]+):\s*(?P<text>.*)$")
SAMPLES = re.compile(r"\((\d+) samples")
LOCATION = re.compile(r"^(?P<file>/.*):(?P<line>\d+)(?: \(.*\))?$")


@dataclass
class Line:
    percent: float
    where: str  # core/heap/heap.c:120, or the offset of an instruction
    text: str


@dataclass
class Function:
    name: str
    samples: int
    lines: list


def function(tool, data, library, symbol, root):
    """The Function, its lines in the order of the source; None where perf has nothing to say."""
    text = perf.call([tool, "annotate", "-i", data, "--stdio", "--stdio-color", "never", "--no-source", "-d", os.path.basename(library),
                      "--symbol", symbol], 120)
    instructions = [(float(m["percent"]), m["address"], m["text"]) for m in map(INSTRUCTION.match, text.splitlines()) if m]
    hot = [each for each in instructions if each[0] > 0]
    if not hot:
        return None
    counted = SAMPLES.search(text)
    places = locate(library, [address for _, address, _ in hot], root)
    if places:
        lines = by_line(hot, places, root)
    else:
        first = int(instructions[0][1], 16)
        lines = [Line(percent, f"+{int(address, 16) - first:#x}", " ".join(code.split("#")[0].split()))
                 for percent, address, code in hot if percent >= LEAST_PERCENT]
    return Function(symbol, int(counted[1]) if counted else 0, lines)


def locate(library, addresses, root):
    """[(file below root, line)] of the addresses; [] without debug information or addr2line."""
    found = []
    for answer in perf.call(["addr2line", "-e", library, *addresses], 60).splitlines():
        match = LOCATION.match(answer)
        path = os.path.relpath(os.path.normpath(match["file"]), root) if match else ""
        found.append((path, int(match["line"])) if match and not path.startswith("..") else None)
    return found if len(found) == len(addresses) and any(found) else []


def by_line(hot, places, root):
    sums = Counter()
    for (percent, _, _), place in zip(hot, places):
        if place:
            sums[place] += percent
    return [Line(percent, f"{path}:{number}", source(os.path.join(root, path), number))
            for (path, number), percent in sorted(sums.items()) if percent >= LEAST_PERCENT]


def source(path, number):
    try:
        with open(path, encoding="utf-8") as file:
            for at, text in enumerate(file, 1):
                if at == number:
                    return text.strip()
    except OSError:
        pass
    return ""


def listing(found):
    """Text of one function."""
    width = max((len(line.where) for line in found.lines), default=0)
    return "\n".join([f"{found.name}, {plural(found.samples, 'sample')}",
                      *(f"{line.percent:5.1f} %  {line.where:<{width}}  {line.text}".rstrip() for line in found.lines)])
