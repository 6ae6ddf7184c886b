# SPDX-License-Identifier: MIT
"""Kinds about memory: caches of many threads, control groups, sparse blocks, more asked for than touched."""
import tempfile

from harness import (HERE, PEAK_OF_LOADS, PYTHON, Group, Skipped, Variation, both, built, finish, need, require, run,
                     start, within)

MIB = 1 << 20


def rests(*command, settings=None):
    return within(*both(command, settings=settings))


def program(name, *arguments):
    return rests(built(name), *arguments)


def script(name, *arguments):
    return rests(PYTHON, f"{HERE}/programs.py", name, *arguments)


def turns(name, how, threads, mib, *rounds, binary="turns_plain"):
    # With a library that falls short every thread keeps its block.
    held = threads * mib * (2 if "together" in how else 1) + 2 * mib + 64
    return Variation(name, lambda: program(binary, how, threads, mib * 1024, *rounds), mib=held)


THREADS = [
    turns("turns-8x100", "turns", 8, 100), turns("turns-64x16", "turns", 64, 16),
    turns("turns-24x40-once", "turns", 24, 40, 1), turns("turns-40x1", "turns", 40, 1, 20),
    turns("mixed-16x40", "mixed", 16, 40), turns("shuffled-20x40", "shuffled", 20, 40, 4),
    turns("calloc-16x40", "calloc", 16, 40), turns("realloc-12x40", "realloc", 12, 40),
    turns("together-32x16", "together", 32, 16), turns("mixed-together-16x24", "mixed-together", 16, 24),
    turns("once-2000x1", "once", 2000, 1), turns("once-300x2", "once", 300, 2),
    turns("imports-16x50", "turns", 16, 50, binary="turns_imports"),
    turns("imports-mixed-8x60", "mixed", 8, 60, binary="turns_imports"),
    turns("imports-together-16x20", "together", 16, 20, binary="turns_imports"),
    Variation("python-12x80", script, "bytearrays", 12, 80, mib=1200),
    Variation("python-8x30", script, "bytearrays", 8, 30, mib=400),
]


# --- control groups ---

def survives(command, version, limit, settings=None, soft=None, **options):
    """Both runs in groups of their own with the same limit, in MiB."""
    def one(preloaded):
        with Group("memory", version, limit * MIB, soft=soft and soft * MIB, **options) as group:
            return run(command, preloaded, group=group, settings=settings)
    require(one(False))
    ours = one(True)
    return ours.status == 0 and not any(line.startswith("child") and line != "child 0" for line in ours.lines) and \
        ours.figures.get("child", 0) == 0, f"{ours.ended()} {ours.figures or ours.lines} in {limit} MiB"


