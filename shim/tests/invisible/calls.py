# SPDX-License-Identifier: MIT
"""Kinds about single calls: requests that must fail, limits of addresses, contention, ends of threads, stacks."""
import statistics

from harness import STACK_SLACK, Skipped, Variation, both, built, medians, run, same_lines, within

# A program that is refused once keeps its mappings; the bound is far from what the kernel allows (65,530).
MAPPINGS = 2000


def mappings(request, n_blocks):
    plain, ours = both([built("refused"), "mappings", request, n_blocks])
    good, text = same_lines(plain, ours)
    return good and ours["mappings"] <= plain["mappings"] + MAPPINGS, \
        f"{text}, mappings {plain['mappings']:.0f} -> {ours['mappings']:.0f}, {plain['ms']:.1f} -> {ours['ms']:.1f} ms"


def cost(request, rounds):
    """A round with the request against one without it, both with the library; some requests cost something by themselves."""
    command = [built("refused"), "cost"]
    plain = medians([*command, request, rounds], ["round-us"], False)[0]
    without, ours = (medians([*command, name, rounds], ["round-us"], True) for name in ("nothing", request))
    if without is None or ours is None:
        return False, "did not end well"
    most = 3 * max(without[0], plain)
    return ours[0] <= most, f"{without[0]:.1f} -> {ours[0]:.1f} us a round (at most {most:.1f}; glibc {plain:.1f})"


def serves(request, rounds):
    plain, ours = both([built("refused"), "serves", request, rounds])
    good = ours.status == 0 and ours["lost"] == 0 and ours["lost-at-the-end"] == 0
    return good and ours["mappings"] <= plain["mappings"] + MAPPINGS, \
        f"{ours.ended()}, {ours['lost']:.0f} of {rounds} blocks not from the pool, " \
        f"{'none' if ours['lost-at-the-end'] else 'served'} at the end, mappings {plain['mappings']:.0f} -> {ours['mappings']:.0f}"


