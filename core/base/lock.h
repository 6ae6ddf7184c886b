/* SPDX-License-Identifier: MIT */
/* lock.h: a lock that nobody ever waits on for ever.
 *
 * An allocator below arbitrary programs cannot afford a blocking lock: the holder may have been lost in a fork, or
 * be the very thread that a signal handler interrupted. So acquisition gives up after a bounded time, and every
 * caller has another way out: malloc goes to the next allocator, free to a lock-free list.
 *
 * Ranks order the locks; a thread only takes locks of a higher rank than those it holds. Checked in debug builds.
 */
#ifndef ZP_BASE_LOCK_H
#define ZP_BASE_LOCK_H

#include "base/bits.h"
#include "os/os.h"

#include <stdatomic.h>

enum lock_rank {
    LOCK_RANK_NONE,
    LOCK_RANK_REGISTRY, /* the list of thread caches */
    LOCK_RANK_SHARD,
    LOCK_RANK_HEAP,
};

struct lock {
    _Atomic uint32_t held;
    uint32_t rank;
};

/* Spins before yielding: about as long as a heap operation holds the lock. */
#define LOCK_SPINS 200
/* How long to yield before giving up: a preempted holder gets several time slices to come back. */
#define LOCK_PATIENCE_NS 20000000u

static inline bool lock_try(struct lock *lock)
{
    return atomic_load_explicit(&lock->held, memory_order_relaxed) == 0 &&
           atomic_exchange_explicit(&lock->held, 1, memory_order_acquire) == 0;
}

/* True once the lock is held, false after a bounded time. May yield the processor. */
bool lock_patiently(struct lock *lock);

static inline bool lock_acquire(struct lock *lock)
{
    if (unlikely(os_fault_lock())) return false; /* never but in builds with -DZP_FAULT */
    if (likely(lock_try(lock))) return true;
    return lock_patiently(lock);
}

/* Pairs with the acquire in lock_try. */
static inline void lock_release(struct lock *lock)
{
    atomic_store_explicit(&lock->held, 0, memory_order_release);
}

#endif
