/* SPDX-License-Identifier: MIT */
/* stats.c: sums of the counters that each level keeps for itself, and the check of a whole pool.
 *
 * Counters are plain fields written by one thread or under one lock. Reading them costs their owners nothing;
 * a sum taken while others work may mix moments. What a thread that ends hands over is seen before or after,
 * unless that takes it longer than FOLD_PATIENCE_NS or SUM_TRIES sums in a row meet one that ends; for a slot
 * that changes its class see tcache_hits. */
#include "observe/stats.h"

#include "pool/account.h"

#include "zeropool.h"

#include <string.h>

#define READ READ_RELAXED
/* For what is declared _Atomic, which clang does not let the other take. */
#define READ_ATOMIC(field) atomic_load_explicit(&(field), memory_order_relaxed)

bool stats_wanted;

/* Handing counts over takes microseconds; as with a lock, wait for a bounded time. */
#define FOLD_PATIENCE_NS LOCK_PATIENCE_NS
/* If threads end all the time, each sum may meet another one that ends. */
#define SUM_TRIES 8

/* A sum over the caches and gone; zero at first. */
struct sum {
    uint32_t n_ended;
    unsigned n_tries;
    uint64_t end_ns;
};

static void sum_begin(struct sum *sum, const struct pool *pool) {
    sum->n_ended = atomic_load_explicit(&pool->gone.n_folds_ended, memory_order_acquire);
}

/* Whether to sum once more, because counts were on the way from a cache to gone meanwhile. x86 does not let
 * the loads of the sum pass those here; the compiler is told. */
static bool sum_again(struct sum *sum, const struct pool *pool) {
    compiler_barrier();
    if (READ_ATOMIC(pool->gone.n_folds_begun) == sum->n_ended) return false;
    bool still_the_same = READ_ATOMIC(pool->gone.n_folds_ended) == sum->n_ended;
    if (!still_the_same && ++sum->n_tries >= SUM_TRIES) return false;
    uint64_t now_ns = os_clock_ns();
    if (!sum->end_ns) sum->end_ns = now_ns + FOLD_PATIENCE_NS;
    lock_relax();
    return now_ns < sum->end_ns;
}

static void add_tcache(const struct pool *pool, const struct tcache *tcache, zp_stats *stats) {
    for (unsigned cls = 0; cls < N_CLASSES; cls++)
        stats->n_tcache_hits += tcache_hits(tcache, cls);
    stats->n_shard_hits += READ(tcache->n_shard_hits);
    stats->n_steals += READ(tcache->n_steals);
    stats->n_gets += READ(tcache->n_slow_gets);
    stats->bytes_cached += account_tcache_bytes(pool, tcache);
}

/* What the caches of threads count, those that are gone included. */
static void sum_tcaches(const struct pool *pool, zp_stats *stats) {
    memset(stats, 0, sizeof *stats);
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered)
        if (READ(tcache->caches) == &pool->tcaches) add_tcache(pool, tcache, stats);
    stats->n_tcache_hits += READ_ATOMIC(pool->gone.n_tcache_hits);
    stats->n_shard_hits += READ_ATOMIC(pool->gone.n_shard_hits);
    stats->n_steals += READ_ATOMIC(pool->gone.n_steals);
    stats->n_gets +=
        stats->n_tcache_hits + READ_ATOMIC(pool->gone.n_slow_gets) + READ_ATOMIC(pool->n_direct_gets);
}

void pool_stats(struct pool *pool, zp_stats *stats) {
    struct sum sum = {0};
    do {
        sum_begin(&sum, pool);
        sum_tcaches(pool, stats);
    } while (sum_again(&sum, pool));
    stats->bytes_cached += account_shards_bytes(pool);
    for (unsigned i = 0; i < pool->shards.n; i++)
        stats->n_evictions += READ(pool->shards.shard[i].n_evictions);
    const struct heap *heap = &pool->heap;
    stats->n_heap_dirty = READ(heap->counters.n_dirty_hits) + READ(heap->counters.n_mixed);
    stats->n_heap_fresh = READ(heap->counters.n_fresh);
    stats->n_refused = READ(heap->counters.n_refused);
    stats->n_purges = READ(heap->counters.n_purges);
    stats->bytes_purged = READ(heap->counters.bytes_purged);
    stats->bytes_fresh = READ(heap->counters.bytes_fresh);
    size_t active = READ(heap->active_bytes);
    stats->bytes_live = active > stats->bytes_cached ? active - stats->bytes_cached : 0;
    stats->bytes_dirty = READ(heap->dirty_bytes);
    stats->bytes_mapped = READ(heap->frontier) - heap->space.base - READ(heap->hole_bytes);
    stats->bytes_live_peak = READ(heap->counters.active_peak);
    stats->bytes_pinned = READ(heap->counters.bytes_pinned);
    stats->n_pin_failures = READ(heap->counters.n_pin_failures);
}

/* A level has served n requests of a class with warm blocks. */
static void add_class(struct stats_size sizes[HEAP_SIZES], unsigned cls, uint64_t n, bool from_shard) {
    if (!n) return;
    struct stats_size *size = &sizes[log2_floor(class_pages(cls))];
    *(from_shard ? &size->n_shard : &size->n_tcache) += n;
    size->bytes_warm += n * (class_pages(cls) << PAGE_SHIFT);
}

