/* SPDX-License-Identifier: MIT */
/* zero.c: clearing, purging and learning. See zero.h. */
#include "pool/zero.h"

#include "sync/options.h"
#include "os/os.h"
#include "heap/heap_fresh.h"

#include <string.h>

/* Of smaller fresh blocks only some are looked at: the call would show beside their faults. */
#define OBSERVE_MIN_BYTES (2 * MIB)
#define OBSERVE_MIN_ZEROED_BYTES (256 * KIB)
#define PROBES 16
/* Of sixteen probes: from here on a block counts as filled enough for memset, and as filled whole. */
#define DENSE_PROBES 14
#define FULL_PROBES 15
/* A class that is cleared by memset is looked at again after this many blocks: memset leaves nothing to
 * see. */
#define RECHECK_EVERY 64
/* Once the answer is settled (one sparse block; of zeroed blocks also VOTE_MAX dense ones), only every
 * so-manieth is looked at. */
#define PROBE_EVERY 16
/* Of the fresh blocks that might be made resident beforehand, so many-th is not, to see whether they still
 * are filled. */
#define FRESH_PROBE_EVERY 8
/* Filled blocks in a row before others are made resident beforehand. */
#define AHEAD_VOTES 2
/* Such a block counts as not filled if it is not when so many further ones have been handed out. */
#define LOOK_BACK_BLOCKS 2
/* And blocks of which less was untouched show nothing: most of their pages were there before. */
#define FRESH_SHARE 4

static struct learned *learned_of(struct pool *pool, size_t n_pages) {
    return fill_of(&pool->learned, n_pages);
}

