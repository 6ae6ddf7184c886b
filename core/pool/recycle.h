/* SPDX-License-Identifier: MIT */
/* recycle.h: memory that is used again must not carry over what its last owner did to it.
 *
 * munmap forgets mlock, mprotect, MADV_DONTFORK, MADV_WIPEONFORK, MADV_DONTDUMP, overlays by MAP_FIXED; a recycled block keeps
 * them. We are not told of those calls, and asking the kernel (one mremap that cannot succeed and says whether the block lies in
 * one VMA with its neighbours, 0.2 us) at every free would cost fifty times the free. So:
 *   - the first RECYCLE_CHECK_ALL blocks of at least RECYCLE_MIN_BYTES that are freed after coming from heap or shard, and all that
 *     the thread caches' big slots take, are checked; programs that treat their memory so do it from the start;
 *   - after that without a finding, every RECYCLE_CHECK_EVERYth block from the heap, and a big slot once a second;
 *   - a block that is found changed is put right, and from then on every block of that size is checked at every free. Where
 *     it was one of those that thread caches keep in bins (up to 256 KiB), the bins keep none that large any more.
 * Guards (MADV_GUARD_INSTALL) cannot be found by asking. In the first RECYCLE_GUARD_PAGES of checked blocks they are removed, later
 * only those in the first and last page of a checked block, and all of them where something else was found.
 * What remains: a program that begins to do so after a thousand frees may see one such block recycled unmended. glibc recycles
 * blocks up to 32 MiB without looking from the second free on, so programs cannot rely on more below that size.
 */
#ifndef ZP_POOL_RECYCLE_H
#define ZP_POOL_RECYCLE_H

#include "pool/pool.h"

#define RECYCLE_MIN_BYTES (128 * KIB)
#define RECYCLE_CHECK_ALL 1000
#define RECYCLE_CHECK_EVERY 32
#define RECYCLE_GUARD_PAGES (128 * MIB / PAGE_BYTES)

/* A block leaves the heap or a shard: decide whether its next free is to check it. */
static inline void recycle_mark(struct pool *pool, struct extent *extent)
{
    if (extent_bytes(extent) < RECYCLE_MIN_BYTES) return;
    uint32_t n = READ_RELAXED(pool->n_checks);
    if (n < RECYCLE_CHECK_ALL || READ_RELAXED(pool->watchful) || n % RECYCLE_CHECK_EVERY == 0) extent->flags |= EXTENT_CHECK;
    if (!READ_RELAXED(pool->watchful) && n >= RECYCLE_CHECK_ALL) __atomic_store_n(&pool->n_checks, n + 1, __ATOMIC_RELAXED);
}

/* A block has come back by the slow path: is it to be checked? */
static inline bool recycle_wants(const struct pool *pool, const struct extent *extent)
{
    return extent->flags & (EXTENT_CHECK | EXTENT_CHANGED | EXTENT_REPLACED) ||
           (READ_RELAXED(pool->watchful) && extent_bytes(extent) >= RECYCLE_MIN_BYTES);
}

/* The program changes this range. `flag` says how:
 *   EXTENT_HUGE      advice about huge pages, which cannot be taken back by name and goes when the pages go
 *   EXTENT_CHANGED   attributes that can: protection, locks, fork and dump advice, access hints, merging, memory policy
 *   EXTENT_REPLACED  what only a new mapping forgets: other mappings, holes, guards
 * Live blocks in the range are marked. Where something else is found than live blocks, or nothing within NOTE_STEPS pages, the pool
 * becomes watchful. Takes no lock, makes no system call; any thread, any handler may call it. */
void recycle_note(struct pool *pool, const void *start, size_t length, uint16_t flag);

/* A live block of this pool gives back what lies beyond n_pages: if it was changed, make that part plain memory. */
void recycle_mend_tail(struct pool *pool, struct extent *extent, size_t n_pages);

/* May thread caches take big blocks back without a check? */
static inline bool recycle_trusts(const struct pool *pool)
{
    return READ_RELAXED(pool->n_checks) >= RECYCLE_CHECK_ALL && !READ_RELAXED(pool->watchful) && !pool->limited;
}

/* A block that recycle_wants comes back: make it plain memory again. */
void recycle_check(struct pool *pool, struct extent *extent);

#endif
