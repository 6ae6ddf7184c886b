/* SPDX-License-Identifier: MIT */
/* fork.c: repairs after fork. See fork.h. */
#include "process/fork.h"

#include "os/os.h"
#include "process/helper.h"
#include "observe/stats.h"

#define WAIT_NS 100000000u

static void forget_shards(struct pool *pool) {
    for (unsigned i = 0; i < pool->shards.n; i++) {
        struct shard *shard = &pool->shards.shard[i];
        for (unsigned cls = 0; cls < shard->end_class; cls++) {
            shard->bins[cls] = NULL;
            atomic_store_explicit(&pool->shards.holders[cls], 0, memory_order_relaxed);
        }
        shard->bytes = shard->n_blocks = 0;
        policy_init(&shard->policy, shard->policy.kind, shard->policy.marks);
        lock_release(&shard->lock);
    }
}

static void repair(struct pool *pool) {
    if (!pool->ready) return;
    forget_shards(pool);
    heap_rebuild(&pool->heap);
    atomic_store_explicit(&pool->tcaches.n, 1, memory_order_relaxed);
    WRITE_RELAXED(pool->slots_closed_ms, 0);
    /* The thread that was handing counts over is not here. */
    uint32_t n_begun = atomic_load_explicit(&pool->gone.n_folds_begun, memory_order_relaxed);
    atomic_store_explicit(&pool->gone.n_folds_ended, n_begun, memory_order_relaxed);
    if (stats_wanted) pool_stats_fork_child(pool);
}

/* Repairing takes microseconds; as with a lock, wait for a bounded time. */
static bool wait_for_repair(void) {
    /* By the clock: a number of yields says nothing about the progress of others. */
    uint64_t end_ns = os_clock_ns() + WAIT_NS;
    while (os_clock_ns() < end_ns) {
        if (__atomic_load_n(fork_door, __ATOMIC_ACQUIRE) == FORK_DOOR_OPEN) return true;
        lock_relax();
    }
    return false;
}

static bool repair_all(bool alone) {
    /* Forked from a signal handler that has interrupted this thread in a slow path or in its cache: repaired
     * when the handler has ended. */
    if (tcache_tls.entered || tcache_owner_is_inside()) return false;
    uint32_t closed = FORK_DOOR_CLOSED;
    if (!__atomic_compare_exchange_n(fork_door, &closed, FORK_DOOR_REPAIRING, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return wait_for_repair();
    tcache_tls.entered = IN_SLOW_PATH;
    os_limits_fork_child();
    helper_fork_child();
    tcache_fork_child(alone);
    helper_for_each_pool(repair);
    tcache_tls.entered = 0;
    __atomic_store_n(fork_door, FORK_DOOR_OPEN, __ATOMIC_RELEASE);
    return true;
}

bool fork_repair(void) {
    return repair_all(false);
}

void fork_child(void) {
    if (fork_door && __atomic_load_n(fork_door, __ATOMIC_ACQUIRE) == FORK_DOOR_CLOSED) repair_all(true);
}
