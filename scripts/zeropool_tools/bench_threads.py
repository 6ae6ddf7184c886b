# SPDX-License-Identifier: MIT
"""Rows of zeropool bench on what threads do to an allocator: few live blocks a thread, requests, blocks that change hands.

Each row is short: the suite has many of them, and they run only when named ('--only threads'). The bounds hold row by row; over all
rows, nine times of ten at most the best peer's, and none far above.
"""
from .bench_bounds import Against, BestPeer, Verdict
from .bench_rows import CPU_INSIDE, MEMORY, MIB, SECONDS, Measure, Row, range_label, size_word

GROUP = "threads"
COUNTS = (1, 2, 4, 8, 16, 64)
PINNED_COUNTS = (2, 8)
PINS = {"one": "on one CPU", "spread": "each on a CPU"}
SHARE_LIMIT, WORST_LIMIT = 0.10, 1.15
P50, P99 = Measure("p50_ns", "p50", "ns"), Measure("p99_ns", "p99", "ns")

SET_LIVE, SET_MOST_BYTES = 16, 2 << 30  # blocks a thread, but less where all of them would be more than so many bytes
# (low, high, replacements in all)
SETS = ((16 << 10, 64 << 10, 1000000), (64 << 10, 512 << 10, 200000), (MIB, 8 * MIB, 1500), (5 * MIB, 25 * MIB, 400))
# (low, high, requests in all)
REQUESTS = ((16 << 10, 256 << 10, 6000), (64 << 10, 4 * MIB, 320))
# (low, high, blocks on their way, blocks in all)
HANDOFFS = ((16 << 10, 64 << 10, 1024, 100000), (64 << 10, 512 << 10, 256, 20000))


def runs_of(counts):
    """(threads, pin, end of the row's name, of its label) for each of these numbers of threads, pinned ones last."""
    for threads in counts:
        yield threads, "none", f"t{threads}", f"{threads} thread{'s' * (threads > 1)}"
    for pin, words in PINS.items():
        for threads in PINNED_COUNTS:
            if threads in counts:
                yield threads, pin, f"t{threads}-{pin}", f"{threads} threads {words}"


def bounds(high, time_key="seconds", limit=1.0):
    return (BestPeer(time_key, limit), Against("peak_rss_bytes", "glibc", 1.08 if high <= 64 << 10 else 1.05))


def thread_row(name, label, argv, pin, held, measures=(SECONDS, CPU_INSIDE), **more):
    """`held`: bytes that the program has at once."""
    words = argv if pin == "none" else (*argv, f"--pin={pin}")
    return Row(f"threads-{name}", GROUP, label, words, (*measures, *MEMORY), only_named=True,
               settle_mib=max(64, 5 * held // MIB // 4), **more)


def set_rows():
    for low, high, operations in SETS:
        for threads, pin, end, words in runs_of(COUNTS):
            each = max(2, min(SET_LIVE, SET_MOST_BYTES // (threads * (low + high) // 2)))
            live = each * threads
            yield thread_row(f"set-{size_word(low)}-{size_word(high)}-{end}",
                             f"random {range_label(low, high)}, {each} live a thread, {words}",
                             ("liveset", f"--low={low}", f"--high={high}", f"--live={live}",
                              f"--turnover={operations / live:g}", f"--threads={threads}"), pin, live * (low + high) // 2,
                             bounds=bounds(high, limit=1.05 if threads == 1 else 1.0))


def request_rows():
    for low, high, requests in REQUESTS:
        for threads, pin, end, words in runs_of(COUNTS):
            yield thread_row(f"requests-{size_word(low)}-{size_word(high)}-{end}",
                             f"requests of 4-15 buffers, {range_label(low, high)}, {words}",
                             ("requests", f"--low={low}", f"--high={high}", f"--requests={requests}", f"--threads={threads}"),
                             pin, threads * 10 * (low + high) // 2, (SECONDS, P50, P99, CPU_INSIDE),
                             bounds=(BestPeer("p50_ns", 1.0), *bounds(high)))


def passing_rows():
    for low, high, depth, blocks in HANDOFFS:
        for threads, pin, end, words in runs_of(COUNTS[1:]):
            yield thread_row(f"handoff-{size_word(low)}-{size_word(high)}-{end}",
                             f"producer/consumer {range_label(low, high)}, {words}",
                             ("handoff", f"--low={low}", f"--high={high}", f"--depth={depth}", f"--blocks={blocks}",
                              f"--pairs={threads // 2}"), pin, depth * (low + high) // 2, bounds=bounds(high))
    for threads, pin, end, words in runs_of(COUNTS):
        yield thread_row(f"hop-{end}", f"tasks that hop, 40 KiB-4 MiB untouched, {words}",
                         ("hop", "--steps=100000", f"--threads={threads}"), pin, 64 * MIB, bounds=bounds(4 * MIB))
    for threads, pin, end, words in runs_of(COUNTS[2:]):
        yield thread_row(f"batches-{end}", f"objects to 64 KiB freed in batches, 2 of {words} make them",
                         ("batches", "--objects=400000", f"--threads={threads}"), pin, 64 * MIB, bounds=bounds(64 << 10))


def thread_rows():
    return [*set_rows(), *request_rows(), *passing_rows()]


def share_verdicts(verdicts):
    """The two bounds over the times of several rows, from their verdicts against the best peer."""
    times = [v for v in verdicts if v.bound.endswith("best peer") and v.value is not None]
    missed = sum(not v.met for v in times) / len(times) if times else None
    most = max((v.value for v in times), default=None)
    return [Verdict("seconds", f"times that miss their bound <= {SHARE_LIMIT:.2f} of all", SHARE_LIMIT, missed, missed, missed),
            Verdict("seconds", f"the worst <= {WORST_LIMIT:.2f} x best peer", WORST_LIMIT, most, most, most)]
