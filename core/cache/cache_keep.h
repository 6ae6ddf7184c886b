/* SPDX-License-Identifier: MIT */
/* cache_keep.h: which of the blocks that come back a thread cache keeps, and which it gives up for them.
 *
 * All of it is called by the cache's owner inside a slow path.
 */
#ifndef ZP_CACHE_CACHE_KEEP_H
#define ZP_CACHE_CACHE_KEEP_H

#include "cache/tcache.h"

/* Give the block in the slot for big blocks to the heap, so that it can merge. */
void cache_flush_big(struct tcaches *caches, struct tcache *tcache);

/* The block in the slot for big blocks, which is empty then; NULL if it was. */
struct extent *cache_take_big(struct tcache *tcache);

/* A big block has come back: is it for other threads (TCACHE_UNUSED_BIG)? Then what is in the slot is,
 * too. */
bool cache_hands_over(struct tcache *tcache);

/* The thread has asked for a big block, so it may keep one again. True if it has handed over its last
 * ones. */
bool cache_keeps_again(struct tcache *tcache);

/* Keep a block of state CACHED, if `keep` says so. What has to go for it, or the block itself where it is not
 * kept, goes to shards and heap. */
void cache_put(struct tcaches *caches, struct tcache *tcache, struct extent *extent, bool keep);

#endif
