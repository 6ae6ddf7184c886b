/* SPDX-License-Identifier: MIT */
/* pool.h: a pool: thread caches over shards over an extent heap, and the fast paths through them.
 *
 *   get   thread cache -> own shard -> other shards -> dirty extents -> (budget) -> clean extents -> frontier
 *   put   thread cache -> shard -> extent heap -> (decay, budget) -> kernel
 *
 * The fast paths are here, inline, so that the preload library can put them into malloc and free themselves.
 * Everything that happens rarely is in pool.c (slow paths), cache_keep.c, resize.c, zero.c, helper.c and
 * fork.c.
 */
#ifndef ZP_POOL_POOL_H
#define ZP_POOL_POOL_H

#include "sync/fatal.h"
#include "heap/heap.h"
#include "cache/shard.h"
#include "cache/tcache.h"
#include "learn/watch.h"

/* What is learned about one power of two of block sizes; see zero.h. Plain relaxed fields: a lost update is
 * harmless. */
struct learned {
    /* malloc'ed fresh blocks: > 0 they are filled, < 0 they are touched sparsely */
    _Atomic int8_t filled;
    _Atomic int8_t calloc_filled; /* the same for zeroed blocks */
    _Atomic uint16_t n_cleared;   /* zeroed blocks cleared by memset since the last look */
    _Atomic uint16_t n_fresh;     /* blocks of untouched memory handed out */
    /* the last that was left as it was: page number in the space << LAST_FRESH_SHIFT | pages, or 0 */
    _Atomic uint64_t last_fresh;
    _Atomic uint16_t last_number; /* n_fresh at that time */
    _Atomic int8_t tail_sparse;   /* blocks that have grown: > 0 what they grew by last is left untouched */
    uint8_t n_warm_filled;        /* warm blocks seen filled since one was not, at most WATCH_TRUST */
    /* so many filled blocks in a row, and one more, are wanted after a sparse one */
    uint8_t penalty;
    /* made resident beforehand since a block was last seen filled by the program */
    _Atomic uint32_t ahead_pages;
};
#define LAST_FRESH_SHIFT 27
_Static_assert(CLASS_MAX_PAGES_LOG2 < LAST_FRESH_SHIFT, "a block fits");

/* What every program uses comes first and lies together: a small one touches two pages of this. */
struct pool {
    struct shards shards;
    struct tcaches tcaches; /* its number is that of the pool's place in the helper's care */
    size_t min_size_bytes;
    size_t max_pages; /* larger requests are refused */
    unsigned huge;    /* enum switch_value */
    bool ready;
    /* the program changes blocks without our being told: check so many more; recycle.h */
    uint32_t watchful;
    size_t unwatched_limit_bytes; /* tcaches.limit_bytes before that */
    struct extent *last_noted;    /* recycle_note begins to look here */
    uint32_t n_checks;
    uint32_t last_reclaim_ms;
    uint32_t limits_read_ms; /* limits.c, as the next two; 0 if never */
    size_t ram_bytes, addresses_seen_bytes;
    /* when slots were last closed, 0 if never (account.h); a lost update is harmless */
    uint32_t slots_closed_ms;
    /* a bound on idle bytes was asked for: the slot for big blocks is not used */
    bool limited;
    _Atomic uint64_t n_direct_gets; /* gets without a thread cache */
    struct learned learned[HEAP_SIZES];
    struct {
        /* warm blocks made zero by memset, and by purging; a lost update is harmless */
        uint64_t bytes_cleared, bytes_emptied;
    } zeroed[HEAP_SIZES];
    uint32_t watch_ticked_ms;
    /* what a page fault costs, known once looked at ZERO_LOOKS times (zero.h); a lost update is harmless */
    _Atomic uint32_t fault_ns, n_fault_looks;
    struct heap heap;
    struct tcache_totals gone;
    struct watch watch; /* last: most programs touch none of its table */
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
};

/* Set up a zeroed struct pool. 0 or negative errno. */
int pool_init(struct pool *pool, const struct pool_setup *setup);
void pool_finish(struct pool *pool);

/* --- slow paths --- */

/* NULL if refused. */
struct extent *pool_get_slow(struct pool *pool, size_t n_pages, unsigned cls, size_t align_pages, bool zero);
void pool_put_slow(struct pool *pool, struct extent *extent);

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
size_t tcache_count_blocks(struct pool *pool);
size_t shard_count_blocks(struct pool *pool);
const char *pool_check(struct pool *pool);

