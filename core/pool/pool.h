/* SPDX-License-Identifier: MIT */
/* pool.h: a pool: thread caches over shards over an extent heap, and the fast paths through them.
 *
 *   get   thread cache -> own shard -> other shards -> dirty extents -> (budget) -> clean extents -> frontier
 *   put   thread cache -> shard -> extent heap -> (decay, budget) -> kernel
 *
 * The fast paths are inline, here and in cache/tcache_fast.h, so that the preload library can put them into
 * malloc and free themselves. What happens rarely is in pool.c (get, and what is done from time to time),
 * put.c, resize.c and zero.c.
 */
#ifndef ZP_POOL_POOL_H
#define ZP_POOL_POOL_H

#include "sync/fatal.h"
#include "heap/heap.h"
#include "cache/shard.h"
#include "cache/tcache_fast.h"
#include "learn/fill.h"
#include "learn/recycle.h"
#include "learn/watch.h"

/* What is learned from zeroed blocks about those who ask for them, and which block was cleared for whom;
 * zero.h. */
#define ZERO_CALLERS 128
#define ZERO_CLEARED 64
#define ZERO_LEFT_EMPTY UINT32_MAX /* instead of a caller: it was purged and hardly touched */
struct zero_callers {
    struct habit habits[ZERO_CALLERS];
    struct {
        _Atomic uint64_t block; /* as left */
        uint32_t caller;
    } cleared[ZERO_CLEARED];
};

/* What every program uses comes first and lies together: a small one touches two pages of this. */
struct pool {
    struct shards shards;
    struct tcaches tcaches; /* its number is that of the pool's place in the helper's care */
    size_t min_size_bytes;
    size_t max_pages; /* larger requests are refused */
    unsigned huge;    /* enum switch_value */
    bool ready;
    struct recycle recycle;
    uint32_t last_reclaim_ms;
    uint32_t limits_read_ms; /* limits.c, as the next two; 0 if never */
    size_t ram_bytes, addresses_seen_bytes;
    size_t *zero_at_limit; /* as in the setup */
    /* when slots were last closed, 0 if never (account.h); a lost update is harmless */
    uint32_t slots_closed_ms;
    /* a bound on idle bytes was asked for: the slot for big blocks is not used */
    bool limited;
    _Atomic uint64_t n_direct_gets; /* gets without a thread cache */
    struct learned_sizes learned;
    struct {
        /* warm blocks made zero by memset, and by purging; a lost update is harmless */
        uint64_t bytes_cleared, bytes_emptied;
    } zeroed[HEAP_SIZES];
    uint32_t watch_ticked_ms;
    /* what a page fault costs, known once looked at ZERO_LOOKS times (zero.h); a lost update is harmless */
    _Atomic uint32_t fault_ns, n_fault_looks;
    struct heap heap;
    struct tcache_totals gone;
    /* last: most programs touch none of these tables */
    struct zero_callers callers;
    struct watch watch;
};

/* How a pool is set up. */
struct pool_setup {
    size_t span_max;
    bool reserved;
    unsigned n_shards, tcache_depth;
    size_t tcache_limit_bytes, shard_limit_bytes, shard_max_block_bytes;
    bool caches_grow;
    size_t retain_bytes, retain_max_bytes, min_size_bytes, max_block_bytes;
    bool limited;
    unsigned decay_ms;
    enum eviction eviction;
    bool pinned;
    unsigned huge;
    size_t *zero_at_limit; /* set to 0 when a limit has been seen (limits_seen); may be NULL */
};

/* Set up a zeroed struct pool. 0 or negative errno. */
int pool_init(struct pool *pool, const struct pool_setup *setup);
void pool_finish(struct pool *pool);

/* --- slow paths --- */

/* NULL if refused. */
struct extent *pool_get_slow(struct pool *pool, size_t n_pages, unsigned cls, size_t align_pages, bool zero);
void pool_put_slow(struct pool *pool, struct extent *extent);

/* May thread caches take big blocks back without a check? Not while slots are closed (account.h), nor where
 * others could not empty them. */
bool pool_slots_unchecked(const struct pool *pool);

/* Says what is wrong with a pointer that is not a live block, and aborts. */
_Noreturn noinline_cold void pool_bad_pointer(struct pool *pool, const void *p);

