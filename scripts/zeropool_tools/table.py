# SPDX-License-Identifier: MIT
"""Results as an aligned text table, as Markdown, and as sentences."""
from .results import ratio_of, title
from .stats import in_words, sigma
from .words import plural

HEADINGS = ("allocator", "wall", "user", "sys", "faults", "peak RSS", "wall ratio [95 %]", "RSS ratio")
FULL_HEADINGS = ("allocator", "wall", "sigma", "min to max", "user", "sys", "faults", "peak RSS", "wall ratio [95 %]", "CPU ratio", "RSS ratio")
RATE_HEADING = "requests/s"
LEAST_SAMPLES = 5  # of memory over time, to be worth a table
LATENCIES = ("latency_p50_s", "latency_p95_s", "latency_p99_s")


def seconds(value):
    if value < 0.0995:
        return f"{value * 1000:.1f} ms"
    return f"{value:.3f} s" if value < 10 else f"{value:.1f} s"


def count(value):
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            scaled = value / (1e3 if unit == "k" else limit)
            return f"{scaled:.{1 if scaled < 100 else 0}f}{unit}"
    return f"{value:.0f}"


def size(value):
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if value >= 1 << shift:
            scaled = value / (1 << shift)
            return f"{scaled:.{1 if scaled < 100 else 0}f} {unit}"
    return f"{value:.0f} B"


def number(value):
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def ratio_cell(stored, with_interval=True):
    if stored is None:
        return "1"
    text = number(stored["value"])
    if with_interval and stored["n"] > 1:
        text += f" [{number(stored['low'])}, {number(stored['high'])}]"
    return text


def cells(variant):
    median, ratio = variant["median"], variant["ratio"] or {}
    return [variant["name"], seconds(median["wall_s"]), seconds(median["user_s"]), seconds(median["sys_s"]),
            count(median["faults"]), size(median["peak_rss_bytes"]), ratio_cell(ratio.get("wall_s")),
            ratio_cell(ratio.get("peak_rss_bytes"), with_interval=False)]


def full_cells(variant):
    """cells() with how far the runs spread and the ratio of processor time."""
    name, wall, user, system, faults, peak, wall_ratio, rss_ratio = cells(variant)
    walls, ratio = [run["wall_s"] for run in variant["runs"]], variant["ratio"] or {}
    deviation = sigma(walls)
    return [name, wall, "-" if deviation is None else seconds(deviation), f"{seconds(min(walls))} to {seconds(max(walls))}", user, system,
            faults, peak, wall_ratio, ratio_cell(ratio.get("cpu_s"), with_interval=False), rss_ratio]


def align(rows, headings=HEADINGS, left=1):
    """Columns side by side; the first `left` ones flush left."""
    rows = [list(headings), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(headings))]
    lines = []
    for row in rows:
        lines.append("  ".join(c.ljust(w) if i < left else c.rjust(w)
                               for i, (c, w) in enumerate(zip(row, widths))).rstrip())
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def rows(result):
    """(headings, rows) of the table; a server's has columns more."""
    found, headings = [full_cells(v) for v in result["variants"]], list(FULL_HEADINGS)
    if result.get("given"):
        headings[0] = "command"
    client = [("requests_per_s", RATE_HEADING, count)] + [(key, f"p{key[9:11]}", seconds) for key in LATENCIES]
    client = [each for each in client if all(each[0] in v["median"] for v in result["variants"])]
    headings[2:2] = [heading for _, heading, _ in client]
    for row, variant in zip(found, result["variants"]):
        row[2:2] = [show(variant["median"][key]) for key, _, show in client]
    return tuple(headings), found


def text(result):
    headings, found = rows(result)
    return align(found, headings)


def markdown_table(rows, headings=HEADINGS, left=1):
    lines = ["| " + " | ".join(headings) + " |",
             "|" + "|".join(" --- " if i < left else " ---: " for i in range(len(headings))) + "|"]
    lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
    return "\n".join(lines)


def markdown(result):
    command = title(result).replace("`", "'")
    headings, found = rows(result)
    parts = [f"### `{command}`", "", markdown_table(found, headings), "",
             f"{plural(result['rounds'], 'round', 'interleaved rounds')}, medians, ratios to {result['baseline']}; "
             f"{result['machine']['usable_cpus']} CPUs, Linux {result['machine']['kernel']}.", ""]
    parts += [f"- {line}" for line in sentences(result) + result["notes"]]
    return "\n".join(parts).rstrip() + "\n"


def sentences(result):
    """What the table says, in words, one sentence per variant."""
    found = []
    for variant in result["variants"]:
        if not variant["ratio"]:
            continue
        wall, cpu = ratio_of(variant["ratio"]["wall_s"]), ratio_of(variant["ratio"]["cpu_s"])
        memory = variant["ratio"]["peak_rss_bytes"]["value"]
        served = result.get("server")
        sentence = f"{variant['name']} against {result['baseline']}: {in_words(wall, 'time of the client' if served else 'time')}"
        if served:
            sentence += f"; {in_words(cpu, 'processor time of the server')}" if wall.decidable else ""
        # On a busy machine processor time shows what wall time hides; a second look wants stronger evidence.
        elif wall.decidable and not wall.significant and cpu.significant and cpu.p < 0.01:
            sentence += f", but {in_words(cpu, 'processor time')}"
        found.append(f"{sentence}; {number(memory)} x the peak memory")
    return found


def memory_text(result):
    """The table of memory over time; '' where there is none."""
    rows = [[v["name"], size(v["memory"]["peak_tree_rss_bytes"]), size(v["memory"]["mean_tree_rss_bytes"]),
             "-" if v["memory"]["peak_tree_pss_bytes"] is None else size(v["memory"]["peak_tree_pss_bytes"]), str(len(v["memory"]["points"]))]
            for v in result["variants"] if v["memory"]]
    few = all(v["memory"]["peak_tree_pss_bytes"] is None and len(v["memory"]["points"]) < LEAST_SAMPLES for v in result["variants"] if v["memory"])
    if few:
        return ""
    return align(rows, ("command" if result.get("given") else "allocator", "peak tree RSS", "mean tree RSS", "peak tree PSS", "samples"))
