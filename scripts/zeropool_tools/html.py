# SPDX-License-Identifier: MIT
"""One self-contained page: the table, and an SVG plot per metric with every run as a dot.

No scripts and nothing loaded from elsewhere, so the page can be mailed, archived and opened in ten years.
"""
import html

from . import table
from .results import METRICS, RATE, title
from .words import plural

STYLE = """
:root { color-scheme: light dark; --fg:#1a1a1a; --bg:#fff; --dim:#777; --line:#ddd; --dot:#3572b0; --mid:#c0392b; }
@media (prefers-color-scheme: dark) { :root { --fg:#e6e6e6; --bg:#161616; --dim:#999; --line:#3a3a3a; --dot:#6aa9e9; --mid:#ff7b6b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--fg); background: var(--bg); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; } .dim { color: var(--dim); } h2 { font-size: 1.05rem; margin: 1.6rem 0 .2rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--fg); font-size: 12px; } svg .dim { fill: var(--dim); }
svg line { stroke: var(--line); } svg circle { fill: var(--dot); fill-opacity: .55; } svg .mid { stroke: var(--mid); stroke-width: 2.5; }
svg polyline { fill: none; stroke-width: 1.6; }
"""
FORMATS = {"wall_s": table.seconds, "user_s": table.seconds, "sys_s": table.seconds,
           "cpu_s": table.seconds, "faults": table.count,
           "peak_rss_bytes": table.size, "requests_per_s": table.count}
COLOURS = ("#3572b0", "#c0392b", "#2e8b57", "#b8860b", "#8e44ad", "#008b8b", "#cd5c5c", "#556b2f")
WIDTH, LEFT, RIGHT, ROW = 860, 130, 40, 26


def page(result):
    command = html.escape(title(result))
    machine = result["machine"]
    parts = [f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>zeropool compare: {command}</title>"
             f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head><body>"
             f"<h1>zeropool compare</h1><p><code>{command}</code></p>"
             f"<p class='dim'>{plural(result['rounds'], 'round', 'interleaved rounds')}, medians, ratios to {html.escape(result['baseline'])}; "
             f"{html.escape(result['time'])}; {html.escape(machine['cpu'])}, {machine['usable_cpus']} CPUs, "
             f"{table.size(machine['memory_bytes'])}, Linux {html.escape(machine['kernel'])}</p>", table_html(result), "<ul>"]
    parts += [f"<li>{html.escape(line)}</li>" for line in table.sentences(result)]
    parts += [f"<li class='dim'>{html.escape(note)}</li>" for note in result["notes"]]
    parts.append("</ul>")
    for metric, (_, heading) in (METRICS | RATE).items():
        if metric not in result["variants"][0]["median"]:
            continue
        parts.append(f"<h2>{heading}</h2>{strip_plot(result, metric)}")
    parts.append(memory_plot(result))
    parts.append("<p class='dim'>A dot is one run, the bar the median. Made by zeropool "
                 f"{html.escape(result['zeropool'])}.</p></body></html>\n")
    return "".join(parts)


def table_html(result):
    headings, rows = table.rows(result)
    head = "".join(f"<th>{html.escape(h)}</th>" for h in headings)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<div class='scroll'><table><tr>{head}</tr>{body}</table></div>"


def nice_ticks(high):
    """Three to six round numbers from 0 to a little above high."""
    if high <= 0:
        return [0, 1]
    step = 10.0
    while step > high:
        step /= 10
    while step * 10 <= high:
        step *= 10
    for part in (5, 2.5, 2, 1, 0.5):
        if high / (step * part) >= 3:
            step *= part
            break
    else:
        step *= 0.25
    return [i * step for i in range(int(high / step) + 2)]


def size_ticks(high):
    """The same for bytes: round in the unit that they are shown in."""
    unit = 1 << (10 * min(3, max(0, (int(high).bit_length() - 1) // 10)))
    return [tick * unit for tick in nice_ticks(high / unit)]


def strip_plot(result, metric):
    """One line per variant, from 0: a dot that is twice as far right cost twice as much."""
    variants = result["variants"]
    show = FORMATS[metric]
    ticks = (size_ticks if metric.endswith("_bytes") else nice_ticks)(max(run[metric] for v in variants for run in v["runs"]))
    height = ROW * len(variants) + 24

    def x(value):
        return LEFT + (WIDTH - LEFT - RIGHT) * value / ticks[-1]

    out = [f"<svg viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{metric} of every run'>"]
    for tick in ticks:
        out.append(f"<line x1='{x(tick):.1f}' x2='{x(tick):.1f}' y1='0' y2='{height - 20}'/>"
                   f"<text class='dim' x='{x(tick):.1f}' y='{height - 5}' text-anchor='middle'>{show(tick) if tick else '0'}</text>")
    for row, variant in enumerate(variants):
        y = ROW * row + ROW / 2
        out.append(f"<text x='{LEFT - 10}' y='{y + 4}' text-anchor='end'>{html.escape(variant['name'])}</text>")
        for i, run in enumerate(variant["runs"]):
            # Spread by run number, so that equal values do not hide one another.
            shift = (i % 5 - 2) * 2.2
            out.append(f"<circle cx='{x(run[metric]):.1f}' cy='{y + shift:.1f}' r='3'>"
                       f"<title>round {run['round']}: {show(run[metric])}</title></circle>")
        middle = x(variant["median"][metric])
        out.append(f"<line class='mid' x1='{middle:.1f}' x2='{middle:.1f}' y1='{y - 10}' y2='{y + 10}'>"
                   f"<title>median {show(variant['median'][metric])}</title></line>")
    return "".join(out) + "</svg>"


def memory_plot(result):
    series = [(v["name"], v["memory"]["points"]) for v in result["variants"] if v["memory"]]
    if not series:
        return ""
    times = nice_ticks(max(points[-1][0] for _, points in series))
    sizes = size_ticks(max(point[1] for _, points in series for point in points))
    height = 260

    def x(value):
        return LEFT + (WIDTH - LEFT - RIGHT) * value / times[-1]

    def y(value):
        return height - 24 - (height - 40) * value / sizes[-1]

    out = ["<h2>RSS of the process tree over time</h2>", f"<svg viewBox='0 0 {WIDTH} {height + 20}' role='img'>"]
    for tick in sizes:
        out.append(f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y(tick):.1f}' y2='{y(tick):.1f}'/>"
                   f"<text class='dim' x='{LEFT - 10}' y='{y(tick) + 4:.1f}' text-anchor='end'>{table.size(tick)}</text>")
    for tick in times:
        out.append(f"<text class='dim' x='{x(tick):.1f}' y='{height - 6}' text-anchor='middle'>{tick:g} s</text>")
    for i, (name, points) in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{x(p[0]):.1f},{y(p[1]):.1f}" for p in points)
        out.append(f"<polyline style='stroke:{colour}' points='{path}'/>"
                   f"<text x='{LEFT + 110 * i}' y='{height + 14}' style='fill:{colour}'>{html.escape(name)}</text>")
    return "".join(out) + "</svg>"
