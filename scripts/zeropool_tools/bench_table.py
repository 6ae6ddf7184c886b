# SPDX-License-Identifier: MIT
"""The one table of zeropool bench, as text and as Markdown: a line per measure, all allocators side by side."""
from . import table
from .bench_bounds import MET, MISSED

LEFT = 2


def duration(value):
    """Seconds with three digits: 6.31 ns, 412 us, 1.07 s."""
    for limit, unit, scale in ((1e-6, "ns", 1e9), (1e-3, "us", 1e6), (1.0, "ms", 1e3)):
        if value < limit:
            return f"{value * scale:.3g} {unit}" if value * scale < 999.5 else f"{value * scale:.0f} {unit}"
    return f"{value:.3g} s"


UNITS = {"ns": lambda v: duration(v / 1e9), "s": duration, "bytes": table.size, "count": table.count,
         "ratio": lambda v: f"{v:.3g}" if v < 1000 else f"{v:.0f}"}


def headings(results):
    return ("benchmark", "measure", *(v.name for v in results.variants), "bound", "is", "verdict")


def cell(results, row, variant, measure):
    value = results.median(row.name, variant, measure.key)
    return "-" if value is None else UNITS[measure.unit](value)


def verdict_cells(verdict):
    if verdict is None:
        return ["", "", ""]
    value = "-" if verdict.value is None else f"{verdict.value:.3g}"
    if verdict.value is not None and verdict.bound.endswith("best peer"):
        value += f" ({verdict.against})"
    return [verdict.bound, value, verdict.word]


def row_lines(results, row, verdicts):
    """One line per measure; a second bound on the same measure takes a line of its own."""
    lines = []
    waiting = list(verdicts)
    for measure in row.measures:
        here = [v for v in waiting if v.key == measure.key]
        figures = [cell(results, row, variant.name, measure) for variant in results.variants]
        lines.append([row.label if not lines else "", measure.title, *figures,
                      *verdict_cells(here[0] if here else None)])
        lines += [["", "", *([""] * len(figures)), *verdict_cells(v)] for v in here[1:]]
    return lines


def lines(results, rows, verdicts, extra):
    """All lines; verdicts by row name, extra: verdicts over several rows as (label, verdict)."""
    found = []
    for row in rows:
        if row.name in results.runs:
            found += row_lines(results, row, verdicts.get(row.name, []))
    blank = [""] * len(results.variants)
    found += [[label, "", *blank, *verdict_cells(v)] for label, v in extra]
    return found


def text(results, rows, verdicts, extra):
    return table.align(lines(results, rows, verdicts, extra), headings(results), LEFT)


def markdown(results, rows, verdicts, extra, closing):
    body = table.markdown_table(lines(results, rows, verdicts, extra), headings(results), LEFT)
    return body + "\n\n" + "\n".join(f"- {line}" for line in closing) + "\n"


def tally(verdicts, extra):
    """'31 of 40 bounds met, 9 missed (3 of them not for sure)'"""
    every = [v for found in verdicts.values() for v in found] + [v for _, v in extra]
    met = sum(v.met is True for v in every)
    missed = [v for v in every if v.met is False]
    doubtful = sum(v.word.endswith("?") for v in every)
    words = f"{met} of {met + len(missed)} bounds {MET}, {len(missed)} {MISSED}"
    if doubtful:
        words += f"; {doubtful} of these verdicts within the noise (marked ?)"
    unknown = sum(v.met is None for v in every)
    return words + (f"; {unknown} could not be evaluated" if unknown else "")
