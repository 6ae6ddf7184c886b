/* SPDX-License-Identifier: MIT */
/* stats.h: what a pool has done, by size of request, for those who ask for a report. zeropool.h's zp_stats is
 * the sum.
 *
 * Nothing here costs those who do not read: the counters are plain fields that their owners write anyway.
 */
#ifndef ZP_OBSERVE_STATS_H
#define ZP_OBSERVE_STATS_H

#include "pool/pool.h"

/* Requests served with blocks of 2^i to 2^(i+1)-1 pages, by the level that served them. It is the block that
 * counts: a request may get one that is up to a sixteenth larger. */
struct stats_size {
    uint64_t n_tcache, n_shard, n_dirty, n_mixed, n_fresh;
    uint64_t bytes_warm; /* handed out with their pages in place, by all levels */
    /* of the warm: had to be zero, so cleared by memset, or given back and taken anew */
    uint64_t bytes_cleared, bytes_emptied;
    uint64_t bytes_fresh; /* handed out untouched: page faults ahead */
};

void pool_stats_by_size(struct pool *pool, struct stats_size sizes[HEAP_SIZES]);

/* The blocks that the program holds, and the pieces that are idle; both 0 where they cannot be counted. Looks
 * at every descriptor. */
void pool_count_extents(const struct pool *pool, size_t *n_live, size_t *n_idle);

/* A report will be wanted: forked children begin to count anew, so that a sum over a process tree counts
 * nothing twice. */
extern bool stats_wanted __attribute__((visibility("hidden")));

/* In a forked child, before anybody may pass. */
void pool_stats_fork_child(struct pool *pool);

#endif
