/* SPDX-License-Identifier: MIT */
/* lock.c: the contended half of the bounded lock. */
#include "sync/lock.h"

bool lock_briefly(struct lock *lock) {
    for (int i = 0; i < LOCK_BRIEF_SPINS; i++) {
        cpu_pause();
        if (lock_try(lock)) return true;
    }
    return false;
}

bool lock_patiently(struct lock *lock) {
    for (int i = 0; i < LOCK_SPINS; i++) {
        if (lock_try(lock)) return true;
        cpu_pause();
    }
    uint64_t end_ns = os_clock_ns() + (READ_RELAXED(lock->doubtful) ? LOCK_DOUBT_NS : LOCK_PATIENCE_NS);
    while (os_clock_ns() < end_ns) {
        if (lock_try(lock)) return true;
        lock_relax();
    }
    WRITE_RELAXED(lock->doubtful, true);
    COUNT_GIVEN_UP(lock);
    return false;
}
