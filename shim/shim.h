/* SPDX-License-Identifier: MIT */
/* shim.h: what the files of the preload library share.
 *
 * A call goes   malloc.c / aligned.c / info.c (the interposed functions)
 *               -> the pool, if the request is at least the threshold, or the pointer lies in the pool's span
 *               -> next.c, the allocator that would have served the call without us
 *
 * Files, lowest first; none uses one that uses it (core/tests/check_layers.py): state.c (the pool, the
 * thresholds), symbols.c, raw.c, system.c (the memory calls behind us), hardened_load.c, next.c (all tables
 * and their lookup), setup.c (the pool is set up), the interposed functions, init.c.
 *
 * Life
 * - Before the constructor everything works: the next allocator is looked up at the first call, with
 *   bootstrap memory for what that lookup itself allocates; the pool is set up at the first large request,
 *   with default options.
 * - Constructor (init.c): options from the environment, the thread-exit key.
 * - After destructors nothing is torn down, so late calls are ordinary calls.
 */
#ifndef ZP_SHIM_SHIM_H
#define ZP_SHIM_SHIM_H

#include "sync/options.h"
#include "family.h"
#include "pool/pool.h"

/* Large data that most programs never use. The linker puts this section last, away from other data. */
#define RARELY_USED __attribute__((section(".lbss")))

extern struct pool shim_pool HIDDEN;
struct shim_sizes {
    /* Requests below it go to the next allocator. SIZE_MAX where the pool is switched off. */
    size_t threshold;
    /* Requests below it take a jump, and their failure is not handled. It equals the threshold until a limit
     * has been seen that counts the pool's idle memory (limits_seen), then it is 0. */
    size_t jumps_below;
};
extern struct shim_sizes shim_sizes HIDDEN;
void shim_set_threshold(size_t bytes) HIDDEN;
/* The program is about to set a limit that counts what the pool holds idle. */
void shim_note_limit(void) HIDDEN;

/* If the user has not set the threshold, it falls to this once the pool holds SHIM_LOWER_BYTES for the
 * program, or SHIM_LOWER_USES of its requests have missed the thread caches' exact classes: small blocks then
 * come faster and take less memory. A program that never needs much keeps its small blocks where they were.
 * 0: not to be lowered, or done. */
#define SHIM_LOWER_TO (16 * KIB)
#define SHIM_LOWER_BYTES (8 * MIB)
#define SHIM_LOWER_USES 2048
extern size_t shim_lower_threshold HIDDEN;
/* The first threshold. Smaller blocks of the next allocator have never been offered to the pool. */
extern size_t shim_first_threshold HIDDEN;
void shim_note_use(void) HIDDEN;

/* The allocator behind us. The pointers are valid from the first instruction on: they begin as functions that
 * look the real ones up. Written once, by whoever comes first; all writers write the same values. */
extern struct next_allocator next HIDDEN;
void next_resolve(void) HIDDEN;

/* True for memory handed out while the next allocator was being looked up; such memory is never freed. */
bool bootstrap_owns(const void *p) HIDDEN;
size_t bootstrap_size(const void *p) HIDDEN;

/* The functions whose first eight bytes sites.c replaces by a jump, in programs that are profiled: as this
 * library has them, whoever else defines the name. */
#ifdef ZP_PLAIN
#define REPLACEABLE EXPORT
#define REPLACEABLE_AS(name) struct pool
#else
#define REPLACEABLE EXPORT __attribute__((aligned(16)))
#define REPLACEABLE_AS(name)                                                                                 \
    extern __typeof__(name) shim_##name __attribute__((alias(#name), copy(name), visibility("hidden")))
#endif

/* --- setup.c, state.c --- */

/* Set the pool up if that has not been done. False if it cannot be set up (yet): use the next allocator. */
bool shim_ready(void) HIDDEN;

/* The next allocator or the kernel has refused size bytes: see limits_make_room. True if a retry makes
 * sense. */
bool shim_make_room(size_t size) HIDDEN;
/* The kernel has refused to copy the process: see limits_make_room_for_copy. */
bool shim_make_room_for_copy(void) HIDDEN;

/* The program has told the next allocator itself when to give memory back (mallopt). */
extern bool shim_next_is_tuned HIDDEN;

/* --- the ways into the pool, without the next allocator --- */

/* Whole pages, at least one; correct for every size. */
static inline size_t shim_pages(size_t size) {
    return size ? ((size - 1) >> PAGE_SHIFT) + 1 : 1;
}

static inline bool shim_owns(const void *p) {
    return space_owns(&shim_pool.heap.space, p);
}

static inline void *shim_pool_get(size_t size) {
    return pool_get(&shim_pool, tcache_tls.first, shim_pages(size));
}

#endif