/* What has to be done from time to time: purging and marking by age (decay.h), and looks at watched blocks
 * (watch.h). Inside a slow path, or by the background thread; no lock held; makes system calls. Returns the
 * milliseconds until it wants to be called again, 0 if nothing is left to do. */
unsigned pool_tick(struct pool *pool, uint32_t now_ms);
/* Is that wanted now? Plain reads. */
bool pool_tick_due(const struct pool *pool, uint32_t now_ms);

/* Empty caches, shards and the heap of idle memory, down to keep_bytes. Returns the bytes given back to the
 * kernel. */
size_t pool_trim(struct pool *pool, size_t keep_bytes);

/* Idle blocks in caches and shards to the heap; with only_idle, of thread caches what has not worked since
 * somebody last looked, of shards what has rested DECAY_GRACE_MS. Never the caller's own cache. */
void pool_drain_caches(struct pool *pool, bool only_idle);

/* All that lies in caches, the caller's own included, and shards to the heap. Inside a slow path. */
void pool_flush_caches(struct pool *pool);

/* Put up to count touched idle blocks into the shards; returns how many. */
size_t pool_preallocate(struct pool *pool, size_t n_pages, size_t count);

/* A block aligned to alignment, a power of two; NULL if refused. */
void *pool_get_aligned(struct pool *pool, struct tcache *tcache, size_t alignment, size_t n_pages);

/* Statistics and checks (stats.c). */
struct zp_stats;
void pool_stats(struct pool *pool, struct zp_stats *stats);
const char *pool_check(struct pool *pool);

/* --- fast paths --- */

/* Flags that send a returned block through the slow path, where they are cleared. */
#define EXTENT_SPECIAL                                                                                       \
    (EXTENT_ZERO | EXTENT_GREW | EXTENT_OBSERVE | EXTENT_CALLOC | EXTENT_CHECK | EXTENT_CHANGED |            \
     EXTENT_REPLACED | EXTENT_EARLY | EXTENT_POPULATED)

/* The live extent of an owned pointer; aborts with a clear message if there is none. */
static inline struct extent *pool_live_extent(struct pool *pool, const void *p) {
    struct extent *extent = space_lookup(&pool->heap.space, p);
    if (unlikely(extent->address != p || extent_state(extent) != EXTENT_LIVE)) pool_bad_pointer(pool, p);
    return extent;
}

/* Blocks that never pass through a bin by class have exactly the pages asked for: rounding them up to their
 * class would cost 3 % of resident memory. */
static inline size_t pool_block_pages(const struct pool *pool, size_t n_pages, unsigned cls) {
    return cls < TCACHE_BIG_CLASS || cls < pool->shards.end_class ? class_pages(cls) : n_pages;
}

/* The miss of pool_get: NULL if the pool refuses. */
noinline_cold void *pool_get_missed(struct pool *pool, size_t n_pages);

/* Get a block of n_pages, 1 <= n_pages; NULL if the pool refuses. tcache may be NULL. */
static inline void *pool_get(struct pool *pool, struct tcache *tcache, size_t n_pages) {
    if (likely(tcache != NULL && n_pages <= CLASS_MAX_PAGES)) {
        void *address;
        if (likely(tcache_take_block(tcache, n_pages << PAGE_SHIFT, &address))) return address;
    }
    return pool_get_missed(pool, n_pages);
}

/* The rest of pool_put, with the cache entered, which it leaves. A tail call, so that a hit needs no stack
 * frame. */
void pool_put_entered(struct pool *pool, struct tcache *tcache, struct extent *extent);

/* Return a block; p must be owned by the pool's space. */
static inline void pool_put(struct pool *pool, struct tcache *tcache, void *p) {
    struct extent *extent = pool_live_extent(pool, p);
    COUNT_PUT(extent);
    if (unlikely(!tcache || (extent->flags & EXTENT_SPECIAL)) || !tcache_enter(tcache)) {
        pool_put_slow(pool, extent);
    } else if (likely(tcache_put_back(tcache, extent, p)) ||
               (!tcache_is_big(extent) && likely(tcache_put_small(tcache, extent, p)))) {
        tcache_leave(tcache);
        COUNT(puts_tcache);
    } else {
        pool_put_entered(pool, tcache, extent);
    }
}

#endif
