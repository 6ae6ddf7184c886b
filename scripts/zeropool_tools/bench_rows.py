# SPDX-License-Identifier: MIT
"""What zeropool bench measures: one Row per line of the table, with the bound that the pool has to keep there.

The programs are those of workloads/micro; real programs are added by bench_real. Bounds are stated here and evaluated
in bench_bounds, always from the figures of the same run.
"""
from dataclasses import dataclass, field

from .bench_bounds import Absolute, Against, BestPeer, Elsewhere

# Rows that take a fraction of a second get more rounds: machines that change their speed every few seconds would otherwise show one
# allocator at one speed and its peers at the other.
SHORT_ROUNDS = 5
SHORT_MOST_SHIFT = 20  # touching a block of a MiB takes microseconds

THRESHOLD = 32 << 10  # from here on requests are served by the pool unless the user says otherwise
MIB = 1 << 20


@dataclass(frozen=True)
class Measure:
    key: str  # in the program's JSON, or in what the runner knows of the process
    title: str
    unit: str  # ns, s, bytes, count, ratio; see bench_table.UNITS


@dataclass(frozen=True)
class Row:
    name: str
    group: str
    label: str
    argv: tuple  # the first word is a program of workloads/micro, or an absolute path
    measures: tuple  # time first, memory after it
    bounds: tuple = ()
    rounds: float = 1.0  # times the number of rounds asked for, at least one
    settle_mib: int = 512  # memory that the machine should have ready, see settle.c
    quick: bool = False  # part of --quick
    only_named: bool = False  # runs only where --only names it
    json: bool = True  # prints a line of JSON; else only the process itself is measured
    busy: bool = True  # never sleeps, so a run that waited was disturbed
    env: dict = field(default_factory=dict, hash=False)
    timeout_s: float = 300.0


NS = Measure("ns", "time", "ns")
SECONDS = Measure("seconds", "time", "s")
WALL = Measure("wall_s", "wall", "s")
CPU = Measure("cpu_s", "cpu", "s")
CPU_INSIDE = Measure("cpu_seconds", "cpu", "s")
PEAK = Measure("peak_rss_bytes", "peak RSS", "bytes")
MEAN = Measure("mean_rss_bytes", "mean RSS", "bytes")
FAULTS = Measure("minor_faults", "faults", "count")
VMAS = Measure("vmas", "VMAs", "count")
PER_BLOCK = Measure("faults_per_block", "faults/block", "ratio")
MEMORY = (PEAK, MEAN, FAULTS, VMAS)


def size_word(size):
    """65536 -> '64K', which the programs understand as well."""
    for suffix, shift in (("G", 30), ("M", 20), ("K", 10)):
        if size >= 1 << shift and size % (1 << shift) == 0:
            return f"{size >> shift}{suffix}"
    return str(size)


def size_label(size):
    word = size_word(size)
    return {"K": f"{word[:-1]} KiB", "M": f"{word[:-1]} MiB", "G": f"{word[:-1]} GiB"}.get(word[-1], f"{word} B")


def pair_rows():
    pool = Elsewhere("ns", "pair-64K", "tcmalloc", 1.25)
    for shift in (4, 8, 12, 14, 15, 16, 17, 18, 20, 22, 24, 26, 28, 30):
        size = 1 << shift
        bounds = (pool,) if size >= THRESHOLD else ()
        if shift == 30:
            bounds += (Elsewhere("ns", "pair-32K", None, 1.2),)
        yield Row(f"pair-{size_word(size)}", "pair", f"malloc+free {size_label(size)}", ("pair", f"--size={size}"),
                  (NS,), bounds, rounds=SHORT_ROUNDS, settle_mib=0, quick=shift in (12, 15, 16, 20, 30))
    for shift in (16, 20, 26, 30):
        size = 1 << shift
        yield Row(f"aligned-{size_word(size)}", "pair", f"aligned_alloc(4096)+free {size_label(size)}",
                  ("pair", f"--size={size}", "--align=4096"), (NS,), (pool,), rounds=SHORT_ROUNDS, settle_mib=0,
                  quick=shift == 20)


