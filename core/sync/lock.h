/* SPDX-License-Identifier: MIT */
/* lock.h: a lock that nobody ever waits on for ever.
 *
 * An allocator below arbitrary programs cannot afford a blocking lock: the holder may have been lost in a
 * fork, or be the very thread that a signal handler interrupted. So acquisition gives up after a bounded
 * time, and every caller has another way out: malloc goes to the next allocator, free to a lock-free list.
 *
 * Order: the free thread caches (tcache.c), a shard, the heap; a thread takes only locks further down than
 * those it holds. Nothing checks that, but for the bounded waits.
 */
#ifndef ZP_SYNC_LOCK_H
#define ZP_SYNC_LOCK_H

#include "base/bits.h"
#include "os/os.h"
#include "sync/counters.h"

#include <stdatomic.h>

struct lock {
    _Atomic uint32_t held;
    /* Somebody has given up and nobody has had the lock since: its holder may never come back, so others wait
     * for a shorter time. Read and written without order: at worst one wait has the wrong length. */
    bool doubtful;
    COUNTED_LOCK
};

/* Spins before yielding: about as long as a heap operation holds the lock. */
#define LOCK_SPINS 200
/* Spins before giving up without a yield: a holder that takes longer has usually been preempted. */
#define LOCK_BRIEF_SPINS 40
/* How long to yield before giving up: a preempted holder gets several time slices to come back. */
#define LOCK_PATIENCE_NS 20000000u
/* The same for a doubtful lock. */
#define LOCK_DOUBT_NS 200000u

static inline bool lock_try(struct lock *lock) {
    if (atomic_load_explicit(&lock->held, memory_order_relaxed) != 0 ||
        atomic_exchange_explicit(&lock->held, 1, memory_order_acquire) != 0)
        return false;
    if (unlikely(READ_RELAXED(lock->doubtful))) WRITE_RELAXED(lock->doubtful, false);
    COUNT_LOCKED(lock);
    return true;
}

/* Between two looks at what another thread is doing. */
static inline void lock_relax(void) {
    os_yield();
}

/* True once the lock is held, false after a bounded time. May yield the processor. */
bool lock_patiently(struct lock *lock);

static inline bool lock_acquire(struct lock *lock) {
    if (unlikely(os_fault_lock())) return false; /* only in builds with -DZP_FAULT */
    if (likely(lock_try(lock))) return true;
    COUNT_CONTENDED(lock);
    return lock_patiently(lock);
}

/* The same without yielding the processor, for callers whose other way out is nearly as good. False unless a
 * working holder lets go of the lock. */
bool lock_briefly(struct lock *lock);

static inline bool lock_acquire_briefly(struct lock *lock) {
    if (unlikely(os_fault_lock())) return false;
    return likely(lock_try(lock)) || lock_briefly(lock);
}

/* Pairs with the acquire in lock_try. */
static inline void lock_release(struct lock *lock) {
    atomic_store_explicit(&lock->held, 0, memory_order_release);
}

#endif
