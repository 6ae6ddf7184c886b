/* SPDX-License-Identifier: MIT */
/* rest.h: giving idle memory back on a thread of the program that waits, in processes without the background
 * thread.
 *
 * A program at rest waits in a call. Who interposes such calls (shim/rest_*.c) waits in steps and runs a
 * round between them: what the thread's own cache and the shards hold is given up if it has rested, then the
 * decay curve advances.
 *
 *   state                  who writes                        who reads
 *   running                whoever runs a round              whoever wants to: one round at a time
 *   lease owner, until     the thread that waits in steps    all others, which then wait in one
 *   looked_ms, seen, due   whoever runs a round              the same; due_ms as a hint: anybody
 *
 * Both marks hold for a time only: their owner may be gone (a fork, a handler that jumps out of the wait).
 */
#ifndef ZP_PROCESS_REST_H
#define ZP_PROCESS_REST_H

#include "pool/pool.h"

/* Less idle memory than this is not worth a step. */
#define REST_LEAST_BYTES MIB
/* A shorter wait is no rest. Not a multiple of usual timer periods. */
#define REST_FIRST_MS 23
/* If no wait lasts that long, a round is run nevertheless once it is so late. */
#define REST_OVERDUE_MS 1000

bool rest_is_wanted(const struct pool *pool);

/* Is there idle memory that nobody else gives back? A few loads; no system call. */
static inline bool rest_wanted(const struct pool *pool) {
    if (likely(READ_RELAXED(pool->heap.active_bytes) + READ_RELAXED(pool->heap.dirty_bytes) <
               REST_LEAST_BYTES))
        return false;
    return rest_is_wanted(pool);
}

/* Become the one thread that waits in steps. False: another one does. Again before each step, with its
 * length. */
bool rest_claim(unsigned step_ms);
void rest_unclaim(void);

/* How long ago a round should have been run; negative: in so many milliseconds. */
int32_t rest_overdue_ms(void);

/* One round. The caller holds no lock, and no handler may jump out of it: signals are blocked, where that is
 * allowed. Returns the milliseconds until it wants to be called again, 0 if there is nothing left to give
 * back. Preserves errno. */
unsigned rest_round(struct pool *pool);

#endif
