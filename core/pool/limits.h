/* SPDX-License-Identifier: MIT */
/* limits.h: what the machine and its owners allow, and what follows for idle memory.
 *
 * Memory      Idle memory must never be the reason for a kill. What is marked (EXTENT_MUZZY) the kernel takes
 *             before it kills anybody; what has rested for some tens of milliseconds is (decay.h). What is
 *             younger than that may be at most an eighth of the memory there is, the machine's or the control
 *             group's, or half of what the group has left, if that is less: more is marked as it is freed. A
 *             block larger than that does not lie in a thread's slot.
 * Addresses   Under RLIMIT_AS or RLIMIT_DATA a stack that grows, a thread that starts or a library that is
 *             loaded may need addresses that idle memory holds, and cannot ask for them. So some are always
 *             left: LIMITS_ROOM_BYTES or an eighth of the limit; idle memory is unmapped for that.
 *
 * Limits are read anew while the program works, since they change and processes move between groups; not
 * under a seccomp filter, where what was known last holds. Fields of the heap are written by whoever reads
 * them first; a lost update is harmless.
 */
#ifndef ZP_POOL_LIMITS_H
#define ZP_POOL_LIMITS_H

#include "pool/pool.h"

/* Has a limit been seen (addresses, strict overcommit, locked memory) that counts what the pool holds idle?
 * Only then can limits_make_room help a call that has failed. Never goes back to false: limits change at any
 * time and are read late, and to look for failures in vain costs little. */
static inline bool limits_seen(const struct pool *pool) {
    return __atomic_load_n(&pool->heap.limit_seen, __ATOMIC_SEQ_CST);
}

/* One has been seen, or is about to be set. Any thread, any handler. */
static inline void limits_note(struct pool *pool) {
    __atomic_store_n(&pool->heap.limit_seen, true, __ATOMIC_SEQ_CST);
    if (pool->zero_at_limit) WRITE_RELAXED(*pool->zero_at_limit, 0);
}

#define LIMITS_MEMORY_SHARE 8
#define LIMITS_LEAST_BYTES (4 * MIB)
#define LIMITS_ROOM_BYTES (64 * MIB)

/* Read them now, for a pool that is set up where files may not be read any more. */
void limits_learn(void);

/* Read the limits if they have not been read for a while. Inside a slow path, no lock held. */
void limits_refresh(struct pool *pool);

/* At set-up: what is known by then. */
void limits_prepare(struct pool *pool);

/* Something has become idle, or somebody else has mapped something: mark and unmap what the limits do not
 * allow. Inside a slow path, no lock held. Some plain reads if there is nothing to do. */
void limits_keep(struct pool *pool);

/* A mapping of n_bytes has been refused. If what the pool holds idle may be the reason, and suffices, unmap
 * what is missing, and no more. True if a second try makes sense. Inside a slow path, no lock held. */
bool limits_make_room(struct pool *pool, size_t n_bytes);

/* A fork has been refused for want of memory. Where memory is strictly accounted the child is charged for all
 * that is mapped: unmap all that is idle. True if a second try makes sense. Inside a slow path, no lock
 * held. */
bool limits_make_room_for_copy(struct pool *pool);

/* RLIMIT_AS, RLIMIT_DATA may have changed. */
void limits_addresses_changed(struct pool *pool);

#endif