def touch_rows():
    for shift in (16, 18, 20, 22, 24, 26, 28, 30):
        size = 1 << shift
        yield Row(f"touch-{size_word(size)}", "touch", f"malloc, touch all pages, free {size_label(size)}",
                  ("touch", f"--size={size}"),
                  (NS, Measure("ratio", "to static", "ratio"), Measure("ratio_slot", "slot to static", "ratio"), PEAK, PER_BLOCK),
                  (Absolute("ratio", 1.15 if shift == 16 else 1.05, "a static buffer"),), quick=shift in (16, 20, 26),
                  rounds=SHORT_ROUNDS if shift <= SHORT_MOST_SHIFT else 1 if shift < 28 else 0.6,
                  settle_mib=max(64, 5 * size // MIB // 2))
    yield Row("fresh-1G", "fresh", "first touch of a fresh 1 GiB", ("fresh",),
              (SECONDS, CPU_INSIDE, PEAK, FAULTS, VMAS), (Against("seconds", "glibc", 0.45),),
              rounds=0.6, settle_mib=3072)


# (low, high, live blocks, turnover): 200 to 300 MiB live, and work for 0.05 to 3 s
RANGES = ((16 << 10, 64 << 10, 6000, 60), (64 << 10, 512 << 10, 800, 40), (MIB, 8 * MIB, 50, 25),
          (5 * MIB, 25 * MIB, 20, 20))
LIVE_BOUNDS = (BestPeer("seconds", 1.0), Against("peak_rss_bytes", "glibc", 1.05),
               Against("mean_rss_bytes", "glibc", 1.10))


def range_label(low, high):
    """'16-64 KiB'"""
    return f"{size_label(low).split()[0]}-{size_label(high)}"


def live_row(name, label, shape, threads=1, fill="pages", bounds=LIVE_BOUNDS, **more):
    low, high, live, turnover = shape
    argv = ("liveset", f"--low={low}", f"--high={high}", f"--live={live}", f"--turnover={turnover}",
            f"--threads={threads}", f"--fill={fill}")
    return Row(name, "live", label, argv, (SECONDS, CPU_INSIDE, *MEMORY), bounds, **more)


def live_rows():
    for low, high, live, turnover in RANGES:
        where = f"{size_word(low)}-{size_word(high)}"
        for threads in (1, 2, 8, 64):
            if threads == 64 and low > MIB:
                continue
            shape = (low, high, max(live, threads), turnover)
            label = f"random {range_label(low, high)}, {shape[2]} live, {threads} thread{'s' * (threads > 1)}"
            yield live_row(f"live-{where}-t{threads}", label, shape, threads, quick=threads in (1, 8),
                           settle_mib=1024 if threads == 64 else 640)
    for low, high, live, turnover in RANGES:
        label = f"random {range_label(low, high)}, 16 live, 1 thread"
        shape = (low, high, 16, turnover * (live // 16 or 1))
        yield live_row(f"live-{size_word(low)}-{size_word(high)}-n16", label, shape)
    yield live_row("live-100k", "random 16-64 KiB, 100000 live, untouched", (16 << 10, 64 << 10, 100000, 5),
                   fill="none", bounds=(BestPeer("seconds", 1.0),), settle_mib=640)
    for low, high, live, turnover in RANGES:
        bounds = LIVE_BOUNDS
        if low == 5 * MIB:
            bounds = (Against("seconds", "glibc-retain", 1.0), Against("peak_rss_bytes", "glibc", 1.05))
        yield live_row(f"filled-{size_word(low)}-{size_word(high)}",
                       f"random {range_label(low, high)}, {live} live, each byte filled",
                       (low, high, live, turnover / 2), fill="all", bounds=bounds, quick=low == 5 * MIB, settle_mib=640)


def handoff_rows():
    # (low, high, blocks on their way, blocks in all)
    for low, high, depth, blocks in ((16 << 10, 64 << 10, 1024, 100000), (64 << 10, 512 << 10, 256, 20000),
                                     (MIB, 8 * MIB, 32, 1200), (5 * MIB, 25 * MIB, 8, 300)):
        for pairs in (1, 4):
            yield Row(f"handoff-{size_word(low)}-{size_word(high)}-p{pairs}", "handoff",
                      f"producer/consumer {range_label(low, high)}, {pairs} pair{'s' * (pairs > 1)}",
                      ("handoff", f"--low={low}", f"--high={high}", f"--depth={max(depth, pairs)}",
                       f"--blocks={blocks}", f"--pairs={pairs}"), (SECONDS, CPU_INSIDE, *MEMORY),
                      (BestPeer("seconds", 1.0),), quick=pairs == 1)


def grow_rows():
    for factor in (1.125, 2):
        yield Row(f"grow-{factor}", "grow", f"realloc x{factor} from 64 KiB to 512 MiB", ("grow", f"--factor={factor}"),
                  (Measure("seconds", "warm time", "s"), CPU_INSIDE, Measure("cold_seconds", "cold time", "s"), PEAK,
                   Measure("peak_ratio", "peak/final", "ratio"), FAULTS, VMAS),
                  (BestPeer("seconds", 1.0), BestPeer("cold_seconds", 1.0),
                   Absolute("peak_ratio", 1.05, "the final size")), quick=factor == 1.125, settle_mib=1536)


def zeroed_rows():
    for use in ("sparse", "dense"):
        for shift in (16, 18, 20, 22, 24, 26, 28):
            size = 1 << shift
            yield Row(f"calloc-{use}-{size_word(size)}", "calloc", f"calloc {use} {size_label(size)}",
                      ("zeroed", f"--size={size}", f"--use={use}"), (NS, PEAK, PER_BLOCK), (BestPeer("ns", 1.3),),
                      rounds=SHORT_ROUNDS if shift <= SHORT_MOST_SHIFT else 1, quick=shift in (20, 26),
                      settle_mib=max(64, 2 * size // MIB))


def memory_rows():
    resident = Measure("rss_bytes", "RSS", "bytes")
    for name, label, words in (("malloc", "1 GiB by malloc", ()), ("calloc", "1 GiB by calloc", ("--call=calloc",)),
                               ("malloc-16", "16 x 64 MiB by malloc", ("--blocks=16",)),
                               ("calloc-16", "16 x 64 MiB by calloc", ("--blocks=16", "--call=calloc"))):
        yield Row(f"sparse-{name}", "sparse", f"{label}, one byte per 2 MiB", ("sparse", *words),
                  (resident, PEAK, FAULTS, VMAS), (Against("rss_bytes", "glibc", 1.10),), rounds=0.4,
                  quick=name in ("malloc", "calloc"), settle_mib=0)
    looks = tuple(Measure(f"rss_{s}_bytes", f"RSS after {s} s", "bytes") for s in ("0", "0.1", "1", "2", "5", "10"))
    idle = Against("rss_10_bytes", "glibc", 1.10)
    for name, label, words in (("all-freed", "all freed", ()), ("kept", "1/16 kept", ("--keep=0.0625",)),
                               ("threads", "4 threads, all freed", ("--threads=4",))):
        yield Row(f"idle-{name}", "idle", f"burst of 2 GiB, {label}, idle", ("idle", *words), (PEAK, *looks, VMAS),
                  (idle,), busy=False, rounds=0.2, settle_mib=2048)
    for name, label, words in (("all-freed", "all freed", ()), ("kept", "1/16 kept", ("--keep=0.0625",))):
        yield Row(f"trim-{name}", "idle", f"burst of 2 GiB, {label}, malloc_trim(0)",
                  ("idle", "--trim=yes", "--seconds=0", *words), (PEAK, looks[0]),
                  (Against("rss_0_bytes", "glibc", 1.02),), rounds=0.4, quick=name == "all-freed", settle_mib=2048)


def long_rows():
    yield Row("shift", "shift", "sizes that change phase by phase, 200 MiB live", ("shift",),
              (SECONDS, CPU_INSIDE, *MEMORY, Measure("overhead", "mean RSS/live", "ratio"),
               Measure("drift", "RSS drift", "ratio")), quick=True)
    for at_once in (4, 32):
        yield Row(f"churn-{at_once}", "churn", f"threads that come and go, {at_once} at once",
                  ("churn", f"--at-once={at_once}"), (SECONDS, CPU_INSIDE, *MEMORY), quick=at_once == 4)


PERL = ("my $sum = 0; for my $round (1 .. 120) { my @list; for my $i (1 .. 1500) {"
        " push @list, {name => \"n$i\" x (1 + $i % 5), value => $i, tags => [$i, $round]}; }"
        " $sum += $_->{value} + length $_->{name} for @list; } print \"$sum\\n\";")
SQL = ("create table t(a integer primary key, b text, c int);"
       "insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 120000)"
       " select i, 'name' || (i * 7919 % 100003), i % 97 from n; create index tb on t(b);"
       "select count(*), sum(c), min(b), max(b) from t; update t set c = c + 1 where b like '%1%';"
       "select c, count(*) from t group by c order by 2 desc limit 3;")


def small_rows():
    for name, label, argv, json in (("tree", "small only: search tree in C", ("tree",), True),
                                    ("perl", "small only: perl records", ("/usr/bin/perl", "-e", PERL), False),
                                    ("sqlite3", "small only: sqlite3 in memory",
                                     ("/usr/bin/sqlite3", ":memory:", SQL), False)):
        yield Row(f"small-{name}", "small", label, argv, (WALL, CPU, PEAK), (Against("wall_s", "glibc", 1.01),),
                  rounds=3, settle_mib=0, quick=name == "tree", json=json)


def micro_rows():
    found = []
    for make in (pair_rows, touch_rows, live_rows, handoff_rows, grow_rows, zeroed_rows, memory_rows, long_rows,
                 small_rows):
        found += make()
    return found
