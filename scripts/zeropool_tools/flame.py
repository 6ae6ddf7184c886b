# SPDX-License-Identifier: MIT
"""One self-contained flamegraph.svg: zoom by click, search by Ctrl+F with the matched share, reset, differential colours.

A picture taller than the window opens at its root; what is above and below the frames stays in view.

Nothing is loaded from elsewhere, and without scripts (as an <img>) it still is a complete picture. In a differential
graph each frame has two weights; it is drawn on the widths of one side, and the button, or w, changes sides. Colour
is the change in absolute terms: red costs more now, blue costs less, white is as before.
"""
import html
import zlib
from dataclasses import dataclass, field

from .flame_script import SCRIPT, STYLE
from .folded import ALLOCATOR, FAULT, KERNEL

WIDTH, PAD, ROW, TOP, BOTTOM = 1200, 10, 16, 62, 26
CHARACTER = 6.7  # width of one character of the 11 px monospace font
MIN_SHARE = 0.0004  # half a pixel


@dataclass
class Frame:
    name: str
    depth: int = 0
    weights: list = field(default_factory=lambda: [0, 0])
    starts: list = field(default_factory=lambda: [0, 0])
    children: dict = field(default_factory=dict)


def escape(text):
    """For XML, which has no way to write most control characters; program names and arguments may hold any."""
    return html.escape("".join(c if c.isprintable() or c == "\n" else "?" for c in text))


def tree(sides):
    """The root Frame of one or two stack counters."""
    root = Frame("all")
    for side, stacks in enumerate(sides):
        for stack, weight in stacks.items():
            frame = root
            frame.weights[side] += weight
            for name in stack:
                child = frame.children.get(name)
                if child is None:
                    child = frame.children[name] = Frame(name, frame.depth + 1)
                child.weights[side] += weight
                frame = child
    return root


def layout(root, min_share):
    """Frames worth drawing, a parent before its children, with their starting points on either side."""
    totals = [max(1, w) for w in root.weights]
    found, waiting = [], [root]
    while waiting:
        frame = waiting.pop()
        found.append(frame)
        at = list(frame.starts)
        kept = []
        for _, child in sorted(frame.children.items()):
            child.starts = list(at)
            at = [a + w for a, w in zip(at, child.weights)]
            if max(w / t for w, t in zip(child.weights, totals)) >= min_share:
                kept.append(child)
        waiting += reversed(kept)
    return found


def plain_colour(name):
    """Red page faults, blue kernel, green allocator, warm the rest; the shade tells neighbours apart."""
    shade = zlib.crc32(name.encode()) % 40
    bare = name.removesuffix(KERNEL)
    if name.endswith(KERNEL):
        if FAULT.search(bare):
            return f"#{215 + shade:02x}{70 + shade:02x}{70 + shade:02x}"
        return f"#{130 + shade:02x}{165 + shade:02x}{215 + shade:02x}"
    if ALLOCATOR.match(bare):
        return f"#{110 + shade:02x}{190 + shade:02x}{110 + shade:02x}"
    return f"#{230 + shade % 25:02x}{160 + shade:02x}{60 + shade:02x}"


def difference_colour(change, scale):
    if not scale or not change:
        return "#f5f5f5"
    # The square root keeps small changes visible beside one big one.
    fade = int(245 - 165 * min(1.0, abs(change) / scale) ** 0.5)
    return f"#f5{fade:02x}{fade:02x}" if change > 0 else f"#{fade:02x}{fade:02x}f5"


def amount(weight, unit):
    if unit == "us":
        return f"{weight / 1e6:.3f} s"
    if unit == "bytes":
        for name, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
            if abs(weight) >= 1 << shift:
                return f"{weight / (1 << shift):.1f} {name}"
        return f"{weight} B"
    return f"{weight:,} {unit}".replace(",", " ")


def share(weight, total):
    return f"{100 * weight / total:.1f} %" if total else "-"


