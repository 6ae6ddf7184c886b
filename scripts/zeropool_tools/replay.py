# SPDX-License-Identifier: MIT
"""zeropool replay: repeats the allocation calls of a trace, under the allocator that is preloaded."""
import os

from .errors import OK, ToolError
from .options import Command, Option
from .trace import PROGRAM, find


def touching(text):
    if text not in ("all", "none"):
        raise ValueError("all or none")
    return text


COMMAND = Command(
    "replay", "[options] FILE",
    "Repeats the calls in FILE, written by 'zeropool trace', with as many threads and as fast as it goes, touching every page of each\n"
    "block. It runs under whatever allocator is preloaded, so 'zeropool compare -- zeropool replay FILE' compares allocators on it.",
    (Option("--touch", "all: write to each page (default); none: only the calls", None, "WHAT", touching, "all"),
     Option("--help", "this text", "-h")),
    """Exit status: 0 done; 1 the file is no trace, or memory is short; 2 wrong usage; 125 zeropool failed.

Example: zeropool trace -o job.zpt -- python3 job.py; zeropool compare -- zeropool replay job.zpt""", mixed=True)


def main(words):
    values, rest = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    if len(rest) != 1:
        COMMAND.fail(f"one file is wanted, not {len(rest)}")
    program = find(PROGRAM)
    try:
        os.execv(program, [program, f"--touch={values['touch']}", os.path.abspath(rest[0])])
    except OSError as error:
        raise ToolError(f"{program}: {error.strerror}") from error
