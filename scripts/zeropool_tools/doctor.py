# SPDX-License-Identifier: MIT
"""zeropool doctor: says plainly what will and what will not work, on this machine and for one program."""
import json
import textwrap

from . import doctor_machine, doctor_program
from .doctor_machine import BAD, NOTE, RANK, WARN
from .errors import MISMATCH, OK
from .options import Command, Option

COMMAND = Command(
    "doctor", "[options] [CMD...]",
    "Looks at this machine, and at CMD without running it, and says what will and what will not work: whether the pool\n"
    "can serve the program, what limits it, and whether perf can be used to profile it.",
    (Option("--json", "print the findings as JSON"),
     Option("--help", "this text", "-h")),
    """Each line is ok, note (worth knowing), warn (works, but less well) or BAD (does not work).
Exit status: 0 nothing is BAD; 1 something is; 2 wrong usage; 125 zeropool itself failed; 126, 127 CMD cannot be
executed or was not found.

Example: zeropool doctor python3""")


def main(words):
    values, argv = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    program = doctor_program.examine(argv[0]) if argv else None
    groups = [("machine", doctor_machine.examine())]
    if program:
        groups.append((f"program {program[0]}", program[1]))
    worst = max((f.level for _, found in groups for f in found), key=RANK.get)
    if values["json"]:
        print(json.dumps({title.split()[0]: [vars(f) for f in found] for title, found in groups}
                         | {"path": program[0] if program else None, "worst": worst}, indent=1))
    else:
        for title, found in groups:
            print(title)
            for finding in found:
                print(line(finding))
            print()
        print(verdict(groups, argv))
    return MISMATCH if worst == BAD else OK


def line(finding):
    head = f"  {finding.level:<5} {finding.topic:<12} "
    return textwrap.fill(finding.text, 116, initial_indent=head, subsequent_indent=" " * len(head),
                         break_long_words=False, break_on_hyphens=False)


def verdict(groups, argv):
    """One closing sentence, with the next command."""
    bad = [f for title, found in groups for f in found if f.level == BAD]
    machine_bad = any(f.level == BAD for f in groups[0][1])
    command = " ".join(argv) if argv else "CMD"
    if machine_bad:
        return f"The pool does not work on this machine yet: {bad[0].text}."
    if bad:
        return f"The pool cannot serve this program: {bad[0].text}."
    remarks = sum(f.level in (NOTE, WARN) for _, found in groups for f in found)
    told = "" if not remarks else " (with the remarks above)"
    if not argv:
        return f"This machine is fine{told}. Next: zeropool doctor CMD, then zeropool compare -- CMD"
    return f"It will work{told}. Next: zeropool compare -- {command}"
