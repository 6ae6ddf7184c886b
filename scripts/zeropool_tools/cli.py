# SPDX-License-Identifier: MIT
"""Entry of the Python commands: dispatch, and every failure as one line with its exit status."""
import errno
import importlib
import os
import signal
import sys

from .errors import OWN_FAILURE, USAGE, ToolError, say
from .foreground import clean_up_on_signals
from .options import closest


def complain(words):
    """Called by the launcher for a word it does not know: WHAT WORD HELP CANDIDATES."""
    what, word, help_command, candidates = words[:4]
    say(f"{what} '{word}'{closest(word, candidates.split())} (see '{help_command}')")
    return USAGE


def main(words):
    try:
        # Before a signal is an exception: some of what runs in an import turns exceptions into others, and there is nothing to clean up yet.
        load(words[0])
        clean_up_on_signals()
        open_closed_streams()
        return dispatch(words)
    except ToolError as error:
        say(error)
        return error.status
    except KeyboardInterrupt as stop:
        number = getattr(stop, "number", signal.SIGINT)
        say("interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}")
        return 128 + number
    except BrokenPipeError:
        forget_output()
        return OWN_FAILURE
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else "standard output" if output_failed(error) else None
        say(f"{name + ': ' if name else ''}{error.strerror or error}")
        return OWN_FAILURE


def open_closed_streams():
    """Standard streams that are closed (>&-) become /dev/null: Python has None for them, and the next file opened their number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def forget_output():
    """What cannot be written will not be written at exit either, where Python would complain about it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def output_failed(error):
    """Whether it came from a print; then nothing more is written."""
    try:
        sys.stdout.flush()
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EBADF):
            return False
    except OSError:
        pass
    forget_output()
    return True


# One module per command, with a main(words). Imported when called: an error message must not wait for everything.
MODULES = {name: name for name in ("compare", "bench", "record", "report", "diff", "doctor", "advise", "trace", "replay", "stat", "top", "sites")} | {"__suite": "suite"}


def load(name):
    return importlib.import_module("." + MODULES[name], __package__) if name in MODULES else None


def dispatch(words):
    name, rest = words[0], words[1:]
    if name == "__complain":
        return complain(rest)
    if name not in MODULES:
        return complain(["unknown command", name, "zeropool --help",
                         " ".join(["run", *(n for n in MODULES if not n.startswith("_"))])])
    code = load(name).main(rest)
    sys.stdout.flush()
    return code
