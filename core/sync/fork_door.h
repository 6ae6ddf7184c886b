/* SPDX-License-Identifier: MIT */
/* fork_door.h: the word that says whether this is a forked child that has not been repaired.
 *
 * It lies in a page marked MADV_WIPEONFORK and is the door to every slow path:
 *   OPEN       the normal state; one load
 *   CLOSED     a child, not yet repaired: whoever comes first repairs it (process/fork.h)
 *   REPAIRING  somebody is at it: others wait a bounded time; then gets are refused (the next allocator
 *              serves them) and puts are deferred without a lock
 */
#ifndef ZP_SYNC_FORK_DOOR_H
#define ZP_SYNC_FORK_DOOR_H

#include "sync/upcalls.h"
#include "base/bits.h"

enum { FORK_DOOR_CLOSED = 0, FORK_DOOR_OPEN = 1, FORK_DOOR_REPAIRING = 2 };

/* NULL before there is a pool, and where the kernel has no such pages. */
extern uint32_t *fork_door __attribute__((visibility("hidden")));

/* Map the page. Called at pool creation; later calls do nothing. */
void fork_door_prepare(void);

/* Every slow path begins with it, and does nothing else if it is false. */
static inline bool fork_pass(void) {
    return likely(!fork_door || __atomic_load_n(fork_door, __ATOMIC_ACQUIRE) == FORK_DOOR_OPEN) ||
           upcalls.fork_repair();
}

#endif
