/* SPDX-License-Identifier: MIT */
/* shard.c: the shared middle level. See shard.h. */
#include "cache/shard.h"

#include "base/time.h"
#include "os/os.h"
#include "pool/pool.h"

int shards_make(struct pool *pool, const struct shard_setup *setup) {
    /* In whole cache lines, since each shard is some other processor's. */
    size_t bins_bytes = align_up(setup->end_class * sizeof(struct extent *), CACHE_LINE);
    size_t hits_bytes = align_up(setup->end_class * sizeof(uint64_t), CACHE_LINE);
    size_t marks_bytes =
        setup->eviction == EVICT_CLOCKPRO ? align_up(sizeof(struct policy_marks), CACHE_LINE) : 0;
    size_t tables_bytes = bins_bytes + hits_bytes + marks_bytes;
    size_t holders_bytes = setup->end_class * sizeof(uint64_t);
    size_t n_bytes =
        align_up(setup->n_shards * (sizeof(struct shard) + tables_bytes) + holders_bytes, PAGE_BYTES);
    void *memory = NULL;
    int error = os_map(n_bytes, &memory);
    if (error) return error;
    pool->shards = memory;
    pool->shards_bytes = n_bytes;
    pool->n_shards = setup->n_shards;
    char *tables = (char *)(pool->shards + setup->n_shards);
    for (unsigned i = 0; i < setup->n_shards; i++, tables += tables_bytes) {
        struct shard *shard = &pool->shards[i];
        shard->limit_bytes = setup->limit_bytes;
        shard->end_class = setup->end_class;
        shard->bins = (struct extent **)tables;
        shard->n_hits = (uint64_t *)(tables + bins_bytes);
        policy_init(&shard->policy, setup->eviction,
                    (struct policy_marks *)(tables + bins_bytes + hits_bytes));
    }
    pool->class_shards = (_Atomic uint64_t *)tables;
    return 0;
}

void shards_unmake(struct pool *pool) {
    os_unmap(pool->shards, pool->shards_bytes);
}

static unsigned index_of(const struct pool *pool, const struct shard *shard) {
    return (unsigned)(shard - pool->shards);
}

static void set_class_bit(struct pool *pool, const struct shard *shard, unsigned cls) {
    atomic_fetch_or_explicit(&pool->class_shards[cls], (uint64_t)1 << index_of(pool, shard),
                             memory_order_relaxed);
}

static void clear_class_bit(struct pool *pool, const struct shard *shard, unsigned cls) {
    atomic_fetch_and_explicit(&pool->class_shards[cls], ~((uint64_t)1 << index_of(pool, shard)),
                              memory_order_relaxed);
}

static void link(struct pool *pool, struct shard *shard, struct extent *extent) {
    if (!shard->bins[extent->cls]) set_class_bit(pool, shard, extent->cls);
    bin_push(&shard->bins[extent->cls], extent);
    ADD_RELAXED(shard->bytes, extent_bytes(extent));
    ADD_RELAXED(shard->n_blocks, 1);
}

static void unlink_block(struct pool *pool, struct shard *shard, struct extent *extent) {
    bin_remove(&shard->bins[extent->cls], extent);
    if (!shard->bins[extent->cls]) clear_class_bit(pool, shard, extent->cls);
    SUB_RELAXED(shard->bytes, extent_bytes(extent));
    SUB_RELAXED(shard->n_blocks, 1);
}

size_t shard_limit_of(const struct pool *pool) {
    size_t least = pool->shard_limit_bytes;
    return pool->caches_grow
               ? max_size(least, READ_RELAXED(pool->heap.active_bytes) / CACHE_SHARE / pool->n_shards)
               : least;
}

void shard_put_list(struct pool *pool, struct extent *list) {
    shard_put_at(pool, &pool->shards[os_cpu_current() & (pool->n_shards - 1)], list);
}

void shard_put_at(struct pool *pool, struct shard *shard, struct extent *list) {
    /* It is idle now, all of it (account.h). Before the lock, which is for those who look for blocks. */
    for (struct extent *extent = list; extent; extent = extent->next)
        if (unlikely(READ_RELAXED(extent->unproven_pages))) heap_prove(&pool->heap, extent);
    if (!lock_acquire(&shard->lock)) {
        heap_free_list(&pool->heap, list);
        return;
    }
    uint32_t now = os_clock_ms();
    struct extent *evicted = NULL;
    if (pool->caches_grow) WRITE_RELAXED(shard->limit_bytes, shard_limit_of(pool));
    while (list) {
        struct extent *extent = list;
        list = list->next;
        /* Would push out everything else, and then itself; or nobody would look for it here. */
        if (extent_bytes(extent) > shard->limit_bytes || extent->n_pages > pool->shard_max_pages) {
            extent->next = evicted;
            evicted = extent;
            continue;
        }
        extent->last_use_ms = now;
        link(pool, shard, extent);
        policy_insert(&shard->policy, extent, shard->limit_bytes);
    }
    while (shard->bytes > shard->limit_bytes) {
        struct extent *victim = policy_victim(&shard->policy, shard->limit_bytes);
        if (!victim) break;
        policy_evict(&shard->policy, victim, shard->limit_bytes);
        unlink_block(pool, shard, victim);
        ADD_RELAXED(shard->n_evictions, 1);
        victim->next = evicted;
        evicted = victim;
    }
    lock_release(&shard->lock);
    heap_free_list(&pool->heap, evicted);
}

static struct extent *take_from(struct pool *pool, struct shard *shard, unsigned cls, unsigned n_wanted) {
    if (!lock_acquire(&shard->lock)) return NULL;
    struct extent *list = NULL;
    while (n_wanted-- && shard->bins[cls]) {
        struct extent *extent = shard->bins[cls];
        unlink_block(pool, shard, extent);
        policy_remove(&shard->policy, extent, true);
        extent->next = list;
        list = extent;
    }
    if (list) ADD_RELAXED(shard->n_hits[cls], 1);
    if (!list) policy_miss(&shard->policy, cls, shard->limit_bytes);
    lock_release(&shard->lock);
    return list;
}

struct extent *shard_take(struct pool *pool, unsigned cls, unsigned n_wanted, bool *stolen) {
    unsigned own = os_cpu_current() & (pool->n_shards - 1);
    uint64_t holders = atomic_load_explicit(&pool->class_shards[cls], memory_order_relaxed);
    *stolen = false;
    /* CLOCK-Pro must hear of misses; LIFO need not take the lock for nothing. */
    if (holders >> own & 1 || pool->shards[own].policy.kind == EVICT_CLOCKPRO) {
        struct extent *list = take_from(pool, &pool->shards[own], cls, n_wanted);
        if (list) return list;
    }
    holders &= ~((uint64_t)1 << own);
    while (holders) {
        unsigned other = (unsigned)__builtin_ctzll(holders);
        holders &= holders - 1;
        struct extent *list = take_from(pool, &pool->shards[other], cls, 1);
        if (list) {
            *stolen = true;
            return list;
        }
    }
    return NULL;
}

void shard_flush(struct pool *pool, struct shard *shard, uint32_t before_ms, bool everything) {
    if (!lock_acquire(&shard->lock)) return;
    struct extent *list = NULL;
    struct extent *extent;
    while ((extent = policy_oldest(&shard->policy, before_ms))) {
        if (!everything && time_is_later(extent->last_use_ms, before_ms)) break;
        policy_remove(&shard->policy, extent, false);
        unlink_block(pool, shard, extent);
        extent->next = list;
        list = extent;
    }
    lock_release(&shard->lock);
    heap_free_list(&pool->heap, list);
}