def describe(frame, root, unit, labels):
    if labels is None:
        return f"{frame.name}\n{amount(frame.weights[0], unit)}, {share(frame.weights[0], root.weights[0])}"
    parts = [f"{label} {amount(w, unit)} ({share(w, t)})" for label, w, t in zip(labels, frame.weights, root.weights)]
    change = frame.weights[1] - frame.weights[0]
    return f"{frame.name}\n{', '.join(parts)}: {'+' if change > 0 else ''}{amount(change, unit)}"


def svg(stacks, title, unit="us", subtitle="", other=None, labels=None, side=0, min_share=MIN_SHARE):
    """The SVG text of `stacks`, or of the difference between `stacks` and `other` drawn on the widths of `side`."""
    root = tree([stacks] if other is None else [stacks, other])
    frames = layout(root, min_share)
    labels = None if other is None else labels or ("before", "after")
    height = TOP + BOTTOM + ROW * (1 + max(f.depth for f in frames))
    scale = max(abs(f.weights[1] - f.weights[0]) for f in frames) if labels else 0
    total = root.weights[side]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
             f'data-unit="{unit}" data-side="{side}" data-labels="{escape("|".join(labels or ()))}">',
             f"<style>{STYLE}</style>", f'<rect class="paper" width="{WIDTH}" height="{height}"/><g id="frames">']
    for frame in frames:
        parts.append(frame_svg(frame, root, unit, labels, side, total, height, scale))
    # Behind the frames, as these two stay in view while a tall picture is scrolled.
    parts += [f'</g><g id="head"><rect class="paper" width="{WIDTH}" height="{TOP - 4}"/>',
              f'<text class="title" x="{WIDTH // 2}" y="20">{escape(title)}</text>',
              f'<text class="sub" x="{WIDTH // 2}" y="37">{escape(subtitle)}</text>',
              f'<g class="button idle" id="reset"><text x="{PAD}" y="20">Reset zoom (Esc)</text></g>',
              f'<g class="button" id="find"><text x="{WIDTH - PAD}" y="20" text-anchor="end">Search (Ctrl+F)</text></g>']
    if labels:
        parts.append(f'<g class="button" id="sides"><text x="{WIDTH - PAD}" y="54" text-anchor="end">'
                     f'widths: {escape(labels[side])} (w)</text></g>')
    parts.append(f'<foreignObject id="box" x="{PAD}" y="26" width="260" height="30" style="display:none">'
                 '<input xmlns="http://www.w3.org/1999/xhtml" id="pattern" placeholder="name or regular expression"/></foreignObject></g>'
                 f'<g id="foot"><rect class="paper" y="{height - BOTTOM + 2}" width="{WIDTH}" height="{BOTTOM - 2}"/>'
                 f'<text id="info" x="{PAD}" y="{height - 9}"> </text>'
                 f'<text id="matched" x="{WIDTH - PAD}" y="{height - 9}" text-anchor="end"> </text></g>'
                 f"<script>//<![CDATA[\n{SCRIPT}\n//]]></script></svg>\n")
    return "".join(parts)


def frame_svg(frame, root, unit, labels, side, total, height, scale):
    inner = WIDTH - 2 * PAD
    x = PAD + inner * frame.starts[side] / total if total else PAD
    width = inner * frame.weights[side] / total if total else 0
    y = height - BOTTOM - ROW * (frame.depth + 1)
    if labels:
        colour = difference_colour(frame.weights[1] - frame.weights[0], scale)
    else:
        colour = plain_colour(frame.name) if frame.depth else "#dddddd"
    data = f"{frame.depth},{frame.starts[0]},{frame.weights[0]}"
    if labels:
        data += f",{frame.starts[1]},{frame.weights[1]}"
    hidden = ' style="display:none"' if width < 0.1 else ""
    fits = int((width - 4) / CHARACTER)
    label = "" if fits < 3 else frame.name if len(frame.name) <= fits else frame.name[:fits - 2] + ".."
    text = f'<text x="{x + 2:.1f}" y="{y + 11.5}">{escape(label)}</text>' if label else ""
    return (f'<g data-v="{data}"{hidden}><title>{escape(describe(frame, root, unit, labels))}</title>'
            f'<rect x="{x:.1f}" y="{y}" width="{max(width, 0):.1f}" height="{ROW - 1}" fill="{colour}"/>{text}</g>')
