# SPDX-License-Identifier: MIT
"""Entry of the Python commands: dispatch, and every failure as one line with its exit status."""
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
    clean_up_on_signals()
    try:
        return dispatch(words)
    except ToolError as error:
        say(error)
        return error.status
    except KeyboardInterrupt as stop:
        number = getattr(stop, "number", signal.SIGINT)
        say("interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}")
        return 128 + number
    except BrokenPipeError:
        # The reader of our output went away; keep Python from complaining about it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OWN_FAILURE
    except OSError as error:
        say(f"{error.filename + ': ' if isinstance(error.filename, str) else ''}{error.strerror or error}")
        return OWN_FAILURE


# One module per command, with a main(words). Imported when called: an error message must not wait for everything.
MODULES = {name: name for name in ("compare", "bench", "record", "report", "diff", "doctor", "advise", "trace", "replay", "stat", "top")} | {"__suite": "suite"}


def dispatch(words):
    name, rest = words[0], words[1:]
    if name == "__complain":
        return complain(rest)
    if name not in MODULES:
        return complain(["unknown command", name, "zeropool --help",
                         " ".join(["run", *(n for n in MODULES if not n.startswith("_"))])])
    code = importlib.import_module("." + MODULES[name], __package__).main(rest)
    sys.stdout.flush()
    return code
