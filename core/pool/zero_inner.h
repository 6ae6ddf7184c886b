/* SPDX-License-Identifier: MIT */
/* zero_inner.h: between zero.c and zero_fresh.c. */
#ifndef ZP_POOL_ZERO_INNER_H
#define ZP_POOL_ZERO_INNER_H

#include "pool/pool.h"

static inline struct learned *learned_of(struct pool *pool, size_t n_pages) {
    return fill_of(&pool->learned, n_pages);
}

/* Which block, and of which size; also of one that somebody else may be freeing. */
static inline uint64_t block_number(const struct pool *pool, const struct extent *extent) {
    uint64_t page = space_offset(&pool->heap.space, READ_RELAXED(extent->address)) >> PAGE_SHIFT;
    return page << LAST_FRESH_SHIFT | READ_RELAXED(extent->n_pages);
}

/* A zeroed block was cleared for this caller; or, ZERO_LEFT_EMPTY, it was purged and hardly touched. */
void zero_note_use(struct pool *pool, const struct extent *extent, uint32_t by);

#endif
