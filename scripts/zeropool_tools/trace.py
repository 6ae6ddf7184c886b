# SPDX-License-Identifier: MIT
"""zeropool trace: writes down the large allocation calls of a program, for zeropool replay. The format is in workloads/replay/format.h."""
import os
import shlex
import tempfile

from . import elf, foreground, variants
from .errors import OK, ToolError, say
from .options import Command, Option, non_empty, whole_number
from .results import check_writable
from .session import check_command
from .table import count
from .words import plural

LIBRARY, PROGRAM = "libzeropool-trace.so", "zeropool-replay"
RECORD_BYTES, PIECE_BYTES, MAX_BYTES = 32, 4 << 20, 1 << 30
COMMAND = Command(
    "trace", "[options] -- CMD...",
    "Runs CMD under glibc and writes its malloc, calloc, realloc, aligned and free calls of large blocks to a file, with\n"
    "thread and time, 32 bytes each, 1 GiB at most; nothing of their contents. Every program that CMD executes gets a file of its own.",
    (Option("--output", "file of the program with the most calls (default: zeropool-trace-PROGRAM.zpt); others that\n"
            "have any get .PID behind it", "-o", "FILE", non_empty),
     Option("--min", "smallest request that is written, in bytes (default 32768)", None, "N", whole_number(1, 2 ** 40), 32768),
     Option("--help", "this text", "-h")),
    """Exit status: that of CMD (128+n when signal n ended it), 2 wrong usage, 125 zeropool failed, 126, 127 CMD cannot be
executed or was not found.

Example: zeropool trace -o job.zpt -- python3 job.py; zeropool compare -- zeropool replay job.zpt""")


def main(words):
    values, argv = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    if not argv:
        COMMAND.fail("no command given")
    argv = check_command(argv)
    target = values["output"] or f"zeropool-trace-{os.path.basename(argv[0])}.zpt"
    folder = os.path.dirname(os.path.abspath(target))
    if os.path.islink(target) or os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target):
        raise ToolError(f"cannot write {target}: is a link or no ordinary file, and would be replaced")
    check_writable(target)
    if not os.access(folder, os.W_OK):
        raise ToolError(f"cannot write {target}: permission denied in {folder}")
    for obstacle in elf.obstacles(argv[0]):
        say(f"warning: {obstacle}")
    # In a folder of our own beside the result: nobody else can put a file there, and a rename moves it.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".zeropool-trace-") as place:
        env = variants.Variant("trace", (find(LIBRARY),)).environment(os.environ)
        env |= {"ZEROPOOL_TRACE": os.path.join(place, "t"), "ZEROPOOL_TRACE_MIN": str(values["min"])}
        status = foreground.run(argv, env)
        kept = keep(place, target)
    if not kept:
        say(f"no call of {values['min']} bytes or more was seen; nothing was written")
        return status
    for path, records in kept:
        say(f"wrote {path}: {plural(records, 'call', shown=count(records))}")
        if records * RECORD_BYTES >= MAX_BYTES - PIECE_BYTES:
            say(f"note: {path} is full; later calls are missing (--min leaves out smaller ones)")
    say(f"next: zeropool compare -- zeropool replay {shlex.quote(target)}")
    return status


def find(name):
    """A file of workloads/replay/, in the build tree or installed."""
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    prefix = os.path.dirname(os.path.dirname(home))
    folders = [os.path.join(os.path.dirname(home), "build", "workloads", "replay"), f"{prefix}/bin",
               *(f"{prefix}/{place}/zeropool" for place in ("lib/x86_64-linux-gnu", "lib64", "lib"))]
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
    raise ToolError(f"{name} not found; build it with 'meson setup build && ninja -C build'")


def keep(place, target):
    """[(path, records)] of the files that hold calls, the largest as `target`, without the space reserved at their ends."""
    found = []
    for name in sorted(os.listdir(place)):
        path = os.path.join(place, name)
        size = trim(path)
        if size > RECORD_BYTES:
            found.append((size // RECORD_BYTES - 1, path, name.split(".")[1]))
    found.sort(reverse=True)
    kept = []
    for number, (records, path, pid) in enumerate(found):
        final = target if not number else f"{target}.{pid}"
        os.replace(path, final)
        kept.append((final, records))
    return kept


def trim(path):
    """Cuts the zeros off; the size that is left."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        while size > 0:
            start = max(0, size - PIECE_BYTES)
            file.seek(start)
            used = len(file.read(size - start).rstrip(b"\0"))
            if used:
                size = start + -(-used // RECORD_BYTES) * RECORD_BYTES
                break
            size = start
        file.truncate(size)
    return size
