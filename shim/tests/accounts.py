#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""malloc_info is well-formed XML whose totals are the sums of its heaps; malloc_stats says what it says without the library, and the pool.

usage: accounts.py LIBRARY PROGRAM [ALLOCATOR]
"""
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree


def main(library, program, allocator=""):
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "info.xml")
        environment = {**os.environ, "LD_PRELOAD": ":".join(filter(None, (library, allocator)))}
        result = subprocess.run([program, path], env=environment, capture_output=True, text=True, timeout=60, check=False)
        if result.returncode:
            print(result.stderr)
            return 1
        root = ElementTree.parse(path).getroot()
    heaps = root.findall("heap")
    ours = [heap for heap in heaps if heap.get("nr") == "zeropool"]
    if len(ours) != 1:
        wrong.append(f"{len(ours)} heaps are the pool's")

    def number(element, query, attribute="size"):
        found = element.find(query)
        return int(found.get(attribute)) if found is not None else 0

    for query in ("total[@type='fast']", "total[@type='rest']", "system[@type='current']", "aspace[@type='total']"):
        parts = sum(number(heap, query) for heap in heaps)
        if number(root, query) != parts:
            wrong.append(f"{query}: {number(root, query)} is not the sum of the heaps, {parts}")
    live = number(ours[0], "total[@type='mmap']")
    count = number(ours[0], "total[@type='mmap']", "count")
    # A C++ runtime that the allocator has brought in holds a block, too.
    if not 300 << 10 <= live <= min(number(root, "total[@type='mmap']"), 500 << 10) or count not in (1, 2):
        wrong.append(f"{live} bytes live in {count} blocks")
    if number(root, "system[@type='max']") < number(root, "system[@type='current']"):
        wrong.append("the most is less than what is")
    stats = re.search(r"Pool \(zeropool\):\nsystem bytes     = +(\d+)\nin use bytes     = +(\d+)\n$", result.stderr)
    if not stats or not 300 << 10 <= int(stats.group(2)) < int(stats.group(1)):
        wrong.append(f"malloc_stats: {result.stderr[-300:]}")
    print("\n".join(wrong) or "good")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