/* --- fast paths --- */

_Static_assert(TCACHE_BIN_PAGES <= CLASS_TABLE_PAGES, "what has bins is in the table");

/* Flags that send a returned block through the slow path, where they are cleared. */
#define EXTENT_SPECIAL                                                                                       \
    (EXTENT_ZERO | EXTENT_GREW | EXTENT_OBSERVE | EXTENT_CALLOC | EXTENT_CHECK | EXTENT_CHANGED |            \
     EXTENT_REPLACED | EXTENT_EARLY)

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

/* Keeps the compiler from computing an address anew at each use. */
#define IN_A_REGISTER(pointer) __asm__("" : "+r"(pointer))

/* Take a block of a class below TCACHE_BIG_CLASS off its stack, or NULL. Entered. */
static inline struct extent *pool_pop(struct tcache *tcache, unsigned cls) {
    struct tcache_bin *bin = &tcache->bins[cls];
    IN_A_REGISTER(bin);
    struct extent *extent = bin->head;
    if (unlikely(!extent)) return NULL;
    bin->head = extent->next;
    ADD_OWN(bin->room, 1);
    SUB_OWN(tcache->n_pages, extent->n_pages);
    ADD_OWN(tcache->n_hits[cls], 1);
    return extent;
}

/* Entered, and there is a block in it. */
static inline struct extent *pool_take_slot(struct tcache_slot *slot, void **address) {
    struct extent *extent = slot->extent;
    *address = slot->address;
    WRITE_RELAXED(slot->extent, NULL);
    ADD_OWN(slot->n_hits, 1);
    extent_set_state(extent, EXTENT_LIVE);
    return extent;
}

/* Take a block for n_bytes, at least 1, from a thread cache, or NULL; *address is where it begins. */
static inline struct extent *pool_get_cached(struct tcache *tcache, size_t n_bytes, void **address) {
    struct extent *extent = NULL;
    if (!tcache_enter(tcache)) return NULL;
    if (likely(tcache_slot_fits(&tcache->small, n_bytes)) && likely(tcache->small.extent)) {
        extent = pool_take_slot(&tcache->small, address);
    } else if (likely(tcache_slot_fits(&tcache->big, n_bytes)) && likely(tcache->big.extent)) {
        extent = pool_take_slot(&tcache->big, address);
    } else if (n_bytes <= TCACHE_BIN_PAGES * PAGE_BYTES &&
               (extent = pool_pop(tcache, class_of_few_pages(((n_bytes - 1) >> PAGE_SHIFT) + 1)))) {
        *address = extent->address;
        extent_set_state(extent, EXTENT_LIVE);
    }
    tcache_leave(tcache);
    return extent;
}

/* A slot is about to hold a block of another size than the last one, good for requests of up to n_fit - 1
 * pages less. Entered. */
static inline void pool_fit_slot(struct tcache *tcache, struct tcache_slot *slot, const struct extent *extent,
                                 uint32_t n_fit) {
    if (slot->cls != extent->cls) {
        ADD_OWN(tcache->n_hits[slot->cls], slot->n_hits);
        WRITE_RELAXED(slot->n_hits, 0);
        WRITE_RELAXED(slot->cls, extent->cls);
    }
    uint32_t n_pages = slot->n_pages = extent->n_pages;
    slot->fit_from = ((size_t)(n_pages - n_fit) << PAGE_SHIFT) + 1;
    slot->fit_bytes = (size_t)n_fit << PAGE_SHIFT;
}

/* Entered; the slot is empty, and extent, which begins at p, is of the size that it held last. */
static inline void pool_fill_slot(struct tcache_slot *slot, struct extent *extent, void *p) {
    WRITE_RELAXED(slot->extent, extent);
    slot->address = p;
    extent_set_state(extent, EXTENT_CACHED);
}

/* Onto the stack of its class. False if that or the cache has no room. Entered. */
static inline bool pool_push(struct tcache *tcache, struct extent *extent) {
    struct tcache_bin *bin = &tcache->bins[extent->cls];
    IN_A_REGISTER(bin);
    uint32_t n_pages = tcache->n_pages + extent->n_pages, room = bin->room;
    if (!room || n_pages > READ_RELAXED(tcache->limit_pages)) return false;
    extent->next = bin->head;
    extent_set_state(extent, EXTENT_CACHED);
    bin->head = extent;
    WRITE_RELAXED(bin->room, room - 1);
    WRITE_RELAXED(tcache->n_pages, n_pages);
    return true;
}

