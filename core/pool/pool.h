/* SPDX-License-Identifier: MIT */
/* pool.h: a pool: thread caches over shards over an extent heap, and the fast paths through them.
 *
 *   get   thread cache -> own shard -> other shards -> dirty extents -> (budget) -> clean extents -> frontier
 *   put   thread cache -> shard -> extent heap -> (decay, budget) -> kernel
 *
 * The fast paths are here, inline, so that the preload library can put them into malloc and free themselves.
 * Everything that happens rarely is in pool.c (slow paths), cache_keep.c, resize.c, zero.c, helper.c and fork.c.
 */
#ifndef ZP_POOL_POOL_H
#define ZP_POOL_POOL_H

#include "base/fatal.h"
#include "pool/heap.h"
#include "pool/shard.h"
#include "pool/tcache.h"

/* What is learned about one power of two of block sizes; see zero.h. Plain relaxed fields: a lost update is harmless. */
struct learned {
    _Atomic int8_t filled;        /* malloc'ed fresh blocks: > 0 they are filled, < 0 they are touched sparsely */
    _Atomic int8_t calloc_filled; /* the same for zeroed blocks */
    _Atomic uint16_t n_cleared;   /* zeroed blocks cleared by memset since the last look */
    _Atomic uint16_t n_seen;      /* blocks that came back since the answer is settled */
    _Atomic uint16_t n_fresh;     /* blocks of untouched memory handed out */
    _Atomic uint64_t last_fresh;  /* the last that was left as it was: page number in the space << LAST_FRESH_SHIFT | pages, or 0 */
    _Atomic uint16_t last_number; /* n_fresh at that time */
    _Atomic uint32_t ahead_pages; /* made resident beforehand since a block was last seen filled by the program */
};
#define LAST_FRESH_SHIFT 27
_Static_assert(CLASS_MAX_PAGES_LOG2 < LAST_FRESH_SHIFT, "a block fits");

