/* SPDX-License-Identifier: MIT */
/* account.h: the one account of idle memory: the heap's, the shards', and what lies in thread caches.
 *
 * The heap counts what it hands out. What of that the program has returned lies in caches, whose owners count
 * for themselves, so that a hit costs no shared line. It is summed up only when the answer matters: before
 * untouched memory is taken that would bring the sum of live and idle over the budget (budget.h). If caches
 * hold too much of it then, they are emptied into the heap, those of sleeping threads first.
 *
 * Slots of other threads that had to be emptied although their threads work show that there are more slots
 * than blocks in use: they stay closed for a while, and big blocks pass through the heap, where everybody
 * finds them.
 */
#ifndef ZP_POOL_ACCOUNT_H
#define ZP_POOL_ACCOUNT_H

#include "pool/pool.h"

/* What a thread cache of this pool holds. Safe beside its owner, and beside the destruction of other pools:
 * the cache may change its pool meanwhile, so only descriptors of this one are read. */
size_t account_tcache_bytes(const struct pool *pool, const struct tcache *tcache);

/* What lies in the shards. */
size_t account_shards_bytes(const struct pool *pool);

/* All that lies in caches and shards, in bytes. *unproven, unless NULL: how much of that does not count as
 * live anyway (heap.h: unproven_bytes). A walk over all caches ever made; a hint by the time it returns. */
size_t account_cached_bytes(const struct pool *pool, size_t *unproven);

/* How many blocks that is: those in thread caches, and those in shards. */
size_t tcache_count_blocks(struct pool *pool);
size_t shard_count_blocks(struct pool *pool);

/* Inside a slow path, no lock held: n_bytes of untouched memory are wanted and the budget may be out of date
 * (heap_request.over). Sums up, and takes from caches what is over it. */
void account_settle(struct pool *pool, size_t n_bytes, bool proven);

/* Are the slots for big blocks closed at this moment? A plain read and the coarse clock. */
bool account_slots_closed(const struct pool *pool);

#endif
