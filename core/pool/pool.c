/* SPDX-License-Identifier: MIT */
/* pool.c: set-up, the slow path of get, and what is done from time to time. See pool.h for the levels. */
#include "pool/pool.h"

#include "sync/probe.h"
#include "base/time.h"
#include "os/os.h"
#include "cache/cache_keep.h"
#include "heap/decay.h"
#include "sync/background.h"
#include "sync/fork_door.h"
#include "heap/heap_bins.h"
#include "heap/heap_fresh.h"
#include "pool/account.h"
#include "pool/limits.h"
#include "learn/recycle.h"
#include "pool/zero.h"

#include <errno.h>

/* Blocks moved from a shard to a thread cache at once. */
#define REFILL_BATCH 4
/* Not more often than this are other threads' caches searched before untouched memory is taken. */
#define RECLAIM_INTERVAL_MS 50
#define RECLAIM_MIN_PAGES (MIB >> PAGE_SHIFT)
/* A thread cache that holds less is not worth emptying before something is purged. */
#define RETURN_MIN_PAGES (64 * KIB >> PAGE_SHIFT)

int pool_init(struct pool *pool, const struct pool_setup *setup) {
    int error = heap_init(&pool->heap, setup->span_max, setup->reserved);
    if (error) return error;
    unsigned n_shards = setup->n_shards ? setup->n_shards : os_cpu_count();
    if (n_shards > SHARDS_MAX) n_shards = SHARDS_MAX;
    n_shards = round_up_pow2(n_shards);
    size_t shard_pages = min_size(setup->shard_max_block_bytes >> PAGE_SHIFT, CLASS_MAX_PAGES);
    struct shards_setup shards = {
        .n = n_shards,
        .max_pages = setup->shard_limit_bytes ? max_size(shard_pages, 1) : 0,
        .eviction = setup->eviction,
        .limit_bytes = setup->shard_limit_bytes / n_shards,
        .grow = setup->caches_grow,
    };
    COUNT_LOCK_KIND(&pool->watch.lock, LOCK_WATCH);
    error = shards_init(&pool->shards, &pool->heap, &shards);
    if (error) {
        space_destroy(&pool->heap.space);
        return error;
    }
    pool->tcaches.shards = &pool->shards;
    pool->tcaches.gone = &pool->gone;
    pool->tcaches.grow = setup->caches_grow;
    pool->tcaches.depth = setup->tcache_depth;
    pool->tcaches.limit_bytes = setup->tcache_limit_bytes;
    pool->recycle.caches = &pool->tcaches;
    pool->min_size_bytes = setup->min_size_bytes;
    pool->max_pages = min_size(setup->max_block_bytes >> PAGE_SHIFT, CLASS_MAX_PAGES);
    pool->huge = setup->huge;
    pool->limited = setup->limited;
    pool->zero_at_limit = setup->zero_at_limit;
    pool->heap.retain_bytes = setup->retain_bytes;
    pool->heap.retain_max_bytes = setup->retain_max_bytes;
    pool->heap.decay_ms = setup->decay_ms;
    pool->heap.pinned = setup->pinned;
    heap_fresh_prepare(&pool->heap);
    limits_prepare(pool);
    tcache_prepare_reclaim();
    fork_door_prepare();
    __atomic_store_n(&pool->ready, true, __ATOMIC_RELEASE);
    return 0;
}

void pool_finish(struct pool *pool) {
    pool->ready = false;
    tcache_forget(&pool->tcaches);
    shards_finish(&pool->shards);
    space_destroy(&pool->heap.space);
}

static bool stack(struct tcache *tcache, struct extent *extent) {
    if (!tcache_enter(tcache)) return false;
    bool kept = tcache_push(tcache, extent);
    tcache_leave(tcache);
    return kept;
}

/* A list of blocks of one class, fresh from a shard: the first is for the caller, the rest for the cache's
 * stack. */
static struct extent *keep_rest(struct pool *pool, struct tcache *tcache, struct extent *list) {
    struct extent *first = list;
    list = list->next;
    while (list) {
        struct extent *next = list->next;
        if (!tcache || !stack(tcache, list)) heap_free(&pool->heap, list);
        list = next;
    }
    return first;
}

