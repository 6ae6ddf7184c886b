/* SPDX-License-Identifier: MIT */
/* shard.c: the shared middle level. See shard.h. */
#include "cache/shard.h"

#include "base/time.h"
#include "os/os.h"

int shards_init(struct shards *shards, struct heap *heap, const struct shards_setup *setup) {
    shards->heap = heap;
    shards->n = setup->n;
    shards->end_class = setup->max_pages ? class_of_pages(setup->max_pages) + 1 : 0;
    shards->max_pages = shards->end_class ? class_pages(shards->end_class - 1) : 0;
    shards->limit_bytes = setup->limit_bytes;
    shards->grow = setup->grow;
    /* In whole cache lines, since each shard is some other processor's. */
    size_t bins_bytes = align_up(shards->end_class * sizeof(struct extent *), CACHE_LINE);
    size_t hits_bytes = align_up(shards->end_class * sizeof(uint64_t), CACHE_LINE);
    size_t marks_bytes =
        setup->eviction == EVICT_CLOCKPRO ? align_up(sizeof(struct policy_marks), CACHE_LINE) : 0;
    size_t tables_bytes = bins_bytes + hits_bytes + marks_bytes;
    size_t holders_bytes = shards->end_class * sizeof(uint64_t);
    shards->mapped_bytes =
        align_up(shards->n * (sizeof(struct shard) + tables_bytes) + holders_bytes, PAGE_BYTES);
    void *memory = NULL;
    int error = os_map(shards->mapped_bytes, &memory);
    if (error) return error;
    shards->shard = memory;
    char *tables = (char *)(shards->shard + shards->n);
    for (unsigned i = 0; i < shards->n; i++, tables += tables_bytes) {
        struct shard *shard = &shards->shard[i];
        COUNT_LOCK_KIND(&shard->lock, LOCK_SHARD);
        shard->limit_bytes = setup->limit_bytes;
        shard->end_class = shards->end_class;
        shard->bins = (struct extent **)tables;
        shard->n_hits = (uint64_t *)(tables + bins_bytes);
        policy_init(&shard->policy, setup->eviction,
                    (struct policy_marks *)(tables + bins_bytes + hits_bytes));
    }
    shards->holders = (_Atomic uint64_t *)tables;
    return 0;
}

void shards_finish(struct shards *shards) {
    os_unmap(shards->shard, shards->mapped_bytes);
}

static unsigned index_of(const struct shards *shards, const struct shard *shard) {
    return (unsigned)(shard - shards->shard);
}

static void set_class_bit(struct shards *shards, const struct shard *shard, unsigned cls) {
    atomic_fetch_or_explicit(&shards->holders[cls], (uint64_t)1 << index_of(shards, shard),
                             memory_order_relaxed);
}

static void clear_class_bit(struct shards *shards, const struct shard *shard, unsigned cls) {
    atomic_fetch_and_explicit(&shards->holders[cls], ~((uint64_t)1 << index_of(shards, shard)),
                              memory_order_relaxed);
}

static void link(struct shards *shards, struct shard *shard, struct extent *extent) {
    if (!shard->bins[extent->cls]) set_class_bit(shards, shard, extent->cls);
    bin_push(&shard->bins[extent->cls], extent);
    ADD_RELAXED(shard->bytes, extent_bytes(extent));
    ADD_RELAXED(shard->n_blocks, 1);
}

static void unlink_block(struct shards *shards, struct shard *shard, struct extent *extent) {
    bin_remove(&shard->bins[extent->cls], extent);
    if (!shard->bins[extent->cls]) clear_class_bit(shards, shard, extent->cls);
    SUB_RELAXED(shard->bytes, extent_bytes(extent));
    SUB_RELAXED(shard->n_blocks, 1);
}

size_t shard_limit_of(const struct shards *shards) {
    size_t least = shards->limit_bytes;
    return shards->grow ? max_size(least, READ_RELAXED(shards->heap->active_bytes) / CACHE_SHARE / shards->n)
                        : least;
}

void shard_put_list(struct shards *shards, struct extent *list) {
    shard_put_at(shards, &shards->shard[os_cpu_current() & (shards->n - 1)], list);
}