HOLES = {
    "double": 30000, "half-of-all": 140000, "zeroed": 60000, "overflow": 40000, "growth": 80000, "aligned": 50000,
    "aligned-size": 30000, "huge-pages": 60000, "100-tib": 140000, "map-double": 30000, "remap": 40000,
}
SERVES = ("double", "half-of-all", "zeroed", "growth", "aligned", "aligned-size", "huge-pages", "100-tib", "map-double", "remap")
COSTS = ("double", "half-of-all", "zeroed", "overflow", "growth", "aligned", "huge-pages", "gigantic-pages", "100-tib", "remap")
REFUSED = [
    *(Variation(f"mappings-{request}-{n}", mappings, request, n, mib=n // 64) for request, n in HOLES.items()),
    *(Variation("serves-" + request, serves, request, 2000, mib=400) for request in SERVES),
    *(Variation("cost-" + request, cost, request, 100, mib=100, alone=True) for request in COSTS),
]


def under_limit(kind, limit, block, how):
    return same_lines(*both([built("addresses"), kind, limit, block, how]))


def address_variation(kind, limit, block, how):
    name = f"{kind}-{limit}-{how}" + (f"-after-{block}-kib" if block else "")
    return Variation(name, under_limit, kind, limit, block, how, mib=limit if how == "small" else limit // 4)


ADDRESSES = [address_variation(*plan) for plan in (
    ("as", 300, 64, "threads"), ("as", 1024, 1024, "threads"), ("as", 3072, 64, "threads"),
    ("data", 500, 64, "threads"), ("as", 512, 64, "stack"), ("as", 2048, 4096, "stack"),
    ("data", 700, 40960, "stack"), ("as", 300, 100, "stack"), ("as", 400, 64, "mapping"),
    ("as", 1500, 2048, "mapping"), ("data", 1024, 64, "mapping"), ("data", 3072, 40960, "mapping"),
    ("as", 600, 64, "dlopen"), ("as", 1024, 300, "dlopen"), ("data", 400, 64, "dlopen"),
    ("as", 2560, 0, "growth"), ("as", 800, 0, "growth"), ("data", 1600, 0, "growth"),
    ("as", 1200, 64, "growth"), ("as", 500, 64, "blocks"), ("as", 3072, 1024, "blocks"),
    ("data", 900, 64, "blocks"), ("as", 600, 64, "small"), ("data", 400, 1024, "small"),
    ("as", 1200, 4096, "small"), ("as", 700, 64, "child"), ("data", 1024, 1024, "child"),
    ("as", 500, 64, "large-stack"), ("data", 600, 64, "large-stack"),
)]


def throughput(program, threads, least, spread):
    return run([built(program), threads, least, spread, 250], True)["pairs-per-ms"]


def contention(program, threads, least, spread):
    """Throughput with the import against the same without, with the library; runs in turns."""
    ratio = told = None
    for n_pairs in (3, 7):
        pairs = [[throughput(name, threads, least, spread) for name in ("contend_plain", program)] for _ in range(n_pairs)]
        ratio = statistics.median(b / a for a, b in pairs)
        told = " and ".join(f"{statistics.median(column):.0f}" for column in zip(*pairs))
        # A near miss may be the machine.
        if ratio >= 0.8 or ratio < 0.5:
            break
    return ratio >= 0.8, f"ratio {ratio:.2f} (at least 0.80): {told} pairs a ms"


def contention_variation(program, threads, least, spread):
    return Variation(f"{program}-{threads}-threads-from-{least}-kib", contention, "contend_" + program, threads, least, spread,
                     mib=1000, alone=True)


CONTENTION = [contention_variation(*plan) for plan in (
    ("prctl", 8, 260, 700), ("prctl", 16, 300, 100), ("prctl", 32, 400, 2000), ("prctl", 64, 1000, 3000),
    ("more", 64, 260, 700), ("more", 24, 500, 500),
)]


def leaves_nothing(*arguments):
    plain, ours = both([built("ends"), *arguments])
    good, text = within(plain, ours)
    return good and ours["growth"] <= plain["growth"] + 8, f"growth {plain['growth']:.0f} -> {ours['growth']:.0f}, {text}"


ENDS = [Variation("-".join(map(str, plan)), leaves_nothing, *plan, mib=400) for plan in (
    ("rounds", 5000, 3000), ("rounds", 2000, 200), ("rounds", 960, 500, 16), ("last-round", 5000, 200),
    ("last-round", 1000, 4096), ("last-round", 1920, 100, 64), ("object", 5000, 300), ("object", 960, 1000, 32),
    ("object-and-rounds", 3000, 1500), ("library", 5000, 64), ("plain", 5000, 1024), ("exit", 2000, 700),
    ("cancel", 640, 2000, 8),
)]


def stack_of(calls):
    """How deep, and whether the calls work on small stacks, where they do without the library."""
    plain, ours = both([built("stacks"), "depth", calls])
    if ours.status != 0:
        return False, ours.ended()
    good = ours["stack"] <= plain["stack"] + STACK_SLACK
    told = [f"{plain['stack']:.0f} -> {ours['stack']:.0f} bytes (at most {plain['stack'] + STACK_SLACK:.0f})"]
    for where in ("coroutine", "altstack"):
        try:
            works, text = same_lines(*both([built("stacks"), where, calls]))
            good = good and works
            told.append(f"{where} {'works' if works else text}")
        except Skipped:
            told.append(f"{where} is too small without the library, too")
    return good, ", ".join(told)


STACKS = [Variation(calls, stack_of, calls, mib=300) for calls in (
    "nothing", "first-small", "first-large", "first-sizes", "small", "large", "sizes", "rested", "growth",
    "full-cache-small", "full-cache-large", "holes", "zeroed", "resize", "aligned", "trim", "refused", "refused-growth",
    "refused-mapping", "attributes", "usable", "waits", "fork", "child", "child-frees", "child-trims", "thread",
)]

KINDS = {"refused": REFUSED, "addresses": ADDRESSES, "contention": CONTENTION, "ends": ENDS, "stacks": STACKS}