static struct extent *get_from_shards(struct pool *pool, struct tcache *tcache, unsigned cls) {
    bool stolen;
    struct extent *list =
        shard_take(&pool->shards, cls, tcache && cls < TCACHE_BIG_CLASS ? REFILL_BATCH : 1, &stolen);
    if (!list) return NULL;
    if (tcache) {
        ADD_RELAXED(tcache->n_shard_hits, 1);
        ADD_RELAXED(tcache->n_steals, stolen);
    }
    COUNT_IF(!stolen, gets_shard);
    COUNT_IF(stolen, gets_elsewhere);
    PROBE2(refill, extent_bytes(list), stolen);
    if (stolen) PROBE1(steal, extent_bytes(list));
    return keep_rest(pool, tcache, list);
}

/* Untouched memory is about to be taken: is there idle memory with threads that sleep? */
static void maybe_reclaim(struct pool *pool, size_t n_pages) {
    if (n_pages < RECLAIM_MIN_PAGES || !tcache_can_reclaim() ||
        READ_RELAXED(pool->heap.dirty_bytes) >= n_pages << PAGE_SHIFT)
        return;
    struct tcache *caches = tcache_registered();
    if (!caches || !caches->next_registered) return;
    uint32_t now = os_clock_ms();
    uint32_t last = __atomic_load_n(&pool->last_reclaim_ms, __ATOMIC_RELAXED);
    if (time_passed_ms(now, last) < RECLAIM_INTERVAL_MS) return;
    __atomic_store_n(&pool->last_reclaim_ms, now, __ATOMIC_RELAXED);
    tcache_reclaim(&pool->tcaches, RECLAIM_IDLE);
}

/* Return what the thread's cache holds to the heap, where it merges with its neighbours. */
static void return_cached(struct pool *pool, struct tcache *tcache) {
    if (!tcache_enter(tcache)) return;
    struct extent *list = tcache_take_all(tcache);
    tcache_leave(tcache);
    heap_free_list(&pool->heap, list);
}

/* From the heap. Before something is purged for untouched memory, the thread's own cache is returned: of a
 * small set it holds a good part of what may be idle, in pieces that serve other sizes only when they are
 * merged. If the budget may be out of date then, the account is settled. */
static struct extent *alloc_settled(struct pool *pool, struct tcache *tcache, struct heap_request *request) {
    bool over = false;
    request->over = &over;
    request->caller_holds = tcache && READ_RELAXED(tcache->n_pages) >= RETURN_MIN_PAGES;
    struct extent *extent = heap_alloc(&pool->heap, request);
    if (likely(!over)) return extent;
    request->free_first = NULL; /* it has been returned */
    if (request->caller_holds) {
        tcache_lose_earned(tcache, &pool->tcaches);
        return_cached(pool, tcache);
        over = request->caller_holds = false;
        extent = heap_alloc(&pool->heap, request);
        if (!over) return extent;
    }
    request->over = NULL;
    account_settle(pool, request->n_pages << PAGE_SHIFT, request->proven);
    return heap_alloc(&pool->heap, request);
}

/* A hit like one of the exact class, so nothing of the slow path is asked first. Not for zeroed blocks:
 * clearing what was not asked for costs more than the way through the levels. */
static struct extent *get_near(struct pool *pool, unsigned cls) {
    struct tcache *tcache = tcache_find(&pool->tcaches);
    return tcache ? tcache_take_near(tcache, cls) : NULL;
}

