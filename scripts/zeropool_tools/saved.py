# SPDX-License-Identifier: MIT
"""Between which bounds the processor time lies that the pool saved against glibc, from the pool's own counters alone.

Every page handed out warm is a page fault that an allocator which maps each block would have taken, if the program touches
it: the upper end. glibc keeps blocks below 32 MiB on its heap once it has learned, but maps larger ones for ever, and
those of calloc cost it nothing until they are touched: warm pages of at least 32 MiB that had not to be zero are the lower
end. What lies between depends on when glibc gives the end of its heap back, which counters of the pool cannot tell: `zeropool
advise` measures it.

What a page costs is not the same everywhere: memory with huge pages faults once in 2 MiB. How the pages of this program
come is seen from its own faults: if there were far fewer than pages that the pool took fresh, they came as huge pages, or,
where the program never became as large as its blocks, were not touched at all.
"""
from dataclasses import dataclass

from . import calibrate
from .stats_report import PAGE, faults_avoided, number

FEW_FAULTS = 0.5  # faults per fresh page; above, pages are small ones
FEW_PAGES = 2048  # too few fresh pages to tell from what a program touches anyway
SMALL_IN_HUGE = 512
FILLED = 0.97  # size classes lie a sixteenth apart, so a block is 3 % larger than what was asked for, on average


@dataclass
class Saving:
    low_s: float = 0.0
    high_s: float = 0.0
    huge: float = 0.0  # share of the avoided pages that had come as huge ones


def paging(report):
    """(share of pages touched as small ones, as huge ones)."""
    fresh = number(report, "bytes_fresh") / PAGE
    faults = number(report, "minor_faults")
    peak, resident = number(report, "bytes_live_peak"), number(report, "max_rss_bytes")
    touched = min(1.0, resident / peak) if peak and resident else 1.0
    if fresh < FEW_PAGES or not faults or faults >= FEW_FAULTS * fresh:
        return touched, 0.0
    small = min(touched, faults / fresh)
    return small, touched - small


def one(report, fault_ns, huge_ns=None):
    """Saving of one process. huge_ns is measured when it is needed."""
    small, huge = paging(report)
    if huge and huge_ns is None:
        huge_ns = calibrate.huge_fault_ns() or 0.0
    page_ns = small * fault_ns + huge * (huge_ns or 0.0) / SMALL_IN_HUGE
    low, high = faults_avoided(report)
    return Saving(FILLED * low * page_ns / 1e9, high * page_ns / 1e9, huge)


def of(reports, fault_ns, huge_ns=None):
    """The sum over processes: each is judged by its own faults."""
    total, weight = Saving(), 0.0
    for report in reports:
        saving = one(report, fault_ns, huge_ns)
        total.low_s += saving.low_s
        total.high_s += saving.high_s
        total.huge += saving.huge * faults_avoided(report)[1]
        weight += faults_avoided(report)[1]
    total.huge = total.huge / weight if weight else 0.0
    return total
