/* SPDX-License-Identifier: MIT */
/* lock.c: the contended half of the bounded lock. */
#include "base/lock.h"

#include "os/os.h"

bool lock_patiently(struct lock *lock)
{
    for (int i = 0; i < LOCK_SPINS; i++) {
        if (lock_try(lock)) return true;
        cpu_pause();
    }
    for (int i = 0; i < LOCK_YIELDS; i++) {
        if (lock_try(lock)) return true;
        if (os_restricted)
            for (int spin = 0; spin < LOCK_SPINS; spin++)
                cpu_pause();
        else
            os_yield();
    }
    return false;
}
