# SPDX-License-Identifier: MIT
"""zeropool bench --counters: what a build with -Dcounters=true counts in each row, for 1000 requests to the pool.

Figures that no noise touches, unlike times: locks taken, by others at the first look, last held by another processor; and who served
requests. Core's list is core/sync/counters.h.
"""
import json
import os
import tempfile

from . import bench_run, results, table, variants
from .errors import OK, ToolError, say

SCHEMA = "zeropool-bench-counters-1"
GETS = ("gets_tcache", "gets_shard", "gets_elsewhere", "gets_heap")
# Heading and the counters that it sums up.
COLUMNS = (("thread cache", ("gets_tcache",)), ("shard", ("gets_shard",)), ("other shards", ("gets_elsewhere",)),
           ("heap", ("gets_heap",)), ("looks elsewhere", ("looks_elsewhere",)), ("blocks moved", ("gets_moved",)),
           ("to shards", ("to_shard",)), ("to heap", ("to_heap",)),
           ("heap locks", ("heap_locked",)), ("contended", ("heap_contended",)), ("moved", ("heap_moved",)),
           ("shard locks", ("shard_locked",)), ("contended", ("shard_contended",)), ("moved", ("shard_moved",)),
           ("given up", ("heap_given_up", "shard_given_up", "other_given_up")))


def counted(row, micro, library, runner):
    """The counters of one run of a row's program."""
    with tempfile.TemporaryDirectory(prefix="zeropool-bench-") as folder:
        path = os.path.join(folder, "stats")
        env = variants.Variant("zeropool", (library,)).environment({**os.environ, **row.env, "ZEROPOOL_STATS": path})
        _, _, failure = runner.run_line([os.path.join(micro, row.argv[0]), *row.argv[1:]], env, row.timeout_s)
        if failure:
            raise ToolError(f"{row.name}: {failure}")
        try:
            with open(path, encoding="utf-8") as stream:
                lines = [json.loads(line) for line in stream]
        except (OSError, ValueError) as error:
            raise ToolError(f"{row.name}: no statistics of {library}") from error
    found = [line["counters"] for line in lines if isinstance(line.get("counters"), dict)]
    if not found:
        raise ToolError(f"{library} does not count; build one with 'meson setup build-counters -Dcounters=true'")
    # setsid, which starts the program (runner.py), has written a line, too.
    return {key: sum(each.get(key, 0) for each in found) for key in found[0]}


def cells(row, counters):
    gets = sum(counters.get(key, 0) for key in GETS)
    values = [1000 * sum(counters.get(key, 0) for key in keys) / gets if gets else None for _, keys in COLUMNS]
    return [row.name, table.count(gets), *("-" if v is None else f"{v:.{1 if v < 100 else 0}f}" for v in values)]


def run(rows, micro, library, json_path):
    """Prints the table; rows of programs that are not the bench's own are left out."""
    runner, found = bench_run.LineRunner(), {}
    rows = [row for row in rows if not row.argv[0].startswith("/")]
    try:
        for row in rows:
            found[row.name] = counted(row, micro, library, runner)
    finally:
        runner.end_all()
    print(table.align([cells(row, found[row.name]) for row in rows], ("row", "requests", *(h for h, _ in COLUMNS)), 1))
    print("\nFor 1000 requests to the pool, one run each. Contended: another thread held the lock at the first look. "
          "Moved: last held, or\nreturned, on another processor.")
    if json_path:
        results.store(json_path, results.to_json({"schema": SCHEMA, "library": library, "rows": found}))
        say(f"stored {json_path}")
    return OK