/* Does the limit allow one more block in bins, or in the slot before them? It holds for each put, so that who
 * lives in the slot hears of a lower one. Entered. */
static inline bool pool_has_room(const struct tcache *tcache, uint32_t n_pages) {
    return tcache->n_pages + n_pages <= READ_OPERAND(tcache->limit_pages);
}

/* Put a live block, which begins at p, into the slot that held one of its size before; false if that is not
 * free or has no room. Entered. */
static inline bool pool_put_back(struct tcache *tcache, struct extent *extent, void *p) {
    uint32_t n_pages = extent->n_pages;
    if (likely(n_pages == tcache->small.n_pages) && likely(!tcache->small.extent) &&
        likely(pool_has_room(tcache, n_pages))) {
        pool_fill_slot(&tcache->small, extent, p);
        return true;
    }
    /* Likely, or the compiler lets this one jump back and forth. */
    if (likely(n_pages == tcache->big.n_pages) && likely(!tcache->big.extent) &&
        likely(READ_OPERAND(tcache->trusting))) {
        pool_fill_slot(&tcache->big, extent, p);
        return true;
    }
    return false;
}

/* Put a live block of a size that has a bin into the slot, whatever that holds or held; false if there is no
 * room. Entered. */
static inline bool pool_put_small(struct tcache *tcache, struct extent *extent, void *p) {
    _Static_assert(TCACHE_BIN_PAGES == 4 * CLASS_STEPS, "classes that have bins are one or two pages wide");
    if (!pool_has_room(tcache, extent->n_pages)) return false;
    /* The block returned last, whose memory is the warmest, goes into the slot and the one before it on its
     * stack. */
    struct extent *before = tcache->small.extent;
    if (before) {
        if (!pool_push(tcache, before)) return false;
        WRITE_RELAXED(tcache->small.extent, NULL);
    }
    if (tcache->small.n_pages != extent->n_pages)
        pool_fit_slot(tcache, &tcache->small, extent, 1 + (extent->n_pages > 2 * CLASS_STEPS));
    pool_fill_slot(&tcache->small, extent, p);
    return true;
}

/* The same for the others: good for requests that are up to 1/16 smaller, and have no bin. */
static inline bool pool_put_big(struct tcache *tcache, struct extent *extent, void *p) {
    if (!READ_RELAXED(tcache->trusting) || tcache->big.extent) return false;
    if (tcache->big.n_pages != extent->n_pages) {
        size_t n_fit = min_size(extent->n_pages / (CLASS_STEPS + 1) + 1, extent->n_pages - TCACHE_BIN_PAGES);
        pool_fit_slot(tcache, &tcache->big, extent, (uint32_t)n_fit);
    }
    pool_fill_slot(&tcache->big, extent, p);
    return true;
}

/* The miss of pool_get: NULL if the pool refuses. */
noinline_cold void *pool_get_missed(struct pool *pool, size_t n_pages);

/* Get a block of n_pages, 1 <= n_pages; NULL if the pool refuses. tcache may be NULL. */
static inline void *pool_get(struct pool *pool, struct tcache *tcache, size_t n_pages) {
    if (likely(tcache != NULL && n_pages <= CLASS_MAX_PAGES)) {
        void *address;
        if (likely(pool_get_cached(tcache, n_pages << PAGE_SHIFT, &address))) return address;
    }
    return pool_get_missed(pool, n_pages);
}

/* The rest of pool_put, with the cache entered, which it leaves. A tail call, so that a hit needs no stack
 * frame. */
void pool_put_entered(struct pool *pool, struct tcache *tcache, struct extent *extent);

/* Return a block; p must be owned by the pool's space. */
static inline void pool_put(struct pool *pool, struct tcache *tcache, void *p) {
    struct extent *extent = pool_live_extent(pool, p);
    if (unlikely(!tcache || (extent->flags & EXTENT_SPECIAL)) || !tcache_enter(tcache)) {
        pool_put_slow(pool, extent);
    } else if (likely(pool_put_back(tcache, extent, p)) ||
               (!tcache_is_big(extent) && likely(pool_put_small(tcache, extent, p)))) {
        tcache_leave(tcache);
    } else {
        pool_put_entered(pool, tcache, extent);
    }
}

#endif
