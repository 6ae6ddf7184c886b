# SPDX-License-Identifier: MIT
"""A stored benchmark (zeropool bench --json) as the table that was shown when it was measured."""
from . import bench_table, table
from .bench_rows import CPU, FAULTS, PEAK, WALL, Measure, micro_rows
from .errors import ToolError
from .progress import human_time
from .words import plural

SUFFIXES = (("_s", "s"), ("seconds", "s"), ("bytes", "bytes"), ("ns", "ns"), ("faults", "count"))


def measures():
    """({(row, key): Measure}, {key: Measure}) of the rows as they are today."""
    rows = micro_rows()
    by_row = {(row.name, m.key): m for row in rows for m in row.measures}
    return by_row, {m.key: m for m in (*by_row.values(), WALL, CPU, PEAK, FAULTS)}


def measure_of(row, key, known):
    """A Measure also for keys that only another version had."""
    unit = next((unit for suffix, unit in SUFFIXES if key.endswith(suffix)), "ratio")
    return known[0].get((row, key)) or known[1].get(key) or Measure(key, key.replace("_", " "), unit)


def verdict_cells(verdict):
    value = "-" if verdict["value"] is None else f"{verdict['value']:.3g}"
    if verdict["value"] is not None and verdict["bound"].endswith("best peer"):
        value += f" ({verdict['against']})"
    return [verdict["bound"], value, verdict["verdict"]]


def row_lines(row, names, known):
    medians, waiting, lines = row["median"], row["verdicts"], []
    keys = list(dict.fromkeys(key for name in names for key in medians.get(name, {})))
    for key in keys:
        measure = measure_of(row["name"], key, known)
        values = [medians.get(name, {}).get(key) for name in names]
        figures = ["-" if v is None else bench_table.UNITS[measure.unit](v) for v in values]
        here = [verdict_cells(v) for v in waiting if v["measure"] == key] or [["", "", ""]]
        lines.append([row["label"] if not lines else "", measure.title, *figures, *here[0]])
        lines += [["", "", *([""] * len(names)), *cells] for cells in here[1:]]
    return lines


def text(document, path):
    """The table and its closing lines. ToolError where the document is damaged."""
    try:
        names, known = [v["name"] for v in document["variants"]], measures()
        lines = [line for row in document["rows"] for line in row_lines(row, names, known)]
        lines += [["over all rows", v["measure"], *([""] * len(names)), *verdict_cells(v)] for v in document["over_rows"]]
        machine = document["machine"]
        parts = [table.align(lines, ("benchmark", "measure", *names, "bound", "is", "verdict"), bench_table.LEFT), "",
                 f"Medians of {plural(document['rounds'], 'round', 'interleaved rounds')}, {human_time(document['seconds'])} in all, "
                 f"{document['time']}; {machine['usable_cpus']} CPUs ({machine['cpu']}), Linux {machine['kernel']}."]
        parts += ["interrupted: not every row was measured"] if document["interrupted"] else []
        return "\n".join(parts + [f"note: {note}" for note in document["notes"]]
                         + [f"failed: {failure}" for failure in document["failures"]])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ToolError(f"{path}: no benchmark of zeropool, or a damaged one") from error
