/* SPDX-License-Identifier: MIT */
/* zero.h: zeroed blocks, and what is learned from how earlier blocks were touched.
 *
 * A block that may be dirty can be made zero by memset (fast if the program then touches all of it: the pages
 * stay) or by purging it (fast if the program touches little of it: pages come back one fault each). Neither
 * is right for all, so blocks handed out untouched are looked at when they are freed: sixteen pages spread
 * over the block are asked for with mincore, and per power of two of size a small saturating counter
 * remembers whether such blocks get filled. The same knowledge decides about huge pages on fresh memory, and
 * whether it is made resident at once (heap_fresh.h): only where blocks have been filled, and one sparse
 * block takes that right away for several dense ones. So as not to wait until blocks come back, a block that
 * was left as it was is looked at when the next ones are handed out. Memory made resident teaches nothing, so
 * every FRESH_PROBE_EVERYth block is left as it is, and more of them while none has been seen filled for long
 * (AHEAD_MIN_BYTES).
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

/* Make the first n_bytes of a live block zero, the best way for its size. */
void zero_clear(struct pool *pool, struct extent *extent, size_t n_bytes);

/* A block that is zero to its end, as far as malloc_usable_size says; NULL if refused. */
void *zero_get(struct pool *pool, struct tcache *tcache, size_t n_pages);

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

/* A block is handed out of which so much was untouched. Looks back at an earlier one, and notes whether to
 * look at this one later. */
void zero_mark_fresh(struct pool *pool, struct extent *extent, size_t fresh_bytes, bool zeroed);

/* Such a block has come back: learn. */
void zero_observe(struct pool *pool, struct extent *extent);

#endif
