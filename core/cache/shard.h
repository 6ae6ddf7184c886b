/* SPDX-License-Identifier: MIT */
/* shard.h: the shared middle level: idle blocks by size class, one shard per CPU (to a power of two).
 *
 * Between a thread cache and the heap; blocks pass between threads here in batches without merging and
 * splitting. Each shard has one lock, its own limit and its own eviction policy. For every class a word in
 * `struct shards` has one bit per shard that holds blocks of it, so a miss finds another shard with that
 * class in O(1) before fresh pages are taken.
 *
 *   operation        lock            may fail
 *   put              own shard       never: without the lock the blocks go to the heap
 *   take             one shard       yes (lock, empty)
 *   evicted blocks go to the heap after the shard's lock is released
 *
 * Lists and counters by class lie behind the array of all shards, only for the classes that pass through
 * shards: those of a machine of few processors share one page with the shards.
 */
#ifndef ZP_CACHE_SHARD_H
#define ZP_CACHE_SHARD_H

#include "sync/lock.h"
#include "heap/heap.h"
#include "cache/policy.h"

#define SHARDS_MAX 64

struct shard {
    struct lock lock;
    size_t bytes, n_blocks;
    size_t limit_bytes;
    uint64_t n_evictions;
    /* bins and n_hits have so many entries; blocks of this class and above are not kept */
    unsigned end_class;
    struct extent **bins;
    uint64_t *n_hits; /* takes that found something */
    struct policy policy;
} __attribute__((aligned(CACHE_LINE)));

/* All shards of a pool. */
struct shards {
    struct heap *heap; /* takes what they do not keep */
    struct shard *shard;
    /* by class below end_class: a bit for each shard that holds blocks of it */
    _Atomic uint64_t *holders;
    size_t mapped_bytes;
    unsigned n;         /* power of two */
    unsigned end_class; /* classes below this pass through the shards, */
    size_t max_pages;   /* which are blocks of at most so many pages */
    size_t limit_bytes; /* the least that one may hold; see tcache_limit_of */
    bool grow;          /* with what the program uses */
};

struct shards_setup {
    unsigned n;       /* power of two */
    size_t max_pages; /* larger blocks do not pass through them; 0: none does */
    enum eviction eviction;
    size_t limit_bytes; /* of each */
    bool grow;
};

/* Map and set up the shards over a heap. 0 or negative errno. */
int shards_init(struct shards *shards, struct heap *heap, const struct shards_setup *setup);
void shards_finish(struct shards *shards);

/* What a shard may hold now: where they grow, all of them together 1/CACHE_SHARE of what the program uses;
 * see tcache_limit_of. */
#define CACHE_SHARE 80
size_t shard_limit_of(const struct shards *shards);

/* Put a list of CACHED extents (linked by next) into the calling CPU's shard; takes ownership of all. */
void shard_put_list(struct shards *shards, struct extent *list);

/* The same for a certain shard. */
void shard_put_at(struct shards *shards, struct shard *shard, struct extent *list);

/* Take up to n_wanted blocks of a class, from this CPU's shard, else from any other; the list is linked by
 * next. *stolen says that it came from another CPU's shard. NULL if there is none. */
struct extent *shard_take(struct shards *shards, unsigned cls, unsigned n_wanted, bool *stolen);

/* Return blocks idle since before the given time to the heap, all of them if everything is set. */
void shard_flush(struct shards *shards, struct shard *shard, uint32_t before_ms, bool everything);

#endif