struct extent *pool_get_slow(struct pool *pool, size_t n_pages, unsigned cls, size_t align_pages, bool zero) {
    if (cls < TCACHE_BIG_CLASS && align_pages == 1 && !zero) {
        struct extent *extent = get_near(pool, cls);
        if (extent) return extent;
    }
    if (unlikely(!pool->ready || n_pages > pool->max_pages || tcache_tls.entered)) return NULL;
    if (unlikely(!fork_pass())) return NULL;
    tcache_tls.entered = IN_SLOW_PATH;
    struct tcache *tcache = tcache_get(&pool->tcaches);
    struct extent *extent = NULL;
    bool from_untouched = false;
    if (tcache && cls >= TCACHE_BIG_CLASS && cache_keeps_again(tcache))
        WRITE_RELAXED(tcache->big_slot_unchecked, pool_slots_unchecked(pool));
    if (tcache) {
        if (cls < TCACHE_BIG_CLASS) tcache_missed(tcache, &pool->tcaches, cls);
        ADD_RELAXED(tcache->n_slow_gets, 1);
    } else {
        atomic_fetch_add_explicit(&pool->n_direct_gets, 1, memory_order_relaxed);
    }
    if (cls < pool->shards.end_class && align_pages == 1) extent = get_from_shards(pool, tcache, cls);
    if (!extent) {
        /* A big block was wanted and the slot holds another size, or the slot holds what this request would
         * otherwise take of untouched memory: let it merge with its neighbours before searching. */
        bool short_of_warm = READ_RELAXED(pool->heap.dirty_bytes) < n_pages << PAGE_SHIFT;
        maybe_reclaim(pool, n_pages);
        if (!zero) zero_look_back(pool, pool_block_pages(pool, n_pages, cls));
        size_t fresh_bytes = 0;
        struct heap_request request = {
            .n_pages = pool_block_pages(pool, n_pages, cls),
            .align_pages = align_pages,
            .free_first =
                tcache && (cls >= TCACHE_BIG_CLASS || short_of_warm) ? cache_take_big(tcache) : NULL,
            .warm_only =
                heap_bins_has(&pool->heap.dirty, pool_block_pages(pool, n_pages, cls) + align_pages - 1),
            .left_empty = !zero && fill_left_empty(&pool->learned, n_pages),
            .fresh_bytes = &fresh_bytes,
        };
        if (request.warm_only) {
            extent = heap_alloc(&pool->heap, &request);
            if (!extent) request.free_first = NULL; /* it has been returned */
            request.warm_only = false;
        }
        if (!extent) {
            request.fresh_huge = zero_wants_huge(pool, n_pages, zero);
            request.proven = zero_is_proven(pool, n_pages, zero);
            request.will_be_filled = zero_expects_filled(pool, n_pages, zero);
            extent = alloc_settled(pool, tcache, &request);
        }
        COUNT_IF(extent, gets_heap);
        from_untouched = extent && (extent->flags & EXTENT_ZERO);
        if (extent && !zero && watch_offer(&pool->watch, &pool->heap, &pool->learned, extent, fresh_bytes)) {
            fresh_bytes = extent_active_bytes(extent);
            extent->flags |= EXTENT_ZERO;
            heap_unprove(&pool->heap, extent);
        }
        if (extent && fresh_bytes) zero_mark_fresh(pool, extent, fresh_bytes, zero);
        if (pool_tick_due(pool, os_clock_ms()) && !background_runs()) {
            /* else the background thread sees to that */
            if (tcache && tcache_big_rests(tcache)) cache_flush_big(&pool->tcaches, tcache);
            pool_tick(pool, os_clock_ms());
        }
        limits_refresh(pool);
        if (tcache) tcache_adopt_near(tcache, &pool->tcaches);
    }
    if (extent) {
        recycle_mark(&pool->recycle, extent);
        COUNT_GET(extent);
        extent_set_state(extent, EXTENT_LIVE);
        if (!zero) extent->flags &= (uint16_t)~EXTENT_ZERO; /* from here on nobody knows what is in it */
    }
    tcache_tls.entered = 0;
    if (extent) PROBE3(alloc_slow, extent->address, n_pages << PAGE_SHIFT, from_untouched);
    if (pool->heap.decay_ms)
        background_poke(READ_RELAXED(pool->heap.active_bytes) + READ_RELAXED(pool->heap.dirty_bytes));
    return extent;
}

void *pool_get_missed(struct pool *pool, size_t n_pages) {
    if (n_pages > CLASS_MAX_PAGES) return NULL;
    struct extent *extent = pool_get_slow(pool, n_pages, class_of_pages(n_pages), 1, false);
    return extent ? extent->address : NULL;
}

/* To the heap from outside a slow path. */
static void heap_free_reentrant(struct pool *pool, struct extent *extent) {
    if (tcache_tls.entered || !fork_pass()) {
        heap_bins_defer(&pool->heap, extent);
        return;
    }
    tcache_tls.entered = IN_SLOW_PATH;
    heap_free(&pool->heap, extent);
    tcache_tls.entered = 0;
}

