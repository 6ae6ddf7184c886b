/* SPDX-License-Identifier: MIT */
/* account.c: see account.h. */
#include "pool/account.h"

#include "base/time.h"
#include "os/os.h"
#include "heap/budget.h"

/* So long slots stay closed. */
#define CLOSED_MS 100u
/* Less is not worth taking blocks from threads that work. */
#define RECLAIM_WORTH_BYTES MIB

static const struct extent *slot_block(const struct pool *pool, const struct tcache_slot *slot) {
    const struct extent *extent = READ_RELAXED(slot->extent);
    return extent && space_describes(&pool->heap.space, extent) ? extent : NULL;
}

static size_t slot_bytes(const struct pool *pool, const struct tcache_slot *slot) {
    const struct extent *extent = slot_block(pool, slot);
    return extent ? extent_bytes(extent) : 0;
}

/* Of that, what counts as live neither there nor elsewhere (heap.h). */
static size_t slot_unproven_bytes(const struct pool *pool, const struct tcache_slot *slot) {
    const struct extent *extent = slot_block(pool, slot);
    return extent ? min_size((size_t)READ_RELAXED(extent->unproven_pages) << PAGE_SHIFT, extent_bytes(extent))
                  : 0;
}

size_t account_tcache_bytes(const struct pool *pool, const struct tcache *tcache) {
    return ((size_t)READ_RELAXED(tcache->n_pages) << PAGE_SHIFT) + slot_bytes(pool, &tcache->small) +
           slot_bytes(pool, &tcache->big);
}

size_t account_shards_bytes(const struct pool *pool) {
    size_t sum = 0;
    for (unsigned i = 0; i < pool->shards.n; i++)
        sum += READ_RELAXED(pool->shards.shard[i].bytes);
    return sum;
}

size_t account_cached_bytes(const struct pool *pool, size_t *unproven) {
    size_t sum = account_shards_bytes(pool), not_live = 0;
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered) {
        if (READ_RELAXED(tcache->caches) != &pool->tcaches) continue;
        sum += account_tcache_bytes(pool, tcache);
        not_live += slot_unproven_bytes(pool, &tcache->small) + slot_unproven_bytes(pool, &tcache->big);
    }
    if (unproven) *unproven = min_size(not_live, sum);
    return sum;
}

/* Returns what caches hold beyond the budget, and beyond what the heap could give back instead. */
static size_t sum_up(struct pool *pool, size_t n_bytes, bool proven) {
    size_t unproven, cached = account_cached_bytes(pool, &unproven);
    cached -= unproven;
    if (!lock_acquire(&pool->heap.lock)) return 0;
    size_t excess = budget_settle(&pool->heap, n_bytes, proven, cached);
    lock_release(&pool->heap.lock);
    return min_size(excess, cached);
}

void account_settle(struct pool *pool, size_t n_bytes, bool proven) {
    size_t excess = sum_up(pool, n_bytes, proven);
    if (!excess) return;
    if (tcache_reclaim(&pool->tcaches, RECLAIM_IDLE)) excess = sum_up(pool, n_bytes, proven);
    if (excess < max_size(n_bytes / 2, RECLAIM_WORTH_BYTES) || !tcache_reclaim(&pool->tcaches, RECLAIM_SLOTS))
        return;
    /* 0 is never; not a moment that is yet to come */
    WRITE_RELAXED(pool->slots_closed_ms, (uint32_t)max_size(os_clock_ms(), 1));
    tcache_disturb(&pool->tcaches);
    sum_up(pool, n_bytes, proven);
}

bool account_slots_closed(const struct pool *pool) {
    uint32_t since = READ_RELAXED(pool->slots_closed_ms);
    return since && time_passed_ms(os_clock_ms(), since) < CLOSED_MS;
}

size_t tcache_count_blocks(struct pool *pool) {
    size_t n = 0;
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered) {
        if (READ_RELAXED(tcache->caches) != &pool->tcaches) continue;
        n += (READ_RELAXED(tcache->small.extent) != NULL) + (READ_RELAXED(tcache->big.extent) != NULL);
        for (unsigned cls = 0; cls < TCACHE_BIG_CLASS; cls++)
            n += tcache_bin_n(tcache, cls);
    }
    return n;
}

size_t shard_count_blocks(struct pool *pool) {
    size_t n = 0;
    for (unsigned i = 0; i < pool->shards.n; i++)
        n += READ_RELAXED(pool->shards.shard[i].n_blocks);
    return n;
}
