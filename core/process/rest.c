/* SPDX-License-Identifier: MIT */
/* rest.c: rounds of giving back on a waiting thread. See rest.h. */
#include "process/rest.h"

#include "base/time.h"
#include "os/os.h"
#include "pool/account.h"
#include "heap/decay.h"
#include "sync/fork_door.h"
#include "heap/heap_fresh.h"
#include "sync/background.h"
#include "pool/limits.h"

#include <errno.h>

/* Wait after a round that was not possible, and least time between two rounds. */
#define LATER_MS 100
#define SOONEST_MS 10
/* No round asks for a longer wait. */
#define WAIT_MOST_MS DECAY_GRACE_MS
/* A mark older than this was left behind. */
#define ROUND_MOST_MS 2000
/* Shards are summed up at each call where they are few, else so often. */
#define FEW_SHARDS 8
#define SUM_EVERY_MS 1000
/* Looks at the caches with nothing left to decay before they are taken to be in steady use: the first sees
 * what they hold, the second that they still do, the third that nothing came of it. */
#define IDLE_LOOKS_MAX 3

static _Atomic uint32_t running; /* since when, odd; 0: no round is being run */
static _Atomic(const void *) owner;
static _Atomic uint32_t owned_until_ms;

static _Atomic uint32_t due_ms;
static uint32_t looked_ms;
static unsigned n_idle_looks;

static size_t own_bytes(const struct pool *pool) {
    size_t n_bytes = 0;
    for (const struct tcache *tcache = tcache_tls.first; tcache; tcache = tcache->next_of_thread)
        if (READ_RELAXED(tcache->caches) == &pool->tcaches) n_bytes += account_tcache_bytes(pool, tcache);
    return n_bytes;
}

/* In caches of all threads and shards, as of SUM_EVERY_MS ago. */
static size_t cached_bytes(const struct pool *pool) {
    static uint32_t summed_ms;
    static size_t sum;
    uint32_t now = os_clock_ms();
    if (time_passed_ms(now, READ_RELAXED(summed_ms)) >= SUM_EVERY_MS) {
        WRITE_RELAXED(summed_ms, now);
        WRITE_RELAXED(sum, account_cached_bytes(pool, NULL));
    }
    return READ_RELAXED(sum);
}

bool rest_is_wanted(const struct pool *pool) {
    if (!__atomic_load_n(&pool->ready, __ATOMIC_ACQUIRE) || !pool->heap.decay_ms) return false;
    /* a sparse block may have much to give back */
    if (READ_RELAXED(pool->watch.n_open)) return !background_runs();
    size_t dirty = READ_RELAXED(pool->heap.dirty_bytes), retained = pool->heap.retain_bytes;
    size_t idle = (dirty > retained ? dirty - retained : 0) + own_bytes(pool);
    if (idle < REST_LEAST_BYTES && pool->shards.n <= FEW_SHARDS) idle += account_shards_bytes(pool);
    if (idle < REST_LEAST_BYTES && cached_bytes(pool) < REST_LEAST_BYTES) return false;
    return !background_runs();
}

bool rest_claim(unsigned step_ms) {
    const void *self = &tcache_tls, *before = atomic_load_explicit(&owner, memory_order_relaxed);
    uint32_t now = os_clock_ms();
    bool vacant = !before || before == self ||
                  !time_is_later(atomic_load_explicit(&owned_until_ms, memory_order_relaxed), now);
    if (!vacant || !atomic_compare_exchange_strong(&owner, &before, self)) return false;
    atomic_store_explicit(&owned_until_ms, now + step_ms + LATER_MS, memory_order_relaxed);
    return true;
}

void rest_unclaim(void) {
    const void *self = &tcache_tls;
    atomic_compare_exchange_strong(&owner, &self, NULL);
}

int32_t rest_overdue_ms(void) {
    int32_t overdue = (int32_t)(os_clock_ms() - atomic_load_explicit(&due_ms, memory_order_relaxed));
    return overdue < -WAIT_MOST_MS ? INT32_MAX : overdue; /* so old that the clock has wrapped */
}

/* As others do it to the caches of sleeping threads (tcache_reclaim). */
static void look_at_own_cache(struct pool *pool) {
    struct tcache *tcache = tcache_find(&pool->tcaches);
    if (!tcache || !tcache_enter(tcache)) return;
    struct extent *list = NULL;
    enum tcache_rest rest = tcache_look(tcache);
    if (rest == TCACHE_RESTS)
        list = tcache_take_all(tcache);
    else if (rest == TCACHE_BIG_RESTS)
        list = tcache_take_slot(&tcache->big);
    tcache_leave(tcache);
    tcache_return_list(&pool->tcaches, list);
}

static void look_at_caches(struct pool *pool, uint32_t now) {
    look_at_own_cache(pool);
    struct tcache *caches = tcache_registered();
    if (caches && caches->next_registered) {
        pool_drain_caches(pool, true);
        return;
    }
    /* There is no other cache: nothing to claim, and so no barrier. */
    for (unsigned i = 0; i < pool->shards.n; i++)
        shard_flush(&pool->shards, &pool->shards.shard[i], now - DECAY_GRACE_MS, false);
}

/* One round; returns as rest_round. */
static unsigned round_at(struct pool *pool, uint32_t now) {
    if (!os_restricted) heap_fresh_learn_machine(&pool->heap);
    bool looks = time_passed_ms(now, looked_ms) >= DECAY_GRACE_MS;
    if (looks) {
        looked_ms = now;
        look_at_caches(pool, now);
    }
    limits_refresh(pool);
    unsigned wait = pool_tick(pool, now);
    n_idle_looks = wait ? 0 : n_idle_looks + looks;
    if (!wait && (n_idle_looks >= IDLE_LOOKS_MAX || !account_cached_bytes(pool, NULL))) {
        n_idle_looks = 0;
        return 0;
    }
    unsigned until_look = DECAY_GRACE_MS - (unsigned)min_size(time_passed_ms(now, looked_ms), DECAY_GRACE_MS);
    if (!wait || until_look < wait) wait = until_look;
    return wait > SOONEST_MS ? wait : SOONEST_MS;
}

unsigned rest_round(struct pool *pool) {
    if (!pool->ready || tcache_tls.entered) return LATER_MS;
    int saved = errno;
    uint32_t now = os_clock_ms(), since = atomic_load_explicit(&running, memory_order_relaxed);
    bool possible = (!since || time_passed_ms(now, since) > ROUND_MOST_MS) && fork_pass() &&
                    atomic_compare_exchange_strong_explicit(&running, &since, now | 1, memory_order_acquire,
                                                            memory_order_relaxed);
    unsigned wait = LATER_MS;
    if (possible) {
        tcache_tls.entered = IN_SLOW_PATH;
        wait = round_at(pool, now);
        tcache_tls.entered = 0;
        atomic_store_explicit(&running, 0, memory_order_release);
    }
    atomic_store_explicit(&due_ms, now + (wait ? wait : DECAY_GRACE_MS), memory_order_relaxed);
    errno = saved;
    return wait;
}
