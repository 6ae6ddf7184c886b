# SPDX-License-Identifier: MIT
"""Progress on standard error: a bar with the time left on a terminal, a plain line now and then elsewhere."""
import os
import sys
import time

PLAIN_EVERY_S = 10.0  # a log wants to show that something happens, not every step
REDRAW_EVERY_S = 0.2


def human_time(seconds):
    seconds = max(0, int(seconds + 0.5))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"


class Progress:
    """Use as a context manager; update() as often as you like."""

    def __init__(self, stream=None, quiet=False):
        self.stream = stream or sys.stderr
        self.quiet = quiet
        try:
            self.terminal = not quiet and self.stream.isatty() and os.environ.get("TERM") != "dumb"
        except (AttributeError, ValueError):
            self.terminal = False
        self.started = time.monotonic()
        self.drawn = 0.0
        self.last_plain = self.started
        self.shown = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.clear()

    def update(self, fraction, label, seconds_left=None):
        if self.quiet:
            return
        now = time.monotonic()
        fraction = min(max(fraction, 0.0), 1.0)
        left = f", {human_time(seconds_left)} left" if seconds_left is not None else ""
        if self.terminal:
            if now - self.drawn < REDRAW_EVERY_S:
                return
            self.drawn = now
            width = 24
            full = int(fraction * width + 0.5)
            line = f"[{'#' * full}{'.' * (width - full)}] {fraction * 100:3.0f} %{left}  {label}"
            try:
                columns = os.get_terminal_size(self.stream.fileno()).columns or 80  # 0: size not set
            except (OSError, ValueError):
                columns = 80
            self.write("\r\x1b[K" + line[:max(10, columns - 1)])
            self.shown = True
        elif now - self.last_plain >= PLAIN_EVERY_S:
            self.last_plain = now
            self.write(f"zeropool: {fraction * 100:.0f} % done{left} ({label})\n")

    def clear(self):
        if self.shown:
            self.write("\r\x1b[K")
            self.shown = False

    def write(self, text):
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            self.quiet = True  # nobody looks any more; the measurement goes on
