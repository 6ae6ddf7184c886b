# SPDX-License-Identifier: MIT
"""How the tools fail: one line on standard error and a documented exit status."""
import sys

OK = 0
MISMATCH = 1  # compare: output or exit status differs between allocators
USAGE = 2
OWN_FAILURE = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127


class ToolError(Exception):
    """Ends the command with one line and `status`."""

    def __init__(self, message, status=OWN_FAILURE):
        super().__init__(message)
        self.status = status


class UsageError(ToolError):
    def __init__(self, message):
        super().__init__(message, USAGE)


def say(message):
    """One line for the user. Standard output belongs to results, and to the programs that are run."""
    try:
        print(f"zeropool: {message}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # nobody reads standard error any more; the exit status still tells
