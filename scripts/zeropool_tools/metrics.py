# SPDX-License-Identifier: MIT
"""Statistics of running processes as OpenMetrics text, for Prometheus and its kin. docs/metrics.md says what each metric means.

Every value is one that `zeropool stat` prints of the same page. What the pool counts is a counter; bounds that are worked
out of several counters are gauges, as a sum read while others count may step back, which a reader of counters takes for a
restart. What has no value has no line.
"""
from dataclasses import dataclass
from typing import Callable, Optional

from . import saved
from .stats_report import faults_avoided, hit_rate, number, sizes_of

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
LEVELS = {"tcache": "thread_cache", "shard": "shard", "dirty": "heap_warm", "mixed": "heap_mixed", "fresh": "fresh"}


@dataclass(frozen=True)
class Metric:
    name: str  # without the suffix that a counter's lines have
    kind: str  # counter or gauge: what the older text format knows, too, which node_exporter reads
    help: str
    values: Callable  # of a live.Page and the cost of a fault in ns (or None): [(labels, value)]
    unit: Optional[str] = None


def field(key):
    return lambda page, _: [({}, number(page.report, key))]


def by_size(label, keys):
    """A sample for each size and each of `keys`, whose label is what `keys` says."""
    return lambda page, _: [({"size_from": str(row["from"]), label: value}, number(row, key))
                            for row in sizes_of(page.report) for key, value in keys.items()]


def warm_ratio(page, _):
    rate = hit_rate(page.report)
    return [] if rate is None else [({}, rate)]


def avoided(bound):
    return lambda page, _: [({}, faults_avoided(page.report)[bound])]


def time_saved(bound):
    def values(page, fault_ns):
        if fault_ns is None:
            return []
        saving = saved.of([page.report], fault_ns)
        return [({}, round((saving.low_s, saving.high_s)[bound], 6))]

    return values


METRICS = (
    Metric("zeropool_page_age_seconds", "gauge", "Time since the process wrote what is shown here.",
           lambda page, _: [({}, round(page.age_s, 3))], "seconds"),
    Metric("zeropool_requests", "counter", "Requests that the pool was asked to serve.", field("gets")),
    Metric("zeropool_served_requests", "counter", "Requests served, by size (from this to twice as many bytes) and by where the block came from.",
           by_size("level", LEVELS)),
    Metric("zeropool_served_bytes", "counter", "Bytes handed out, by size of the request: with their pages in place (warm), or untouched (fresh).",
           by_size("memory", {"bytes_warm": "warm", "bytes_fresh": "fresh"}), "bytes"),
    Metric("zeropool_zeroed_bytes", "counter", "Warm bytes that had to be zero: cleared by memset, or given back to the kernel instead.",
           by_size("way", {"bytes_cleared": "memset", "bytes_emptied": "given_back"}), "bytes"),
    Metric("zeropool_warm_ratio", "gauge", "Share of requests served without untouched memory, since the start.", warm_ratio, "ratio"),
    Metric("zeropool_faults_avoided_lower_bound", "gauge", "Page faults that did not happen, at least.", avoided(0)),
    Metric("zeropool_faults_avoided_upper_bound", "gauge", "Page faults that did not happen, at most.", avoided(1)),
    Metric("zeropool_saved_lower_bound_seconds", "gauge", "Time saved against glibc, at least. Only with --fault-ns.", time_saved(0), "seconds"),
    Metric("zeropool_saved_upper_bound_seconds", "gauge", "Time saved against glibc, at most. Only with --fault-ns.", time_saved(1), "seconds"),
    Metric("zeropool_live_bytes", "gauge", "In blocks that the program holds.", field("bytes_live"), "bytes"),
    Metric("zeropool_live_peak_bytes", "gauge", "The largest sum of live and cached bytes so far.", field("bytes_live_peak"), "bytes"),
    Metric("zeropool_cached_bytes", "gauge", "In thread caches and shards.", field("bytes_cached"), "bytes"),
    Metric("zeropool_idle_bytes", "gauge", "Idle and warm in the heap.", field("bytes_dirty"), "bytes"),
    Metric("zeropool_muzzy_bytes", "gauge", "Of the idle bytes, those that the kernel may take.", field("bytes_muzzy"), "bytes"),
    Metric("zeropool_clean_bytes", "gauge", "Mapped, and without pages.", field("bytes_clean"), "bytes"),
    Metric("zeropool_hole_bytes", "gauge", "Addresses that are not mapped.", field("bytes_holes"), "bytes"),
    Metric("zeropool_mapped_bytes", "gauge", "Mapped by the pool.", field("bytes_mapped"), "bytes"),
    Metric("zeropool_threads", "gauge", "Threads with a cache.", field("n_threads")),
    Metric("zeropool_purges", "counter", "Calls that gave idle memory back to the kernel.", field("purges")),
    Metric("zeropool_purged_bytes", "counter", "Bytes given back to the kernel.", field("bytes_purged"), "bytes"),
    Metric("zeropool_steals", "counter", "Blocks taken from another shard.", field("steals")),
    Metric("zeropool_evictions", "counter", "Idle blocks moved from a shard to the heap.", field("evictions")),
    Metric("zeropool_refused_requests", "counter", "Requests refused: too large, out of address space, or over the limit.", field("refused")),
    Metric("zeropool_reallocs_in_place", "counter", "Calls of realloc that grew the block where it is.", field("grown_in_place")),
    Metric("zeropool_reallocs_moved", "counter", "Calls of realloc that moved pages instead of copying.", field("moved_by_tables")),
)
PROCESSES = Metric("zeropool_processes", "gauge", "Running processes that are shown.", lambda *_: [])


def sample_name(metric):
    return metric.name + ("_total" if metric.kind == "counter" else "")


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def head(metric):
    unit = [f"# UNIT {metric.name} {metric.unit}"] if metric.unit else []
    return [f"# TYPE {metric.name} {metric.kind}", *unit, f"# HELP {metric.name} {metric.help}"]


def text(pages, fault_ns=None):
    """The exposition of live pages. The lines of a metric stand together, as the format wants."""
    lines = [*head(PROCESSES), f"{PROCESSES.name} {len(pages)}"]
    pages = sorted(pages, key=lambda page: page.pid)
    for metric in METRICS:
        found = [(page, labels, value) for page in pages for labels, value in metric.values(page, fault_ns)]
        lines += head(metric) if found else []
        for page, labels, value in found:
            named = {"pid": str(page.pid), "command": str(page.report.get("command", "?")), **labels}
            lines.append(f"{sample_name(metric)}{{{','.join(f'{key}={quoted(each)}' for key, each in named.items())}}} {value!r}")
    return "\n".join([*lines, "# EOF"]) + "\n"