static void sum_tcaches_by_size(const struct pool *pool, struct stats_size sizes[HEAP_SIZES]) {
    memset(sizes, 0, HEAP_SIZES * sizeof sizes[0]);
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered) {
        if (READ(tcache->caches) != &pool->tcaches) continue;
        for (unsigned cls = 1; cls < N_CLASSES; cls++)
            add_class(sizes, cls, tcache_hits(tcache, cls), false);
    }
    for (unsigned cls = 1; cls < N_CLASSES; cls++)
        add_class(sizes, cls, READ_ATOMIC(pool->gone.n_class_hits[cls]), false);
}

void pool_stats_by_size(struct pool *pool, struct stats_size sizes[HEAP_SIZES]) {
    struct sum sum = {0};
    do {
        sum_begin(&sum, pool);
        sum_tcaches_by_size(pool, sizes);
    } while (sum_again(&sum, pool));
    for (unsigned cls = 1; cls < N_CLASSES; cls++) {
        for (unsigned i = 0; i < pool->shards.n && cls < pool->shards.end_class; i++)
            add_class(sizes, cls, READ(pool->shards.shard[i].n_hits[cls]), true);
    }
    for (unsigned i = 0; i < HEAP_SIZES; i++) {
        __typeof__(&pool->heap.counters.by_size[0]) from = &pool->heap.counters.by_size[i];
        sizes[i].n_dirty += READ(from->n_dirty);
        sizes[i].n_mixed += READ(from->n_mixed);
        sizes[i].n_fresh += READ(from->n_fresh);
        sizes[i].bytes_warm += READ(from->bytes_warm);
        sizes[i].bytes_fresh += READ(from->bytes_fresh);
        sizes[i].bytes_cleared = READ(pool->zeroed[i].bytes_cleared);
        sizes[i].bytes_emptied = READ(pool->zeroed[i].bytes_emptied);
    }
}

static void forget_tcache(struct tcache *tcache) {
    for (unsigned cls = 0; cls < N_CLASSES; cls++)
        if (tcache_hits(tcache, cls)) tcache_forget_hits(tcache, cls);
    WRITE_RELAXED(tcache->n_slow_gets, 0);
    WRITE_RELAXED(tcache->n_slow_puts, 0);
    WRITE_RELAXED(tcache->n_shard_hits, 0);
    WRITE_RELAXED(tcache->n_steals, 0);
}

void pool_stats_fork_child(struct pool *pool) {
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered)
        if (READ(tcache->caches) == &pool->tcaches) forget_tcache(tcache);
    COUNT_RESET();
    memset(&pool->gone, 0, sizeof pool->gone);
    pool->n_direct_gets = 0;
    memset(pool->zeroed, 0, sizeof pool->zeroed);
    for (unsigned i = 0; i < pool->shards.n; i++) {
        memset(pool->shards.shard[i].n_hits, 0,
               pool->shards.end_class * sizeof pool->shards.shard[i].n_hits[0]);
        pool->shards.shard[i].n_evictions = 0;
    }
    /* Present state stays; counts of events begin anew. */
    struct heap_counters *counters = &pool->heap.counters, old = *counters;
    memset(counters, 0, sizeof *counters);
    counters->n_moved_vmas = old.n_moved_vmas;
    counters->bytes_pinned = old.bytes_pinned;
    counters->active_peak = pool->heap.active_bytes;
}

void pool_count_extents(const struct pool *pool, size_t *n_live, size_t *n_idle) {
    const struct heap *heap = &pool->heap;
    /* descriptors from there on have never been used */
    size_t n_used = READ(heap->space.has_gaps) ? 0 : READ(heap->untouched);
    *n_live = *n_idle = 0;
    for (size_t i = 1; i < n_used; i++) {
        const struct extent *extent = &heap->space.extents[i];
        uint8_t state = extent_state(extent);
        *n_live += state == EXTENT_LIVE;
        *n_idle += state == EXTENT_CACHED || extent_is_resident_idle(extent);
    }
}

static const char *check_shard(struct shard *shard) {
    if (!lock_acquire(&shard->lock)) return "shard lock is held";
    const char *broken = NULL;
    size_t bytes = 0, n = 0;
    for (unsigned cls = 0; cls < shard->end_class && !broken; cls++)
        for (struct extent *e = shard->bins[cls]; e && !broken; e = e->next) {
            if (extent_state(e) != EXTENT_CACHED || e->cls != cls) broken = "wrong extent in a shard bin";
            bytes += extent_bytes(e);
            n++;
        }
    if (!broken && (bytes != shard->bytes || n != shard->n_blocks)) broken = "shard bytes miscounted";
    if (!broken && shard->policy.hot_bytes + shard->policy.cold_bytes != bytes)
        broken = "policy bytes miscounted";
    lock_release(&shard->lock);
    return broken;
}

const char *pool_check(struct pool *pool) {
    const char *broken = heap_check(&pool->heap);
    for (unsigned i = 0; i < pool->shards.n && !broken; i++)
        broken = check_shard(&pool->shards.shard[i]);
    return broken;
}