static void vote(_Atomic int8_t *counter, bool dense) {
    int8_t value = atomic_load_explicit(counter, memory_order_relaxed);
    value = dense ? (int8_t)(value < VOTE_MAX ? value + 1 : VOTE_MAX) : VOTE_SPARSE;
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

/* Touched sparsely: advice of an earlier owner must not fill it with huge pages. */
static int empty(struct extent *extent) {
    if (!(extent->flags & EXTENT_HUGE)) return os_purge(extent->address, extent_bytes(extent));
    int error = os_remap_fresh(extent->address, extent_bytes(extent));
    if (!error) extent->flags &= (uint16_t)~EXTENT_HUGE;
    return error;
}

/* Touch the first page of a block that has just been purged, and note the least that took: others may have
 * had the processor meanwhile. Not where a filter may forbid what the clock needs. */
static void measure_fault(struct pool *pool, const struct extent *extent) {
    uint32_t n_looks = atomic_load_explicit(&pool->n_fault_looks, memory_order_relaxed);
    if (likely(n_looks == ZERO_LOOKS) || os_restricted) return;
    uint64_t begin_ns = os_clock_ns();
    *(volatile char *)extent->address = 0;
    uint32_t ns = (uint32_t)min_size(os_clock_ns() - begin_ns, UINT32_MAX);
    if (n_looks == 0 || ns < atomic_load_explicit(&pool->fault_ns, memory_order_relaxed))
        atomic_store_explicit(&pool->fault_ns, ns, memory_order_relaxed);
    atomic_store_explicit(&pool->n_fault_looks, n_looks + 1, memory_order_relaxed);
}

size_t zero_memset_bytes(const struct pool *pool) {
    if (atomic_load_explicit(&pool->n_fault_looks, memory_order_relaxed) < ZERO_LOOKS)
        return ZERO_MEMSET_BYTES;
    size_t worth =
        (size_t)atomic_load_explicit(&pool->fault_ns, memory_order_relaxed) * ZERO_MEMSET_BYTES_PER_NS;
    return max_size(ZERO_MEMSET_BYTES, min_size(worth, ZERO_MEMSET_MAX_BYTES));
}

void zero_clear(struct pool *pool, struct extent *extent, size_t n_bytes) {
    if (extent->flags & EXTENT_ZERO) return;
    if (n_bytes >= zero_memset_bytes(pool) && !pool->heap.pinned) {
        struct learned *learned = learned_of(pool, extent->n_pages);
        bool dense = atomic_load_explicit(&learned->calloc_filled, memory_order_relaxed) > 0;
        if (dense) {
            uint16_t n = atomic_load_explicit(&learned->n_cleared, memory_order_relaxed);
            atomic_store_explicit(&learned->n_cleared, (uint16_t)(n + 1), memory_order_relaxed);
            dense = (n + 1) % RECHECK_EVERY != 0;
        }
        if (!dense && empty(extent) == 0) {
            extent->flags |= EXTENT_OBSERVE | EXTENT_CALLOC;
            measure_fault(pool, extent);
            ADD_RELAXED(pool->zeroed[log2_floor(extent->n_pages)].bytes_emptied, n_bytes);
            return;
        }
    }
    memset(extent->address, 0, n_bytes);
    ADD_RELAXED(pool->zeroed[log2_floor(extent->n_pages)].bytes_cleared, n_bytes);
}

void *zero_get(struct pool *pool, struct tcache *tcache, size_t n_pages) {
    if (n_pages > pool->max_pages) return NULL;
    unsigned cls = class_of_pages(n_pages);
    void *address;
    struct extent *extent = tcache ? tcache_take_block(tcache, n_pages << PAGE_SHIFT, &address) : NULL;
    if (!extent) extent = pool_get_slow(pool, n_pages, cls, 1, true);
    if (!extent) return NULL;
    /* programs rely on zeros as far as malloc_usable_size says */
    zero_clear(pool, extent, extent_active_bytes(extent));
    extent->flags &= (uint16_t)~EXTENT_ZERO;
    return extent->address;
}

bool zero_wants_huge(struct pool *pool, size_t n_pages, bool zeroed) {
    if (pool->huge == SWITCH_OFF || n_pages < HUGE_MIN_BYTES >> PAGE_SHIFT) return false;
    struct learned *learned = learned_of(pool, n_pages);
    _Atomic int8_t *counter = zeroed ? &learned->calloc_filled : &learned->filled;
    int8_t value = atomic_load_explicit(counter, memory_order_relaxed);
    return pool->huge == SWITCH_ON && !zeroed ? true : value > 0;
}

bool zero_is_proven(const struct pool *pool, size_t n_pages, bool zeroed) {
    if (os_restricted || n_pages < ZERO_UNPROVEN_BYTES >> PAGE_SHIFT) return true;
    const struct learned *learned = &pool->learned.size[log2_floor(n_pages)];
    return atomic_load_explicit(zeroed ? &learned->calloc_filled : &learned->filled, memory_order_relaxed) >
           0;
}

bool zero_expects_filled(struct pool *pool, size_t n_pages, bool zeroed) {
    /* Of zeroed blocks half a block counts as filled (DENSE_PROBES), which is not enough here. The largest
     * blocks get huge pages as they are touched (zero_wants_huge). */
    if (zeroed || pool->huge == SWITCH_OFF || pool->heap.pinned || n_pages >= HUGE_MIN_BYTES >> PAGE_SHIFT)
        return false;
    if (READ_RELAXED(pool->heap.several_nodes) && n_pages > FRESH_NODE_MAX_BYTES >> PAGE_SHIFT) return false;
    struct learned *learned = learned_of(pool, n_pages);
    if (atomic_load_explicit(&learned->filled, memory_order_relaxed) < AHEAD_VOTES) return false;
    size_t ahead = (size_t)atomic_load_explicit(&learned->ahead_pages, memory_order_relaxed) << PAGE_SHIFT;
    if (ahead > max_size(AHEAD_MIN_BYTES, READ_RELAXED(pool->heap.active_bytes) >> AHEAD_SHARE_LOG2))
        return false;
    return !watch_one_in(&pool->watch, FRESH_PROBE_EVERY);
}

/* 1 if all pages of a block are resident, 0 if not, negative if that cannot be told. A page or two at the end
 * of a class are never asked for. */
static int filled_whole(void *address, size_t n_pages) {
    bool few = n_pages <= OS_RESIDENT_MAX;
    int n = few ? os_resident_pages(address, n_pages)
                : os_resident_probes(address, n_pages << PAGE_SHIFT, PROBES);
    if (n < 0) return n;
    return n >= (few ? (int)(n_pages - n_pages / 16) : FULL_PROBES);
}

/* Was the block that was last left as it was filled meanwhile? The one handed out before this may not have
 * been written yet, so it speaks for filling or says nothing; an older one speaks against it, too. Reads
 * without a lock: at worst one wrong vote. */
static void look_back(struct pool *pool, struct learned *learned, uint16_t n_fresh) {
    uint64_t last = atomic_load_explicit(&learned->last_fresh, memory_order_relaxed);
    uint16_t age = (uint16_t)(n_fresh - atomic_load_explicit(&learned->last_number, memory_order_relaxed));
    if (last == 0 || os_restricted) return;
    void *address = (void *)(pool->heap.space.base + ((size_t)(last >> LAST_FRESH_SHIFT) << PAGE_SHIFT));
    size_t n_pages = last & (((uint64_t)1 << LAST_FRESH_SHIFT) - 1);
    struct extent *extent = space_lookup(&pool->heap.space, address);
    if (READ_RELAXED(extent->address) != address || READ_RELAXED(extent->n_pages) != n_pages ||
        extent_state(extent) != EXTENT_LIVE) {
        /* freed; zero_observe has seen it */
        atomic_store_explicit(&learned->last_fresh, 0, memory_order_relaxed);
        return;
    }
    int filled = filled_whole(address, n_pages);
    bool settled = age > LOOK_BACK_BLOCKS;
    if (filled > 0) {
        fill_learn(learned, true);
        heap_prove_seen(&pool->heap, extent, address, n_pages);
    } else if (filled == 0 && settled) {
        fill_learn(learned, false);
    }
    if (filled || settled) atomic_store_explicit(&learned->last_fresh, 0, memory_order_relaxed);
}

/* Note a block to be looked at by look_back; one that is waiting for its look is not replaced by a younger
 * one. */
static void note_fresh(struct pool *pool, struct learned *learned, const struct extent *extent,
                       uint16_t n_fresh) {
    bool trusted = atomic_load_explicit(&learned->filled, memory_order_relaxed) > 0;
    if (trusted && atomic_load_explicit(&learned->last_fresh, memory_order_relaxed)) return;
    uint64_t page = space_offset(&pool->heap.space, extent->address) >> PAGE_SHIFT;
    atomic_store_explicit(&learned->last_fresh, page << LAST_FRESH_SHIFT | extent->n_pages,
                          memory_order_relaxed);
    atomic_store_explicit(&learned->last_number, n_fresh, memory_order_relaxed);
}

void zero_mark_fresh(struct pool *pool, struct extent *extent, size_t fresh_bytes, bool zeroed) {
    struct learned *learned = learned_of(pool, extent->n_pages);
    bool whole = extent->flags & EXTENT_ZERO;
    bool shows = fresh_bytes >= extent_bytes(extent) / FRESH_SHARE &&
                 !(extent->flags & (EXTENT_HUGE | EXTENT_POPULATED));
    bool large = extent_bytes(extent) >= (zeroed ? OBSERVE_MIN_ZEROED_BYTES : OBSERVE_MIN_BYTES);
    if (extent->flags & EXTENT_POPULATED) {
        uint32_t ahead = atomic_load_explicit(&learned->ahead_pages, memory_order_relaxed);
        atomic_store_explicit(&learned->ahead_pages, ahead + (uint32_t)(fresh_bytes >> PAGE_SHIFT),
                              memory_order_relaxed);
        extent->flags &= (uint16_t)~EXTENT_POPULATED;
    }
    if (!zeroed) {
        uint16_t n_fresh = (uint16_t)(atomic_load_explicit(&learned->n_fresh, memory_order_relaxed) + 1);
        atomic_store_explicit(&learned->n_fresh, n_fresh, memory_order_relaxed);
        look_back(pool, learned, n_fresh);
        if (shows) note_fresh(pool, learned, extent, n_fresh);
        large = large || watch_one_in(&pool->watch, FRESH_PROBE_EVERY);
    }
    if (shows && whole && large) extent->flags |= EXTENT_OBSERVE | (zeroed ? EXTENT_CALLOC : 0);
}

void zero_observe(struct pool *pool, struct extent *extent) {
    if (os_restricted) return;
    struct learned *learned = learned_of(pool, extent->n_pages);
    bool zeroed = extent->flags & EXTENT_CALLOC;
    _Atomic int8_t *counter = zeroed ? &learned->calloc_filled : &learned->filled;
    int8_t value = atomic_load_explicit(counter, memory_order_relaxed);
    /* Where malloc'ed blocks are filled, most are made resident beforehand and do not come here, so none is
     * passed over. */
    bool is_settled = zeroed ? value == VOTE_SPARSE || value == VOTE_MAX : value < 0;
    if (is_settled && !watch_one_in(&pool->watch, PROBE_EVERY)) return;
    int n = zeroed ? os_resident_probes(extent->address, extent_bytes(extent), PROBES)
                   : filled_whole(extent->address, extent->n_pages);
    if (n < 0) return;
    bool filled = n >= (zeroed ? DENSE_PROBES : 1);
    if (zeroed)
        vote(counter, filled);
    else
        fill_learn(learned, filled);
}

void zero_observe_tail(struct pool *pool, const struct extent *extent) {
    size_t n_pages = min_size(READ_RELAXED(extent->unproven_pages), extent->used_pages);
    if (os_restricted || n_pages < ZERO_UNPROVEN_BYTES >> PAGE_SHIFT) return;
    char *tail = (char *)extent->address + ((size_t)(extent->used_pages - n_pages) << PAGE_SHIFT);
    int n = os_resident_probes(tail, n_pages << PAGE_SHIFT, PROBES);
    if (n < 0) return;
    atomic_store_explicit(&learned_of(pool, extent->used_pages)->tail_sparse, n < PROBES / 4,
                          memory_order_relaxed);
}

bool zero_tail_is_sparse(const struct pool *pool, size_t n_pages) {
    return atomic_load_explicit(&pool->learned.size[log2_floor(n_pages)].tail_sparse, memory_order_relaxed) >
           0;
}