void *pool_get_aligned(struct pool *pool, struct tcache *tcache, size_t alignment, size_t n_pages) {
    if (alignment <= PAGE_BYTES) return pool_get(pool, tcache, n_pages);
    if (n_pages > pool->max_pages || alignment >> PAGE_SHIFT > pool->max_pages) return NULL;
    unsigned cls = class_of_pages(n_pages);
    void *address;
    struct extent *extent = tcache ? tcache_take_block(tcache, n_pages << PAGE_SHIFT, &address) : NULL;
    if (extent) {
        if ((uintptr_t)address % alignment == 0) return address;
        /* The one that the cache gives is not aligned; to the heap with it, which can find one that is. */
        extent_set_state(extent, EXTENT_CACHED);
        heap_free_reentrant(pool, extent);
    }
    extent = pool_get_slow(pool, n_pages, cls, alignment >> PAGE_SHIFT, false);
    return extent ? extent->address : NULL;
}

unsigned pool_tick(struct pool *pool, uint32_t now_ms) {
    WRITE_RELAXED(pool->watch_ticked_ms, now_ms);
    unsigned decay = decay_tick(&pool->heap, now_ms);
    return time_sooner(decay, watch_tick(&pool->watch, &pool->heap, &pool->learned, now_ms));
}

bool pool_tick_due(const struct pool *pool, uint32_t now_ms) {
    return decay_due(&pool->heap, now_ms) ||
           (READ_RELAXED(pool->watch.n_open) &&
            time_passed_ms(now_ms, READ_RELAXED(pool->watch_ticked_ms)) >= WATCH_AFTER_MS);
}

static struct extent *make_ready(struct pool *pool, size_t n_pages) {
    /* Straight from the heap: blocks idle already must not be counted twice. */
    struct heap_request request = {
        .n_pages = pool_block_pages(pool, n_pages, class_of_pages(n_pages)),
        .align_pages = 1,
        .proven = true,
    };
    struct extent *extent = heap_alloc(&pool->heap, &request);
    if (!extent) return NULL;
    if ((extent->flags & EXTENT_ZERO) && os_populate(extent->address, extent_bytes(extent)))
        for (size_t at = 0; at < extent_bytes(extent); at += PAGE_BYTES)
            ((volatile char *)extent->address)[at] = 0;
    extent->flags &= (uint16_t)~EXTENT_SPECIAL;
    extent_set_state(extent, EXTENT_CACHED);
    extent->next = NULL;
    return extent;
}

size_t pool_preallocate(struct pool *pool, size_t n_pages, size_t count) {
    if (n_pages > pool->max_pages || tcache_tls.entered || !fork_pass()) return 0;
    size_t before = tcache_count_blocks(pool) + shard_count_blocks(pool);
    tcache_tls.entered = IN_SLOW_PATH;
    for (size_t i = 0; i < count; i++) {
        struct extent *extent = make_ready(pool, n_pages);
        if (!extent) break;
        shard_put_at(&pool->shards, &pool->shards.shard[i % pool->shards.n], extent);
    }
    tcache_tls.entered = 0;
    /* What the limit evicted again is not ready. */
    size_t after = tcache_count_blocks(pool) + shard_count_blocks(pool);
    return after > before ? min_size(after - before, count) : 0;
}

void pool_drain_caches(struct pool *pool, bool only_idle) {
    uint32_t before = os_clock_ms() - DECAY_GRACE_MS;
    tcache_reclaim(&pool->tcaches, only_idle ? RECLAIM_IDLE : RECLAIM_ALL);
    tcache_disturb(&pool->tcaches);
    for (unsigned i = 0; i < pool->shards.n; i++)
        shard_flush(&pool->shards, &pool->shards.shard[i], before, !only_idle);
}

void pool_flush_caches(struct pool *pool) {
    struct tcache *tcache = tcache_find(&pool->tcaches);
    if (tcache && tcache_enter(tcache)) {
        struct extent *list = tcache_take_all(tcache);
        tcache_leave(tcache);
        tcache_return_list(&pool->tcaches, list);
    }
    pool_drain_caches(pool, false);
}

size_t pool_trim(struct pool *pool, size_t keep_bytes) {
    if (!pool->ready || tcache_tls.entered || !fork_pass()) return 0;
    tcache_tls.entered = IN_SLOW_PATH;
    pool_flush_caches(pool);
    size_t bytes = heap_trim(&pool->heap, keep_bytes);
    /* Addresses count, too, where they are limited, or charged. Elsewhere they stay, so that who frees a
     * block twice is told. */
    size_t room;
    if (READ_RELAXED(pool->heap.address_limited) || (os_read_commit_room(&room) == 0 && room != SIZE_MAX))
        heap_release_top(&pool->heap);
    tcache_tls.entered = 0;
    return bytes;
}
