/* SPDX-License-Identifier: MIT */
/* zero.c: clearing and purging, and who asks for zeroed blocks. See zero.h. */
#include "pool/zero.h"
#include "pool/zero_inner.h"

#include "sync/options.h"
#include "os/os.h"
#include "heap/heap_fresh.h"
#include "learn/sample.h"

#include <string.h>

/* Of what a block has grown by last: fewer, and it counts as left untouched. */
#define SPARSE_PROBES 4
/* A kind that is cleared in place is purged on trial, once in so many blocks, where the contents of the one
 * before have told nothing, and where they have: somebody else may have written them. */
#define TRIAL_EVERY_BLIND 64
#define TRIAL_EVERY 1024

/* --- zeroed blocks --- */

/* Who asks for blocks of which size. Two that share an entry share what is learned. */
static uint32_t caller_of(const void *site, size_t n_pages) {
    uint64_t x = ((uint64_t)(uintptr_t)site << 6 | log2_floor(n_pages)) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(x >> 40) % ZERO_CALLERS;
}

static _Atomic uint64_t *cleared_entry(struct pool *pool, uint64_t block, uint32_t **caller) {
    size_t i = (size_t)((block >> LAST_FRESH_SHIFT) * 0x9e3779b97f4a7c15u >> 40) % ZERO_CLEARED;
    *caller = &pool->callers.cleared[i].caller;
    return &pool->callers.cleared[i].block;
}

/* The block is ours, and will be cleared or purged. If it was cleared for somebody when it was handed out
 * last, what is in it tells whether they filled it. True if it was purged for somebody who hardly touched
 * it. */
static bool look_at_last_use(struct pool *pool, struct extent *extent) {
    uint32_t *caller;
    uint64_t block = block_number(pool, extent);
    _Atomic uint64_t *entry = cleared_entry(pool, block, &caller);
    if (atomic_load_explicit(entry, memory_order_relaxed) != block) return false;
    atomic_store_explicit(entry, 0, memory_order_relaxed);
    if (extent->flags & EXTENT_ZERO) return false;
    if (READ_RELAXED(*caller) == ZERO_LEFT_EMPTY) return true;
    bool written = sample_is_written(extent->address, extent->n_pages, watch_random(&pool->watch));
    habit_saw_contents(&pool->callers.habits[READ_RELAXED(*caller) % ZERO_CALLERS], written,
                       LEAST_PENALTY_CALLER);
    if (written) habit_learn(&learned_of(pool, extent->n_pages)->zeroed, true, LEAST_PENALTY);
    return false;
}

void zero_note_use(struct pool *pool, const struct extent *extent, uint32_t by) {
    uint32_t *caller;
    uint64_t block = block_number(pool, extent);
    _Atomic uint64_t *entry = cleared_entry(pool, block, &caller);
    WRITE_RELAXED(*caller, by);
    atomic_store_explicit(entry, block, memory_order_relaxed);
}

/* Is a block for this caller to be cleared in place? */
static bool clears(struct pool *pool, size_t n_pages, uint32_t caller) {
    struct habit *habit = &pool->callers.habits[caller];
    const struct habit *all = READ_RELAXED(habit->is_known) ? habit : &learned_of(pool, n_pages)->zeroed;
    if (habit_filled(all) <= 0) return false;
    bool seen = READ_RELAXED(habit->is_seen);
    WRITE_RELAXED(habit->is_seen, false);
    if (!habit_wants_trial(habit) && !watch_one_in(&pool->watch, seen ? TRIAL_EVERY : TRIAL_EVERY_BLIND))
        return true;
    habit_begin_trial(habit);
    return false;
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

/* Make the first n_bytes of a live block zero, the best way for its size and for who asks. */
static void clear(struct pool *pool, struct extent *extent, size_t n_bytes, uint32_t caller) {
    if (n_bytes >= zero_memset_bytes(pool) && !pool->heap.pinned) {
        bool is_empty = look_at_last_use(pool, extent);
        if (extent->flags & EXTENT_ZERO) return;
        if (!clears(pool, extent->n_pages, caller) && empty(extent) == 0) {
            extent->flags |= EXTENT_OBSERVE | EXTENT_CALLOC;
            measure_fault(pool, extent);
            ADD_RELAXED(pool->zeroed[log2_floor(extent->n_pages)].bytes_emptied, n_bytes);
            return;
        }
        zero_note_use(pool, extent, caller);
        /* a memset would fault page by page */
        if (is_empty && pool->huge != SWITCH_OFF && empty(extent) == 0 &&
            heap_fresh_fill_block(&pool->heap, extent) == 0) {
            ADD_RELAXED(pool->zeroed[log2_floor(extent->n_pages)].bytes_emptied, n_bytes);
            return;
        }
    }
    if (extent->flags & EXTENT_ZERO) return;
    memset(extent->address, 0, n_bytes);
    ADD_RELAXED(pool->zeroed[log2_floor(extent->n_pages)].bytes_cleared, n_bytes);
}

void *zero_get_for(struct pool *pool, struct tcache *tcache, size_t n_pages, const void *site) {
    if (n_pages > pool->max_pages) return NULL;
    unsigned cls = class_of_pages(n_pages);
    void *address;
    struct extent *extent = tcache ? tcache_take_block(tcache, n_pages << PAGE_SHIFT, &address) : NULL;
    if (!extent) extent = pool_get_slow(pool, n_pages, cls, 1, true);
    if (!extent) return NULL;
    uint32_t caller = caller_of(site, extent->n_pages);
    /* programs rely on zeros as far as malloc_usable_size says */
    clear(pool, extent, extent_active_bytes(extent), caller);
    extent->flags &= (uint16_t)~EXTENT_ZERO;
    if (extent->flags & EXTENT_CALLOC) extent->caller = caller;
    return extent->address;
}

void zero_observe_tail(struct pool *pool, const struct extent *extent) {
    size_t n_pages = min_size(READ_RELAXED(extent->unproven_pages), extent->used_pages);
    if (os_restricted || n_pages < ZERO_UNPROVEN_BYTES >> PAGE_SHIFT) return;
    char *tail = (char *)extent->address + ((size_t)(extent->used_pages - n_pages) << PAGE_SHIFT);
    int n = sample_resident(tail, n_pages, SPARSE_PROBES, watch_random(&pool->watch));
    if (n < 0) return;
    atomic_store_explicit(&learned_of(pool, extent->used_pages)->tail_sparse, !n, memory_order_relaxed);
}

bool zero_tail_is_sparse(const struct pool *pool, size_t n_pages) {
    return atomic_load_explicit(&pool->learned.size[log2_floor(n_pages)].tail_sparse, memory_order_relaxed) >
           0;
}
