/* SPDX-License-Identifier: MIT */
/* resize.h: realloc: in place where the neighbour allows, with address headroom for blocks that keep
 * growing. */
#ifndef ZP_POOL_RESIZE_H
#define ZP_POOL_RESIZE_H

#include "pool/pool.h"

/* Resize a live block in place, or return false. */
bool resize_in_place(struct pool *pool, struct extent *extent, size_t n_bytes);

/* Move a live block to a larger one, giving the old one back. NULL if the pool refuses; then nothing has
 * changed. */
void *resize_move(struct pool *pool, struct tcache *tcache, struct extent *extent, size_t n_bytes);

#endif
