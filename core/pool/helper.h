/* SPDX-License-Identifier: MIT */
/* helper.h: the background thread that gives memory back while the program makes no calls.
 *
 * Why a thread   A decay clock that ticks only on allocator calls never fires in an idle process, the most repeated
 *                complaint about allocators. Signals and timers would interrupt the program's system calls, and a process of its own
 *                shows among the program's children. os_helper.c says what kind of thread, and why.
 * When           Started at the first allocation that brings the pool above HELPER_START_BYTES; leaves after three looks at the thread
 *                caches at which less than HELPER_LEAVE_BYTES was left, live or idle, and nothing had to decay any more; comes back
 *                when as much is in use again. One per process. All signals blocked; it runs only code of the pool.
 * When not       ZEROPOOL_BACKGROUND=off; under valgrind or a debugger; in programs that must stay single-threaded, and in forked
 *                children of programs that may install a seccomp filter (shim/sandbox.h). Memory then decays on the
 *                program's own calls.
 * After fork     the child has none and starts its own by the same rule.
 * It polls: waking it would take a system call on the program's side, which a seccomp filter might forbid.
 */
#ifndef ZP_POOL_HELPER_H
#define ZP_POOL_HELPER_H

#include "pool/pool.h"

#define HELPER_START_BYTES (8 * MIB)
#define HELPER_LEAVE_BYTES (HELPER_START_BYTES / 2)
#define HELPER_POLL_MS 1000
#define HELPER_POOLS_MAX 1024

/* Put a pool under the care of the thread; false if there are too many pools (it then decays on activity only). */
bool helper_add_pool(struct pool *pool);
/* Returns when the thread no longer touches the pool. */
void helper_remove_pool(struct pool *pool);

/* Start the thread if it is wanted and not running. Called on slow paths, without locks. */
void helper_poke(struct pool *pool);

/* So long after a start was refused for what may pass (a debugger, RLIMIT_NPROC, no memory or descriptors) it is not tried again; in programs that
 * may install a seccomp filter it never is. Tests shorten it. */
extern unsigned helper_retry_ms;

/* Start it now, whatever is allocated, and for good, and have it call visit, unless NULL, at least so often; that may only do what the thread may do
 * (os_helper.c). In forked children it is started by need, but calls visit, too. False: it cannot be started, and visit will not be called. */
bool helper_start_for_good(void (*visit)(void), unsigned every_ms);

/* Off: never start one. */
void helper_allow(bool allowed);

/* Learn the limit of the control group, which the thread does otherwise in its first round. Pools put under its care afterwards have it at once, others with
 * their next helper_poke or the thread's next round: they may be destroyed meanwhile, so this does not touch them. Reads files; where descriptors or memory are too short
 * for that, the next call from helper_retry_ms on tries again. */
void helper_learn_limit(void);
/* Forked children of this process must not start one. */
void helper_forbid_in_children(void);

bool helper_runs(void);
/* Is the caller the background thread? */
bool helper_is_self(void);
void helper_fork_child(void);
void helper_for_each_pool(void (*visit)(struct pool *));

#endif
