# SPDX-License-Identifier: MIT
"""zeropool top: running processes with the pool, full screen on a terminal, plain lines elsewhere."""
import os
import signal
import sys
import time

from . import live
from .errors import OK, UsageError
from .options import Command, Option, closest, decimal_number, whole_number
from .stats_report import faults_avoided, hit_rate, number
from .table import align, count, size

HEADINGS = ("pid", "command", "live", "idle", "peak", "requests/s", "warm", "faults avoided, at most")
ORDERS = {"bytes": "live and idle bytes", "rate": "hit rate", "faults": "faults avoided"}
KEYS = {"b": "bytes", "h": "rate", "f": "faults"}


def order(text):
    if text not in ORDERS:
        raise ValueError(f"one of {', '.join(ORDERS)}{closest(text, ORDERS)}")
    return text


COMMAND = Command(
    "top", "[options]",
    "Shows the running processes that were started with ZEROPOOL_LIVE=on, refreshed in place on a terminal, as plain lines\n"
    "elsewhere. Keys: b, h, f sort by bytes, hit rate, faults avoided; q quits.",
    (Option("--sort", "bytes, rate (of requests served warm) or faults (avoided); default bytes", "-s", "KEY", order, "bytes"),
     Option("--delay", "seconds between looks (default 1)", "-d", "S", decimal_number(0.05, 3600), 1.0),
     Option("--number", "end after so many looks (default: on a terminal never, elsewhere one)", "-n", "N",
            whole_number(1, 10 ** 9)),
     Option("--batch", "plain lines, also on a terminal", "-b"),
     Option("--help", "this text", "-h")),
    """'faults avoided' is the upper bound that 'zeropool stat' shows, too; how many glibc would have taken only 'zeropool advise' tells.
Exit status: 0; 2 wrong usage; 125 zeropool itself failed.

Example: ZEROPOOL_LIVE=on zeropool run -- python3 job.py & zeropool top""", mixed=True)


class View:
    """Processes and what has changed since the last look."""

    def __init__(self, sort):
        self.sort = sort
        self.before = {}
        self.looked = None

    def look(self):
        """Rows of text, in order."""
        now = time.monotonic()
        elapsed = now - self.looked if self.looked is not None else 0
        self.looked = now
        pages, rows, after = live.pages(), [], {}
        for page in pages.values():
            report = page.report
            avoided = faults_avoided(report)[1]
            after[page.path] = number(report, "gets")
            gets_before = self.before.get(page.path, after[page.path])
            rate = hit_rate(report)
            idle = number(report, "bytes_cached") + number(report, "bytes_dirty")
            per_second = f"{count((number(report, 'gets') - gets_before) / elapsed)}" if elapsed else "-"
            key = {"bytes": number(report, "bytes_live") + idle, "rate": -1 if rate is None else rate, "faults": avoided}
            name = "".join(c if c.isprintable() else "?" for c in str(report.get("command", "?")))[:20]
            rows.append((key[self.sort], [str(page.pid), name + (" (old)" if page.age_s > 5 else ""),
                                          size(number(report, "bytes_live")), size(idle), size(number(report, "bytes_live_peak")),
                                          per_second, "-" if rate is None else f"{rate * 100:.1f} %", count(avoided)]))
        self.before = after
        rows.sort(key=lambda row: (-row[0], row[1]))
        return [row for _, row in rows]

    def lines(self):
        rows = self.look()
        head = f"zeropool top: {len(rows)} process{'es' if len(rows) != 1 else ''}, by {ORDERS[self.sort]}"
        if not rows:
            return [head, "start one with: ZEROPOOL_LIVE=on zeropool run -- CMD"]
        return [head, *align(rows, HEADINGS, left=2).splitlines()]


def main(words):
    values, rest = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    if rest:
        raise UsageError(f"top: unexpected '{rest[0]}' (see 'zeropool top --help')")
    view = View(values["sort"])
    if values["batch"] or not full_screen_possible():
        return plain(view, values["delay"], values["number"] or 1)
    import curses  # late: not needed for plain lines, and absent from some minimal installations
    return curses.wrapper(full_screen, curses, view, values["delay"], values["number"])


def full_screen_possible():
    try:
        return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
    except (AttributeError, ValueError):
        return False


def plain(view, delay, times):
    for i in range(times):
        if i:
            time.sleep(delay)
            print()
        print("\n".join(view.lines()), flush=True)
    return OK


def full_screen(screen, curses, view, delay, times):
    # Ctrl-C on our own terminal ends us, also where a script's '&' has made us ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        curses.curs_set(0)
    except curses.error:
        pass  # a terminal that cannot hide the cursor
    lines, due, looks = [], 0.0, 0
    while True:
        now = time.monotonic()
        if now >= due:
            if times and looks >= times:
                return OK
            lines, due, looks = view.lines(), now + delay, looks + 1
        draw(screen, curses, lines)
        screen.timeout(max(1, int((due - time.monotonic()) * 1000)))
        key = screen.getch()
        if key in (ord("q"), ord("Q"), 27, 3):
            return OK
        if 0 < key < 256 and chr(key) in KEYS:
            view.sort, due = KEYS[chr(key)], 0.0
            looks -= 1 if times else 0
        elif key == curses.KEY_RESIZE:
            curses.update_lines_cols()


def draw(screen, curses, lines):
    """As much as fits; the window may be of any size, and change while we draw."""
    height, width = screen.getmaxyx()
    screen.erase()
    foot = "q quit   b bytes   h hit rate   f faults avoided"
    shown = lines[:max(0, height - 1)]
    try:
        for y, line in enumerate(shown):
            screen.addnstr(y, 0, line, max(0, width - 1), curses.A_BOLD if y < 2 else curses.A_NORMAL)
        if height > len(shown):
            screen.addnstr(height - 1, 0, foot, max(0, width - 1), curses.A_DIM)
    except curses.error:
        pass
    screen.refresh()