/* Of a list of more than the limit only the last blocks would stay: the others need not pass through. */
static struct extent *cut_to_limit(struct extent *list, size_t limit_bytes, struct extent **rest) {
    size_t n_bytes = 0;
    for (struct extent *extent = list; extent; extent = extent->next)
        n_bytes += extent_bytes(extent);
    while (list && list->next && n_bytes > limit_bytes) {
        struct extent *next = list->next;
        n_bytes -= extent_bytes(list);
        list->next = *rest;
        *rest = list;
        list = next;
    }
    return list;
}

void shard_put_at(struct shards *shards, struct shard *shard, struct extent *list) {
    /* It is idle now, all of it (account.h). Before the lock, which is for those who look for blocks. */
    for (struct extent *extent = list; extent; extent = extent->next)
        if (unlikely(READ_RELAXED(extent->unproven_pages))) heap_prove(shards->heap, extent);
    struct extent *evicted = NULL;
    list = cut_to_limit(list, shard_limit_of(shards), &evicted);
    if (!lock_acquire(&shard->lock)) {
        heap_free_list(shards->heap, list);
        heap_free_list(shards->heap, evicted);
        return;
    }
    uint32_t now = os_clock_ms();
    if (shards->grow) WRITE_RELAXED(shard->limit_bytes, shard_limit_of(shards));
    while (list) {
        struct extent *extent = list;
        list = list->next;
        /* Would push out everything else, and then itself; or nobody would look for it here. */
        if (extent_bytes(extent) > shard->limit_bytes || extent->n_pages > shards->max_pages) {
            extent->next = evicted;
            evicted = extent;
            continue;
        }
        extent->last_use_ms = now;
        COUNT(to_shard);
        link(shards, shard, extent);
        policy_insert(&shard->policy, extent, shard->limit_bytes);
    }
    while (shard->bytes > shard->limit_bytes) {
        struct extent *victim = policy_victim(&shard->policy, shard->limit_bytes);
        if (!victim) break;
        policy_evict(&shard->policy, victim, shard->limit_bytes);
        unlink_block(shards, shard, victim);
        ADD_RELAXED(shard->n_evictions, 1);
        victim->next = evicted;
        evicted = victim;
    }
    lock_release(&shard->lock);
    heap_free_list(shards->heap, evicted);
}

static struct extent *take_from(struct shards *shards, struct shard *shard, unsigned cls, unsigned n_wanted) {
    if (!lock_acquire(&shard->lock)) return NULL;
    struct extent *list = NULL;
    while (n_wanted-- && shard->bins[cls]) {
        struct extent *extent = shard->bins[cls];
        unlink_block(shards, shard, extent);
        policy_remove(&shard->policy, extent, true);
        extent->next = list;
        list = extent;
    }
    if (list) ADD_RELAXED(shard->n_hits[cls], 1);
    if (!list) policy_miss(&shard->policy, cls, shard->limit_bytes);
    lock_release(&shard->lock);
    return list;
}

struct extent *shard_take(struct shards *shards, unsigned cls, unsigned n_wanted, bool *stolen) {
    unsigned own = os_cpu_current() & (shards->n - 1);
    uint64_t holders = atomic_load_explicit(&shards->holders[cls], memory_order_relaxed);
    *stolen = false;
    /* CLOCK-Pro must hear of misses; LIFO need not take the lock for nothing. */
    if (holders >> own & 1 || shards->shard[own].policy.kind == EVICT_CLOCKPRO) {
        struct extent *list = take_from(shards, &shards->shard[own], cls, n_wanted);
        if (list) return list;
    }
    holders &= ~((uint64_t)1 << own);
    while (holders) {
        unsigned other = (unsigned)__builtin_ctzll(holders);
        holders &= holders - 1;
        COUNT(looks_elsewhere);
        struct extent *list = take_from(shards, &shards->shard[other], cls, 1);
        if (list) {
            *stolen = true;
            return list;
        }
    }
    return NULL;
}

void shard_flush(struct shards *shards, struct shard *shard, uint32_t before_ms, bool everything) {
    if (!lock_acquire(&shard->lock)) return;
    struct extent *list = NULL;
    struct extent *extent;
    while ((extent = policy_oldest(&shard->policy, before_ms))) {
        if (!everything && time_is_later(extent->last_use_ms, before_ms)) break;
        policy_remove(&shard->policy, extent, false);
        unlink_block(shards, shard, extent);
        extent->next = list;
        list = extent;
    }
    lock_release(&shard->lock);
    heap_free_list(shards->heap, list);
}
