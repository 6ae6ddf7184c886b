/* SPDX-License-Identifier: MIT */
/* fork.h: what a forked child finds, and does about it.
 *
 * Nothing is registered with pthread_atfork and no lock is held across fork: allocators that do so deadlock against stdio.
 * A page marked MADV_WIPEONFORK reads zero in a child, which every slow path checks with one load. The child then
 * has one thread; what other threads had locked at the moment of the fork is not to be trusted:
 *   heap lock held     the pool is retired: it refuses all requests, and returned blocks are leaked
 *   shard lock held    that shard is emptied, its blocks leaked
 *   thread cache busy  its blocks are leaked; caches of the other threads that were at rest are emptied into the pool
 * vfork children share the parent's memory and see nothing; they must not do more than exec.
 */
#ifndef ZP_POOL_FORK_H
#define ZP_POOL_FORK_H

#include "pool/pool.h"

extern uint32_t *fork_word __attribute__((visibility("hidden")));

/* Map the page. Called at pool creation; later calls do nothing. */
void fork_setup(void);

static inline bool fork_detected(void)
{
    return fork_word && __atomic_load_n(fork_word, __ATOMIC_RELAXED) == 0;
}

/* Put a pool right in the child. With several pools each is handled at its first slow path. */
void fork_child(struct pool *pool);

#endif
