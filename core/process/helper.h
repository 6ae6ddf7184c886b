/* SPDX-License-Identifier: MIT */
/* helper.h: the background thread that gives memory back while the program makes no calls.
 *
 * Why a thread   A decay clock that ticks only on allocator calls never fires in an idle process, the most
 *                repeated complaint about allocators. Signals and timers would interrupt the program's system
 *                calls, and a process of its own shows among the program's children. os_helper.c says what
 *                kind of thread, and why.
 * When           Started at the first allocation that brings the pool above HELPER_START_BYTES in a process
 *                that has several threads already, so that those who count its tasks (Python at a fork, the
 *                kernel at unshare) find one where there is one. Leaves after three looks at the thread
 *                caches at which less than HELPER_LEAVE_BYTES was left, live or idle, and nothing had to
 *                decay any more; within a second when the program has one thread again or its room for tasks
 *                gets scarce; at once when it is dismissed. Comes back when as much is in use again. One per
 *                process. It runs only code of the pool, and handlers of signals that are sent to the very
 *                thread (os_helper_signals.c).
 * When not       ZEROPOOL_BACKGROUND=off; under valgrind or a debugger; under a seccomp filter; where user
 *                ids differ (os_helper.c); where fewer than 256 places for tasks are left.
 *                ZEROPOOL_BACKGROUND=on starts it in processes with one thread, too. Without it memory decays
 *                on the program's own calls.
 * After fork     the child has none and starts its own by the same rule.
 */
#ifndef ZP_PROCESS_HELPER_H
#define ZP_PROCESS_HELPER_H

#include "pool/pool.h"
#include "sync/background.h"

#define HELPER_START_BYTES (8 * MIB)
#define HELPER_LEAVE_BYTES (HELPER_START_BYTES / 2)

/* Put a pool, before it is used, under the care of the thread, and give it the lowest number that is free;
 * false if there are too many pools (it then decays on activity only). */
bool helper_add_pool(struct pool *pool);
/* How many there are. */
unsigned helper_count_pools(void);
/* Returns when the thread no longer touches the pool. */
void helper_remove_pool(struct pool *pool);

/* See background_poke. */
void helper_start_for(size_t held_bytes);

/* After a refusal for a passing reason (a debugger, a limit, no memory or descriptors) the next start is
 * tried after this time. Tests shorten it. */
extern unsigned helper_retry_ms;

/* Start it now, whatever is allocated, and for good, and have it call visit, unless NULL, at least so often;
 * that may only do what the thread may do (os_helper.c). In forked children it is started by need, but calls
 * visit, too. False: it cannot be started, and visit will not be called. */
bool helper_start_for_good(void (*visit)(void), unsigned every_ms);

/* false: never start one; true: also in a process with one thread. By default only in processes with
 * several. */
void helper_allow(bool allowed);

/* Make it leave, and wait for that; it does not come back within HELPER_AWAY_MS. False: it has not left in
 * time. A start that goes on in another thread is waited for. Not in the thread itself. */
bool helper_dismiss(unsigned timeout_ms);
#define HELPER_AWAY_MS 1000
/* Is it there, as the only task beside the caller? Not where it calls somebody's visit. */
bool helper_is_only_company(void);

void helper_fork_child(void);
void helper_for_each_pool(void (*visit)(struct pool *));

#endif
