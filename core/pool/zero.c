/* SPDX-License-Identifier: MIT */
/* zero.c: clearing, purging and learning. See zero.h. */
#include "pool/zero.h"

#include "base/options.h"
#include "os/os.h"

#include <string.h>

/* Smaller fresh blocks are not looked at: sixteen mincore calls would show beside their faults. */
#define OBSERVE_MIN_BYTES (2 * MIB)
#define OBSERVE_MIN_ZEROED_BYTES (256 * KIB)
#define PROBES 16
/* Of sixteen probes: from here on a block counts as filled enough for memset, and as filled whole. */
#define DENSE_PROBES 8
#define FULL_PROBES 15
#define VOTE_MAX 3
#define VOTE_SPARSE (-4)
/* A class that is cleared by memset is looked at again after this many blocks: memset leaves nothing to see. */
#define RECHECK_EVERY 64
/* Once the answer has been the same VOTE_MAX times, only every so-manieth block is looked at. */
#define PROBE_EVERY 16

static struct learned *learned_of(struct pool *pool, size_t n_pages)
{
    unsigned index = log2_floor(n_pages);
    return &pool->learned[index < N_LEARNED ? index : N_LEARNED - 1];
}

static void vote(_Atomic int8_t *counter, bool dense)
{
    int8_t value = atomic_load_explicit(counter, memory_order_relaxed);
    value = dense ? (int8_t)(value < VOTE_MAX ? value + 1 : VOTE_MAX) : VOTE_SPARSE;
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

/* Touched sparsely: advice of an earlier owner must not fill it with huge pages. */
static int empty(struct extent *extent)
{
    if (!(extent->flags & EXTENT_HUGE)) return os_purge(extent->address, extent_bytes(extent));
    int error = os_remap_fresh(extent->address, extent_bytes(extent));
    if (!error) extent->flags &= (uint16_t)~EXTENT_HUGE;
    return error;
}

void zero_clear(struct pool *pool, struct extent *extent, size_t n_bytes)
{
    if (extent->flags & EXTENT_ZERO) return;
    if (n_bytes >= ZERO_MEMSET_BYTES && !pool->heap.pinned) {
        struct learned *learned = learned_of(pool, extent->n_pages);
        bool dense = atomic_load_explicit(&learned->calloc_filled, memory_order_relaxed) > 0;
        if (dense) {
            uint16_t n = atomic_load_explicit(&learned->n_cleared, memory_order_relaxed);
            atomic_store_explicit(&learned->n_cleared, (uint16_t)(n + 1), memory_order_relaxed);
            dense = (n + 1) % RECHECK_EVERY != 0;
        }
        if (!dense && empty(extent) == 0) {
            extent->flags |= EXTENT_OBSERVE | EXTENT_CALLOC;
            ADD_RELAXED(pool->zeroed[log2_floor(extent->n_pages)].bytes_emptied, n_bytes);
            return;
        }
    }
    memset(extent->address, 0, n_bytes);
    ADD_RELAXED(pool->zeroed[log2_floor(extent->n_pages)].bytes_cleared, n_bytes);
}

void *zero_get(struct pool *pool, struct tcache *tcache, size_t n_pages, size_t n_bytes)
{
    if (n_pages > pool->max_pages) return NULL;
    unsigned cls = class_of_pages(n_pages);
    struct extent *extent = tcache ? pool_get_cached(tcache, n_pages, cls) : NULL;
    if (!extent) extent = pool_get_slow(pool, n_pages, cls, 1, true);
    if (!extent) return NULL;
    zero_clear(pool, extent, n_bytes);
    extent->flags &= (uint16_t)~EXTENT_ZERO;
    return extent->address;
}

bool zero_wants_huge(struct pool *pool, size_t n_pages, bool zeroed)
{
    if (pool->huge == SWITCH_OFF || n_pages < HUGE_MIN_BYTES >> PAGE_SHIFT) return false;
    struct learned *learned = learned_of(pool, n_pages);
    _Atomic int8_t *counter = zeroed ? &learned->calloc_filled : &learned->filled;
    int8_t value = atomic_load_explicit(counter, memory_order_relaxed);
    return pool->huge == SWITCH_ON && !zeroed ? true : value > 0;
}

void zero_mark_fresh(struct extent *extent, bool zeroed)
{
    /* A block backed by huge pages looks filled whatever is touched, so it teaches nothing. */
    if (extent->flags & EXTENT_HUGE) return;
    if (extent_bytes(extent) < (zeroed ? OBSERVE_MIN_ZEROED_BYTES : OBSERVE_MIN_BYTES)) return;
    extent->flags |= EXTENT_OBSERVE | (zeroed ? EXTENT_CALLOC : 0);
}

void zero_observe(struct pool *pool, struct extent *extent)
{
    if (os_restricted) return;
    struct learned *learned = learned_of(pool, extent->n_pages);
    _Atomic int8_t *counter = extent->flags & EXTENT_CALLOC ? &learned->calloc_filled : &learned->filled;
    int8_t value = atomic_load_explicit(counter, memory_order_relaxed);
    if (value == VOTE_MAX || value == VOTE_SPARSE) {
        uint16_t n_seen = atomic_load_explicit(&learned->n_seen, memory_order_relaxed);
        atomic_store_explicit(&learned->n_seen, (uint16_t)(n_seen + 1), memory_order_relaxed);
        if (n_seen % PROBE_EVERY) return;
    }
    int n = os_resident_probes(extent->address, extent_bytes(extent), PROBES);
    if (n < 0) return;
    vote(counter, n >= (extent->flags & EXTENT_CALLOC ? DENSE_PROBES : FULL_PROBES));
}
