/* SPDX-License-Identifier: MIT */
/* put.c: the slow paths of put: a block that has to be looked at, or for which the thread cache has no
 * room. */
#include "pool/pool.h"

#include "sync/fork_door.h"
#include "sync/probe.h"
#include "os/os.h"
#include "heap/heap_bins.h"
#include "cache/cache_keep.h"
#include "learn/recycle.h"
#include "pool/account.h"
#include "pool/limits.h"
#include "pool/zero.h"

#define SLOT_KNOWN_BYTES (8 * MIB)
/* Whether a block in the slot is still untouched is not asked again: what may become resident unnoticed is no
 * more than the budget's slack. */
#define SLOT_UNTOUCHED_BYTES (64 * MIB)

/* What lies there is not marked, however long it rests (limits.h). */
static bool slot_may_hold(const struct pool *pool, const struct extent *extent) {
    if (extent_bytes(extent) > READ_RELAXED(pool->heap.unmarked_max_bytes)) return false;
    /* The next who gets it may touch little of it, and nobody would notice: where it is not known that such
     * blocks are filled, it goes through the heap (watch.h), unless it is itself hardly resident. */
    size_t n_bytes = extent_bytes(extent);
    if (n_bytes < SLOT_KNOWN_BYTES || os_restricted || fill_trusts_warm(&pool->learned, extent->n_pages))
        return true;
    return n_bytes <= SLOT_UNTOUCHED_BYTES && fill_habit(&pool->learned, extent->n_pages) < 0 &&
           READ_RELAXED(extent->unproven_pages) >= extent->used_pages / 4 * 3;
}

void pool_put_entered(struct pool *pool, struct tcache *tcache, struct extent *extent) {
    bool kept = tcache_is_big(extent) && slot_may_hold(pool, extent) &&
                READ_RELAXED(tcache->big_slot_unchecked) && tcache_put_big(tcache, extent, extent->address);
    tcache_leave(tcache);
    COUNT_IF(kept, puts_tcache);
    if (!kept) pool_put_slow(pool, extent);
}

bool pool_slots_unchecked(const struct pool *pool) {
    return !recycle_begins(&pool->recycle) && !READ_RELAXED(pool->recycle.check_every_free) &&
           !pool->limited && !account_slots_closed(pool) &&
           !(os_restricted && atomic_load_explicit(&pool->tcaches.n, memory_order_relaxed) > 1);
}

/* A block that has just been checked, or needs no check: to the thread cache, if it may stay there. */
static void keep(struct pool *pool, struct tcache *tcache, struct extent *extent) {
    bool is_big = tcache_is_big(extent);
    bool too_big = is_big && (pool->limited || !slot_may_hold(pool, extent));
    if (is_big && !too_big) {
        /* it counts as cached, all of it */
        if (fill_habit(&pool->learned, extent->n_pages) >= 0) heap_prove(&pool->heap, extent);
        if (!READ_RELAXED(tcache->big_slot_unchecked))
            WRITE_RELAXED(tcache->big_slot_unchecked, pool_slots_unchecked(pool));
    }
    bool may_stay = !too_big && !(READ_RELAXED(pool->recycle.check_every_free) &&
                                  extent_bytes(extent) >= RECYCLE_MIN_BYTES);
    cache_put(&pool->tcaches, tcache, extent, may_stay);
    if (is_big && may_stay && !pool_slots_unchecked(pool)) WRITE_RELAXED(tcache->big_slot_unchecked, 0);
}

void pool_put_slow(struct pool *pool, struct extent *extent) {
    PROBE2(free_slow, extent->address, extent_active_bytes(extent));
    bool passed = fork_pass();
    bool headroom = extent->used_pages < extent->n_pages;
    bool watched = extent->flags & EXTENT_OBSERVE && watch_returned(&pool->watch, &pool->learned, extent);
    if (extent->flags & EXTENT_GREW)
        zero_observe_tail(pool, extent);
    else if (extent->flags & EXTENT_OBSERVE && !watched)
        zero_observe(pool, extent); /* of the size that was asked for */
    bool checked = recycle_wants(&pool->recycle, extent);
    if (checked) recycle_check(&pool->recycle, extent);
    extent->flags &= (uint16_t)~EXTENT_SPECIAL;
    extent_set_state(extent, EXTENT_CACHED);
    if (tcache_tls.entered || !passed) {
        /* A signal handler inside a slow path of this thread, which may hold any lock; or a child being
         * repaired. */
        heap_bins_defer(&pool->heap, extent);
        return;
    }
    tcache_tls.entered = IN_SLOW_PATH;
    struct tcache *tcache = tcache_get(&pool->tcaches);
    bool is_big = tcache && tcache_is_big(extent);
    bool for_others = is_big && cache_hands_over(tcache);
    for_others |= is_big && account_slots_closed(pool);
    bool for_slot = is_big && !for_others && !pool->limited;
    if (for_slot && !checked && !READ_RELAXED(tcache->big_slot_unchecked))
        recycle_check(&pool->recycle, extent);
    if (tcache) ADD_RELAXED(tcache->n_slow_puts, 1);
    if (headroom || !tcache) {
        extent->next = NULL;
        if (headroom)
            heap_free(&pool->heap, extent);
        else
            tcache_return_list(&pool->tcaches, extent);
    } else if (for_others) {
        WRITE_RELAXED(tcache->big_slot_unchecked, 0); /* so that the next one comes this way, too */
        extent->next = cache_take_big(tcache);
        heap_free_list(&pool->heap, extent);
    } else {
        keep(pool, tcache, extent);
    }
    limits_keep(pool);
    tcache_tls.entered = 0;
}

void pool_bad_pointer(struct pool *pool, const void *p) {
    struct space *space = &pool->heap.space;
    const char *page = (const char *)align_down((size_t)p, PAGE_BYTES);
    struct extent *extent = space_lookup(space, page);
    if (extent->address == p) fatal_pointer("double free", p);
    /* An interior page: walk down to the extent that covers it. Slow, but these are the process's last
     * words. */
    while (!extent->address && (uintptr_t)page > space->base) {
        page -= PAGE_BYTES;
        extent = space_lookup(space, page);
    }
    bool covered = extent->address && (const char *)extent->address <= (const char *)p &&
                   (const char *)p < extent_end(extent);
    if (covered && extent_state(extent) == EXTENT_LIVE) {
        if ((uintptr_t)p % PAGE_BYTES) fatal_pointer("free of a misaligned pointer", p);
        fatal_pointer("free of an interior pointer", p);
    }
    if (covered && (uintptr_t)p % PAGE_BYTES == 0) fatal_pointer("double free", p);
    fatal_pointer("free of an invalid pointer", p);
}
