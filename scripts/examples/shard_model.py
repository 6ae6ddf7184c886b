#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plays the pool's shard and steal rules on many CPUs: who serves a request, and how many reach the heap's one lock.

A model, not a measurement: it counts which level serves which share, from the rules of core/pool (thread cache of 1 MiB, less where
there are more threads than shards, and 16 blocks a class; shards of 256 KiB, at most 64; batches of 4), and estimates from HEAP_NS where
the heap lock saturates.
"""
import argparse
import random
from collections import defaultdict

PAGE = 4096
TCACHE_BYTES = 1 << 20
FULL_THREADS = 4  # so many, or one a shard, have TCACHE_BYTES each; more share as much, but have at least a quarter
TCACHE_DEPTH = 16
SHARD_BYTES = 256 << 10
SHARDS_MAX = 64
BATCH = 4
HEAP_NS = 150


class Model:
    """Thread caches over shards over a heap that always serves; blocks are (size class) numbers in pages."""

    def __init__(self, cpus):
        self.n_shards = min(SHARDS_MAX, 1 << (cpus - 1).bit_length())
        self.caches = [defaultdict(int) for _ in range(cpus)]
        self.cache_bytes = [0] * cpus
        self.cache_limit = max(TCACHE_BYTES // 4, min(TCACHE_BYTES, max(FULL_THREADS, self.n_shards) * TCACHE_BYTES // cpus))
        self.shards = [defaultdict(int) for _ in range(self.n_shards)]
        self.shard_bytes = [0] * self.n_shards
        self.served = defaultdict(int)
        self.returned_to_heap = 0

    def get(self, cpu, pages):
        """One request on one CPU."""
        if self.caches[cpu][pages]:
            self.caches[cpu][pages] -= 1
            self.cache_bytes[cpu] -= pages * PAGE
            self.served["thread cache"] += 1
            return
        own = cpu % self.n_shards
        for shard in [own] + [s for s in range(self.n_shards) if s != own and self.shards[s][pages]][:1]:
            n = min(BATCH if shard == own else 1, self.shards[shard][pages])
            if not n:
                continue
            self.shards[shard][pages] -= n
            self.shard_bytes[shard] -= n * pages * PAGE
            for _ in range(n - 1):
                self.put(cpu, pages)
            self.served["own shard" if shard == own else "other shard"] += 1
            return
        self.served["heap"] += 1

    def put(self, cpu, pages):
        """One block comes back on one CPU."""
        cache = self.caches[cpu]
        if cache[pages] >= TCACHE_DEPTH:
            self.to_shard(cpu, {pages: TCACHE_DEPTH // 2})
        elif self.cache_bytes[cpu] + pages * PAGE > self.cache_limit:
            self.to_shard(cpu, {held: n // 2 for held, n in cache.items()})
            if self.cache_bytes[cpu] + pages * PAGE > self.cache_limit:
                self.to_shard(cpu, dict(cache))
        cache[pages] += 1
        self.cache_bytes[cpu] += pages * PAGE

    def to_shard(self, cpu, blocks):
        """Move blocks from a thread cache to the CPU's shard; what exceeds its limit goes to the heap."""
        shard = cpu % self.n_shards
        for pages, n in blocks.items():
            self.caches[cpu][pages] -= n
            self.cache_bytes[cpu] -= n * pages * PAGE
            for _ in range(n):
                if self.shard_bytes[shard] + pages * PAGE > SHARD_BYTES:
                    self.returned_to_heap += 1
                else:
                    self.shards[shard][pages] += 1
                    self.shard_bytes[shard] += pages * PAGE


def play(cpus, pattern, operations, seed):
    """Run one pattern; the share of requests served by each level and the heap operations per request."""
    rng = random.Random(seed)
    model = Model(cpus)
    live = [[] for _ in range(cpus)]
    for _ in range(operations):
        cpu = rng.randrange(cpus)
        pages = rng.randint(8, 16)
        model.get(cpu, pages)
        live[cpu].append(pages)
        if len(live[cpu]) > 20:
            block = live[cpu].pop(rng.randrange(len(live[cpu])))
            model.put((cpu + cpus // 2) % cpus if pattern == "handover" else cpu, block)
    heap_operations = (model.served["heap"] + model.returned_to_heap) / operations
    return {level: n / operations for level, n in model.served.items()}, heap_operations


def main():
    """Print one line per number of CPUs and pattern."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpus", default="2,8,32,128", help="comma-separated numbers of CPUs (default 2,8,32,128)")
    parser.add_argument("--operations", type=int, default=60000, help="requests played per line (default 60000)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{'CPUs':>5} {'pattern':<9} {'cache':>7} {'own':>7} {'other':>7} {'heap':>7}  heap lock saturates at")
    for cpus in (int(n) for n in options.cpus.split(",")):
        for pattern in ("own", "handover"):
            share, heap = play(cpus, pattern, options.operations, options.seed)
            columns = " ".join(f"{share.get(level, 0):7.1%}" for level in
                               ("thread cache", "own shard", "other shard", "heap"))
            limit = f"{1e3 / (heap * HEAP_NS):.1f} M requests/s" if heap else "never"
            print(f"{cpus:>5} {pattern:<9} {columns}  {limit}")


if __name__ == "__main__":
    main()
