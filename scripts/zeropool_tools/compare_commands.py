# SPDX-License-Identifier: MIT
"""Several commands in one comparison: `-- A... --- B...`, and the values of --scan. Each becomes a variant beside the allocators."""
import re
import shlex
from dataclasses import dataclass, field, replace

SEPARATOR = "---"
MOST_VALUES = 100


@dataclass(frozen=True)
class Scan:
    name: str
    values: tuple
    text: str


@dataclass(frozen=True)
class Given:
    """One command as it is run."""
    name: str
    argv: list
    settings: dict = field(default_factory=dict)


def scan(text):
    """NAME=V,V,... where A..B stands for the whole numbers from A to B."""
    name, equals, words = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError("NAME=VALUE,VALUE,... such as ZEROPOOL_RETAIN=0,64M or n=1..4")
    values = []
    for word in words.split(","):
        span = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", word)
        values += map(str, range(int(span[1]), min(int(span[2]), int(span[1]) + MOST_VALUES) + 1)) if span else [word]
    if not 2 <= len(values) <= MOST_VALUES or len(set(values)) < len(values):
        raise ValueError(f"two to {MOST_VALUES} different values")
    return Scan(name, tuple(values), text)


def split(words):
    """The commands between the separators. ValueError where one is empty."""
    commands = [[]]
    for word in words:
        if word == SEPARATOR:
            commands.append([])
        else:
            commands[-1].append(word)
    if not all(commands):
        raise ValueError(f"an empty command beside '{SEPARATOR}'")
    return commands


def expand(commands, scanned):
    """[Given] of all commands with all values. {NAME} is replaced; where no command has it, it is a variable of the environment."""
    names = [chr(ord("A") + i) if len(commands) <= 26 else f"C{i + 1}" for i in range(len(commands))]
    if not scanned:
        return [Given(name, argv) for name, argv in zip(names, commands)]
    mark, found = "{" + scanned.name + "}", []
    in_words = any(mark in word for argv in commands for word in argv)
    for name, argv in zip(names, commands):
        for value in scanned.values:
            label = f"{scanned.name}={value}"
            found.append(Given(label if len(commands) == 1 else f"{name} {label}", [word.replace(mark, value) for word in argv],
                               {} if in_words else {scanned.name: value}))
    return found


def combine(given, chosen):
    """A variant for each command under each allocator, the commands side by side."""
    several = len(chosen) > 1
    return [replace(variant, name=f"{each.name} {variant.name}" if several else each.name, argv=tuple(each.argv),
                    settings={**variant.settings, **each.settings})
            for variant in chosen for each in given]


def default_allocators(scanned):
    """Commands are compared as they are; settings of the pool under the pool."""
    return ("zeropool",) if scanned and scanned.name.startswith("ZEROPOOL_") else ("glibc",)


def legend(result):
    """Lines that say which command each name means; those of a scan say so themselves."""
    return [f"{each['name']}: {shlex.join(each['command'])}" for each in result.get("commands") or () if not result.get("scan")]


def again(result):
    """The words of the command line behind `zeropool compare`."""
    scanned = f"--scan {shlex.quote(result['scan'])} " if result.get("scan") else ""
    return f"{scanned}-- {' --- '.join(shlex.join(argv) for argv in result['given'])}"