/* What every program uses comes first and lies together: a small one touches two pages of this. */
struct pool {
    struct shard *shards;
    _Atomic uint64_t *class_shards; /* by class below shard_end_class: a bit for each shard that holds blocks of it */
    size_t shards_bytes;
    unsigned n_shards;            /* power of two */
    unsigned shard_end_class;     /* classes below this pass through the shards, */
    size_t shard_max_pages;       /* which are blocks of at most so many pages */
    unsigned tcache_depth;
    size_t tcache_limit_bytes;    /* the least a thread cache's stacks may hold (a block in each slot comes on top); see tcache_limit_of */
    size_t shard_limit_bytes;     /* the same for a shard */
    bool caches_grow;
    _Atomic uint32_t n_tcaches;   /* of threads that live */
    size_t min_size_bytes;
    size_t max_pages;             /* larger requests are refused */
    unsigned huge;                /* enum switch_value */
    bool ready;
    bool retired;                 /* a forked child found the heap locked: refuse everything, leak what is freed */
    bool watchful;                /* the program changes blocks without our being told: check every one */
    struct extent *last_noted;    /* recycle_note begins to look here */
    uint32_t n_checks;
    uint32_t last_reclaim_ms;
    bool limited;                 /* a bound on idle bytes was asked for: the slot for big blocks is not used */
    _Atomic uint64_t n_direct_gets; /* gets without a thread cache */
    struct learned learned[HEAP_SIZES];
    struct {
        uint64_t bytes_cleared, bytes_emptied; /* warm blocks made zero by memset, and by purging; a lost update is harmless */
    } zeroed[HEAP_SIZES];
    _Atomic uint32_t fault_ns, n_fault_looks; /* what a page fault costs, known once looked at ZERO_LOOKS times (zero.h); a lost update is harmless */
    struct heap heap;
    struct {
        _Atomic uint64_t n_tcache_hits, n_slow_gets, n_shard_hits, n_steals, n_class_hits[N_CLASSES];
        _Atomic uint32_t n_folds_begun, n_folds_ended; /* times a cache's counts came here; apart while they are on the way */
    } gone;                       /* counts of thread caches whose threads have exited */
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

/* Empty caches, shards and the heap of idle memory, down to keep_bytes. Returns the bytes given back to the kernel. */
size_t pool_trim(struct pool *pool, size_t keep_bytes);

/* Idle blocks in caches and shards to the heap; with only_idle, of thread caches what has not worked since somebody last looked, of shards
 * what has rested DECAY_GRACE_MS. Never the caller's own cache. */
void pool_drain_caches(struct pool *pool, bool only_idle);

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
#define EXTENT_SPECIAL                                                                                         \
    (EXTENT_ZERO | EXTENT_GREW | EXTENT_OBSERVE | EXTENT_CALLOC | EXTENT_CHECK | EXTENT_CHANGED | EXTENT_REPLACED | EXTENT_EARLY)

/* The live extent of an owned pointer; aborts with a clear message if there is none. */
static inline struct extent *pool_live_extent(struct pool *pool, const void *p)
{
    struct extent *extent = space_lookup(&pool->heap.space, p);
    if (unlikely(extent->address != p || extent_state(extent) != EXTENT_LIVE)) pool_bad_pointer(pool, p);
    return extent;
}

/* Blocks that never pass through a bin by class have exactly the pages asked for: rounding them up to their class would cost
 * 3 % of resident memory. */
static inline size_t pool_block_pages(const struct pool *pool, size_t n_pages, unsigned cls)
{
    return cls < TCACHE_BIG_CLASS || cls < pool->shard_end_class ? class_pages(cls) : n_pages;
}

/* Keeps the compiler from computing an address anew at each use. */
#define IN_A_REGISTER(pointer) __asm__("" : "+r"(pointer))

/* Take a block of a class below TCACHE_BIG_CLASS off its stack, or NULL. Entered. */
static inline struct extent *pool_pop(struct tcache *tcache, unsigned cls)
{
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
static inline struct extent *pool_take_slot(struct tcache_slot *slot, void **address)
{
    struct extent *extent = slot->extent;
    *address = slot->address;
    WRITE_RELAXED(slot->extent, NULL);
    ADD_OWN(slot->n_hits, 1);
    extent_set_state(extent, EXTENT_LIVE);
    return extent;
}

/* Take a block for n_pages, at least 1, from a thread cache, or NULL; *address is where it begins. */
static inline struct extent *pool_get_cached(struct tcache *tcache, size_t n_pages, void **address)
{
    struct extent *extent = NULL;
    if (likely(n_pages <= TCACHE_BIN_PAGES)) {
        unsigned cls = class_of_few_pages(n_pages);
        if (!tcache_enter(tcache)) return NULL;
        if (likely(tcache->small.extent && tcache->small.cls == cls)) {
            extent = pool_take_slot(&tcache->small, address);
        } else if ((extent = pool_pop(tcache, cls))) {
            *address = extent->address;
            extent_set_state(extent, EXTENT_LIVE);
        }
    } else {
        if (!tcache_enter(tcache)) return NULL;
        /* A block may serve a request that is up to 1/16 smaller; the difference wraps if it is too small. */
        extent = tcache->big.extent;
        bool fits = likely(extent) && likely(extent->n_pages - n_pages <= n_pages >> CLASS_STEPS_LOG2);
        extent = fits ? pool_take_slot(&tcache->big, address) : NULL;
    }
    tcache_leave(tcache);
    return extent;
}

/* Entered; extent, which begins at p, is of a size that the slot takes. False if it is occupied. */
static inline bool pool_put_slot(struct tcache *tcache, struct tcache_slot *slot, struct extent *extent, void *p)
{
    if (unlikely(slot->extent)) return false;
    if (unlikely(slot->cls != extent->cls)) {
        ADD_OWN(tcache->n_hits[slot->cls], slot->n_hits);
        WRITE_RELAXED(slot->n_hits, 0);
        WRITE_RELAXED(slot->cls, extent->cls);
    }
    WRITE_RELAXED(slot->extent, extent);
    slot->address = p;
    extent_set_state(extent, EXTENT_CACHED);
    return true;
}

/* Onto the stack of its class. False if that or the cache has no room. Entered. */
static inline bool pool_push(struct tcache *tcache, struct extent *extent)
{
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

/* Put a live block, which begins at p, into a thread cache; false if it has no room. The limit holds for each put, also into the slot, so that
 * who lives in the slot hears of a lower one. */
static inline bool pool_put_cached(struct tcache *tcache, struct extent *extent, void *p)
{
    bool kept = false;
    if (!tcache_enter(tcache)) return false;
    if (likely(!tcache_is_big(extent))) {
        if (likely(tcache->n_pages + extent->n_pages <= READ_RELAXED(tcache->limit_pages))) {
            /* The block returned last, whose memory is the warmest, goes into the slot and the one before it on its stack. */
            struct extent *before = tcache->small.extent;
            if (unlikely(before) && pool_push(tcache, before)) WRITE_RELAXED(tcache->small.extent, NULL);
            kept = pool_put_slot(tcache, &tcache->small, extent, p);
        }
    } else if (READ_RELAXED(tcache->trusting)) {
        kept = pool_put_slot(tcache, &tcache->big, extent, p);
    }
    tcache_leave(tcache);
    return kept;
}

/* The miss of pool_get: NULL if the pool refuses. */
noinline_cold void *pool_get_missed(struct pool *pool, size_t n_pages);

/* Get a block of n_pages, 1 <= n_pages; NULL if the pool refuses. tcache may be NULL. */
static inline void *pool_get(struct pool *pool, struct tcache *tcache, size_t n_pages)
{
    if (likely(tcache != NULL)) {
        void *address;
        if (likely(pool_get_cached(tcache, n_pages, &address))) return address;
    }
    return pool_get_missed(pool, n_pages);
}

/* Return a block; p must be owned by the pool's space. */
static inline void pool_put(struct pool *pool, struct tcache *tcache, void *p)
{
    struct extent *extent = pool_live_extent(pool, p);
    if (likely(tcache != NULL && !(extent->flags & EXTENT_SPECIAL)) && likely(pool_put_cached(tcache, extent, p)))
        return;
    pool_put_slow(pool, extent);
}

#endif