def one_lowered(command, version, limit, lower_to, at_work, preloaded):
    with Group("memory", version, limit * MIB) as group:
        process = start(command, preloaded, group=group)
        said = process.stdout.readline()
        lowered = group.lower(lower_to * MIB, 2)
        if not at_work:
            try:
                process.stdin.write("\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass
        result = finish(process, 60, said)
    return result, lowered


def lowered(command, version, limit, lower_to, at_work=False):
    plain, could = one_lowered(command, version, limit, lower_to, at_work, False)
    if not could:
        raise Skipped("the limit cannot be lowered even without the library")
    require(plain)
    ours, could = one_lowered(command, version, limit, lower_to, at_work, True)
    return ours.status == 0 and could, f"{ours.ended()}, limit {'lowered' if could else 'not to be lowered'} to {lower_to} MiB"


def groups(version):
    def uses(name, how, big, then, block, limit, **options):
        return Variation(name, lambda: survives([built("group"), how, big, then, block], version, limit, **options),
                         mib=limit + 64)

    def falls(name, how, big, then, block, limit, lower_to):
        return Variation(name, lambda: lowered([built("group"), how, big, then, block], version, limit, lower_to,
                                               how == "lowered-at-work"), mib=limit + 64)

    off = {"ZEROPOOL_DECAY_MS": "0"}
    return [
        uses("small-in-260", "small", 200, 150, 2, 260), uses("small-in-1500", "small", 1350, 900, 2, 1500),
        uses("small-after-64-blocks-of-8", "small", 512, 400, 8, 600),
        uses("mapping-in-700", "mapping", 600, 500, 16, 700),
        uses("mapping-after-one-block", "mapping", 400, 380, 400, 460),
        uses("shared-in-500", "shared", 400, 300, 1, 500), uses("file-in-500", "file", 400, 300, 4, 500),
        uses("block-from-before", "block-from-before", 400, 350, 4, 470),
        uses("forked", "forked", 500, 400, 10, 600), uses("spawned", "spawned", 500, 400, 10, 600),
        uses("executed", "executed", 300, 250, 2, 380), uses("rounds", "rounds", 450, 400, 3, 540),
        uses("no-decay-small", "small", 500, 350, 2, 600, settings=off),
        uses("no-decay-spawned", "spawned", 400, 350, 20, 480, settings=off),
        uses("no-thread", "mapping", 400, 350, 2, 480, settings={"ZEROPOOL_BACKGROUND": "off"}),
        uses("limit-of-parent", "small", 500, 400, 2, 600, limit_of_parent=True),
        uses("limit-of-parent-mapping", "mapping", 700, 600, 2, 800, limit_of_parent=True),
        # The soft limit of version 1 is a wish; beyond memory.high of version 2 a process hardly gets on.
        uses("soft-limit", "mapping", 500, 400, 2, 600 if version == 1 else 1200, soft=300 if version == 1 else 560),
        Variation("python-child", survives, [PYTHON, f"{HERE}/programs.py", "repeated-by-child", 20, 16], version, 450,
                  mib=514),
        falls("lowered-at-rest", "lowered", 600, 200, 4, 800, 300),
        falls("lowered-large-block", "lowered", 300, 80, 300, 512, 150),
        falls("lowered-at-work", "lowered-at-work", 600, 100, 4, 800, 200),
    ]


# --- sparse blocks ---

def sparse(name, *arguments, mib):
    return Variation(name, lambda: program("sparse", *arguments), mib=mib)


SPARSE = [
    sparse("periodic-16", "periodic", 1024, 2000, 16, mib=1000),
    sparse("periodic-64-of-4-mib", "periodic", 4096, 500, 64, mib=1000),
    sparse("periodic-8-of-256-kib", "periodic", 256, 6000, 8, mib=1200),
    sparse("random-8", "random", 1024, 1600, 8, mib=1500),
    sparse("random-16-of-300-kib", "random", 300, 5000, 16, mib=900),
    sparse("random-64-of-16-mib", "random", 16384, 200, 64, mib=1500),
    sparse("calloc-8", "calloc", 1024, 1500, 8, mib=1500),
    sparse("calloc-16-of-64-kib", "calloc", 64, 16000, 16, mib=1500),
    sparse("warm-512-step-256", "warm", 512, 16, 512, 256, mib=1100),
    sparse("warm-1024-step-4096", "warm", 1024, 4, 1024, 4096, mib=2100),
    sparse("warm-calloc", "warm", 512, 64, 512, 1024, "calloc", mib=1100),
    sparse("warm-smaller-table", "warm", 600, 2, 100, 512, mib=1300),
    sparse("warm-one-block", "warm", 300, 300, 300, 64, mib=700),
    sparse("warm-blocks", "warm-blocks", 512, 8, 500, 1024, 16, mib=1100),
    sparse("warm-blocks-of-4-mib", "warm-blocks", 800, 1, 200, 4096, 64, mib=1700),
    sparse("in-turns", "in-turns", 256, 512, 6, mib=600),
]


# --- asks for more than it touches, loads twice ---

def peaks(*command):
    return within(*both(command), peak=(PEAK_OF_LOADS, 0))


def asks(name, *arguments, mib):
    return Variation(name, lambda: peaks(built("asks"), *arguments), mib=mib)


def loads_in_python(count, step, epochs, order):
    with tempfile.TemporaryDirectory() as folder:
        return peaks(PYTHON, f"{HERE}/loads.py", folder, count, step, epochs, order)


def ruby(*arguments):
    return peaks(need("ruby"), f"{HERE}/unpack.rb", *arguments)


ASKS = [
    asks("apart-a-third", "apart", 8, 36, 288, 96, mib=800),
    asks("apart-a-tenth", "apart", 10, 20, 400, 40, mib=500),
    asks("apart-half-zeroed", "apart", 8, 30, 200, 100, "calloc", mib=500),
    asks("apart-small", "apart", 40, 4, 32, 8, mib=200), asks("grows", "grows", 6, 30, 300, mib=700),
    asks("grows-small", "grows", 20, 2, 24, mib=100), asks("loads-again", "loads", 24, 4096, 2, 0, mib=2200),
    asks("loads-backwards", "loads", 20, 3000, 3, 1, mib=1500),
    asks("loads-other-sizes", "loads", 24, 2048, 4, 2, mib=1200),
    asks("loads-one-by-one", "loads", 16, 4096, 3, 3, mib=1500),
    asks("loads-small", "loads", 100, 256, 3, 0, mib=700),
    Variation("python-read", loads_in_python, 24, 3072, 2, "read", mib=2000),
    Variation("python-read-three-times", loads_in_python, 40, 1024, 3, "read", mib=1200),
    Variation("python-into", loads_in_python, 24, 2048, 2, "into", mib=1300),
    Variation("python-copy", loads_in_python, 20, 2048, 2, "copy", mib=1300),
    Variation("ruby-20-mb", ruby, 8, 20_000_000, 100_000, "C*", mib=800),
    Variation("ruby-all-kept", ruby, 5, 12_000_000, 12_000_000, "C*", mib=600),
    Variation("ruby-words", ruby, 8, 36_000_000, 50_000, "S*", mib=800),
]

KINDS = {"threads": THREADS, "groups": groups(1), "groups2": groups(2), "sparse": SPARSE, "asks": ASKS}
