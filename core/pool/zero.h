/* SPDX-License-Identifier: MIT */
/* zero.h: zeroed blocks, and what is learned from how earlier blocks were touched.
 *
 * A block that may be dirty can be made zero by memset (fast if the program then touches all of it: the pages
 * stay) or by purging it (fast if the program touches little of it: pages come back one fault each). Neither
 * is right for all, so a block handed out untouched is looked at when it is freed: pages at random are asked
 * for with mincore, and a habit (habit.h) is kept of who asks for zeroed blocks, by the place of the call and
 * the power of two of size. A block cleared in place leaves the kernel nothing to tell. What it holds when it
 * is about to be cleared again tells whether it was written meanwhile. Only then is it read: the memset will
 * touch it anyway, while a block that comes back may have been made inaccessible behind our back.
 *
 * Of malloc'ed blocks the habit is kept by size alone. It decides about huge pages on fresh memory, and
 * whether it is made resident at once (heap_fresh.h): only where blocks have been filled, and one sparse
 * block takes that right away for several dense ones. So as not to wait until blocks come back, a block that
 * was left as it was, or made resident, is looked at when the next ones are asked for; what it holds is asked
 * of the kernel, since its owner may do what he likes with it meanwhile. Every FRESH_PROBE_EVERYth block is
 * left as it is, and more of them while none has been seen filled for long (AHEAD_MIN_BYTES).
 */
#ifndef ZP_POOL_ZERO_H
#define ZP_POOL_ZERO_H

#include "pool/pool.h"

/* Huge pages are never asked for below this: aligning blocks of 5-25 MiB to 2 MiB cost 14 % more memory than
 * it saved time. */
#define HUGE_MIN_BYTES (32 * MIB)
/* Below this a zeroed block is always cleared with memset: giving the pages back and two faults cost more (7
 * us, as much as clearing 448 KiB) even for a sparse program. Where a fault costs more than 1 us (measured on
 * the first ZERO_LOOKS blocks that are purged; 12 us under some hypervisors) the bound rises with it: at 12
 * us clearing 4 MiB (42 us) is still faster than purging and two faults (64 us), 16 MiB (250 us against 73)
 * is not. */
#define ZERO_MEMSET_BYTES (448 * KIB)
#define ZERO_MEMSET_MAX_BYTES (8 * MIB)
#define ZERO_MEMSET_BYTES_PER_NS 448
#define ZERO_LOOKS 4

/* Memory made resident beforehand, and by nobody seen to be used, is at most so much for each power of two of
 * size: a program that changes its habit and frees nothing must not swell. */
#define AHEAD_MIN_BYTES (32 * MIB)
#define AHEAD_SHARE_LOG2 2

/* Blocks below this are always cleared. */
size_t zero_memset_bytes(const struct pool *pool);

/* A block that is zero to its end, as far as malloc_usable_size says, for a call at that place; NULL if
 * refused. */
void *zero_get_for(struct pool *pool, struct tcache *tcache, size_t n_pages, const void *site);
static inline void *zero_get(struct pool *pool, struct tcache *tcache, size_t n_pages) {
    return zero_get_for(pool, tcache, n_pages, NULL);
}

/* Should fresh memory for such a block be backed by huge pages? */
bool zero_wants_huge(struct pool *pool, size_t n_pages, bool zeroed);

/* Do blocks of this size count as used when they are handed out untouched (budget.h)? Small ones, those that
 * are seen filled, and all where nobody can look. */
bool zero_is_proven(const struct pool *pool, size_t n_pages, bool zeroed);
#define ZERO_UNPROVEN_BYTES MIB

/* A block that has grown comes back: was what it grew by last used? */
void zero_observe_tail(struct pool *pool, const struct extent *extent);
/* Is the last growth of blocks of this size left untouched, as far as is known? Then warm memory is not given
 * for it. */
bool zero_tail_is_sparse(const struct pool *pool, size_t n_pages);

/* Will a block of untouched memory of this size be filled, as far as is known? */
bool zero_expects_filled(struct pool *pool, size_t n_pages, bool zeroed);

/* Before a block that is not zeroed is asked of the heap: look at earlier ones of its size. */
void zero_look_back(struct pool *pool, size_t n_pages);

/* A block is handed out of which so much was untouched: note whether to look at it later. */
void zero_mark_fresh(struct pool *pool, struct extent *extent, size_t fresh_bytes, bool zeroed);

/* Such a block has come back: learn. */
void zero_observe(struct pool *pool, struct extent *extent);

#endif
