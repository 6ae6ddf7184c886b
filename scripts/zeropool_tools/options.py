# SPDX-License-Identifier: MIT
"""One table of options per command, from which parsing, error messages and --help all come.

argparse is not used because it prints two lines per error, exits by itself, and takes options of the measured
program for its own. Parsing stops at `--`, and where a command of the user follows at the first word that is no option.
"""
import difflib
from dataclasses import dataclass
from typing import Any, Callable, Optional

from .errors import UsageError


@dataclass(frozen=True)
class Option:
    name: str  # "--rounds"
    help: str
    short: Optional[str] = None  # "-n"
    metavar: Optional[str] = None  # None: a switch without a value
    parse: Callable[[str], Any] = str
    default: Any = None

    @property
    def key(self):
        return self.name.lstrip("-").replace("-", "_")


@dataclass(frozen=True)
class Command:
    name: str
    synopsis: str
    summary: str
    options: tuple
    epilog: str = ""
    mixed: bool = False  # options may follow operands: there is no command of the user's whose options they could be

    def fail(self, message):
        raise UsageError(f"{self.name}: {message} (see 'zeropool {self.name} --help')")

    def help(self):
        lines = [f"usage: zeropool {self.name} {self.synopsis}", "", self.summary, ""]
        heads = []
        for option in self.options:
            head = f"{option.short}, " if option.short else "    "
            head += option.name + (f" {option.metavar}" if option.metavar else "")
            heads.append(head)
        width = min(max(map(len, heads), default=0), 26)
        for head, option in zip(heads, self.options):
            first, *rest = option.help.split("\n")
            if len(head) > width:
                lines.append(f"  {head}")
                head = ""
            lines.append(f"  {head:<{width}}  {first}")
            lines += [f"  {'':<{width}}  {more}" for more in rest]
        return "\n".join(lines) + ("\n\n" + self.epilog.strip() if self.epilog else "") + "\n"

    def parse(self, words):
        """Returns ({key: value}, remaining words)."""
        by_name = {o.name: o for o in self.options}
        by_name.update({o.short: o for o in self.options if o.short})
        values = {o.key: (False if o.metavar is None else o.default) for o in self.options}
        words, operands = list(words), []
        while words and (self.mixed or words[0].startswith("-") and words[0] != "-"):
            word = words.pop(0)
            if word == "--":
                break
            if word == "-" or not word.startswith("-"):
                operands.append(word)
                continue
            name, text = split_option(word)
            option = by_name.get(name)
            if option is None:
                self.fail(f"unknown option '{name}'{closest(name, by_name)}")
            if option.metavar is None:
                if text is not None:
                    self.fail(f"{option.name} takes no value")
                values[option.key] = True
                continue
            if text is None:
                if not words or words[0] == "--":
                    self.fail(f"{name} wants a value: {option.metavar}")
                text = words.pop(0)
            try:
                values[option.key] = option.parse(text)
            except ValueError as error:
                self.fail(f"{name} wants {error}, not '{text}'")
        return values, operands + words


def split_option(word):
    """'--a=b' -> ('--a', 'b'), '-n5' -> ('-n', '5'), '--a' -> ('--a', None)."""
    if word.startswith("--"):
        name, equals, text = word.partition("=")
        return name, text if equals else None
    return word[:2], word[2:] or None


def closest(word, candidates):
    """'; did you mean X?' where some candidate is near, else nothing."""
    near = difflib.get_close_matches(word, [c for c in candidates if len(c) > 2], n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def whole_number(low, high):
    def parse(text):
        if not (text.isascii() and text.isdigit()) or not low <= int(text[:18]) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def decimal_number(low, high):
    def parse(text):
        try:
            value = float(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:  # also refuses nan
            raise ValueError(f"a number from {low:g} to {high:g}")
        return value

    return parse


def non_empty(text):
    if not text:
        raise ValueError("a file name")
    return text
