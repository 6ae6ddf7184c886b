/* SPDX-License-Identifier: MIT */
/* cache_keep.c: see cache_keep.h. */
#include "pool/cache_keep.h"

#include "pool/recycle.h"

struct extent *cache_take_big(struct tcache *tcache)
{
    if (!READ_RELAXED(tcache->big) || !tcache_enter(tcache)) return NULL;
    struct extent *extent = tcache_take_slot(tcache);
    tcache_leave(tcache);
    return extent;
}

void cache_flush_big(struct pool *pool, struct tcache *tcache)
{
    struct extent *extent = cache_take_big(tcache);
    if (extent) heap_free(&pool->heap, extent);
}

/* A big block has come back to its thread: has none of the last ones been of use to it? Then it is for others, and the slot goes with
 * it. Blocks that find the slot empty again followed one that was taken. */
bool cache_hands_over(struct tcache *tcache)
{
    if (tcache->n_unused_big == TCACHE_UNUSED_BIG) return true;
    if (!READ_RELAXED(tcache->big))
        tcache->n_unused_big = 0;
    else
        tcache->n_unused_big++;
    return tcache->n_unused_big == TCACHE_UNUSED_BIG;
}

void cache_keep_again(struct pool *pool, struct tcache *tcache)
{
    if (tcache->n_unused_big == TCACHE_UNUSED_BIG) WRITE_RELAXED(tcache->trusting, recycle_trusts(pool));
    tcache->n_unused_big = 0;
}

/* Cut a bin after its first keep blocks, those used last; the rest is put before list. */
static struct extent *cut_bin(struct tcache *tcache, struct tcache_bin *bin, uint32_t keep, struct extent *list)
{
    if (tcache_bin_n(bin) <= keep) return list;
    struct extent **link = &bin->head;
    for (uint32_t i = 0; i < keep; i++)
        link = &(*link)->next;
    struct extent *extent = *link;
    *link = NULL;
    while (extent) {
        struct extent *next = extent->next;
        SUB_RELAXED(tcache->bytes, extent_bytes(extent));
        extent->next = list;
        list = extent;
        extent = next;
    }
    tcache_bin_set_n(bin, keep);
    return list;
}

/* Every bin to its half, rounded up, or to nothing. */
static struct extent *cut_bins(struct tcache *tcache, bool to_half, struct extent *list)
{
    for (unsigned cls = 0; cls < TCACHE_BIG_CLASS; cls++)
        list = cut_bin(tcache, &tcache->bins[cls], to_half ? (tcache_bin_n(&tcache->bins[cls]) + 1) / 2 : 0, list);
    return list;
}

/* Make room in the bin of a class and in the cache; what leaves, the blocks idle longest, goes to the shards. */
static struct extent *make_room(struct pool *pool, struct tcache *tcache, unsigned cls, size_t bytes)
{
    struct extent *list = NULL;
    struct tcache_bin *bin = &tcache->bins[cls];
    uint32_t depth = READ_RELAXED(tcache->depth);
    if (tcache_bin_n(bin) >= depth) list = cut_bin(tcache, bin, depth / 2, list);
    size_t limit = READ_RELAXED(tcache->limit_bytes);
    if (READ_RELAXED(tcache->bytes) + bytes <= limit) return list;
    tcache_adopt_limit(tcache, pool);
    limit = READ_RELAXED(tcache->limit_bytes);
    if (bytes > limit) return list; /* nothing that could go would help */
    if (READ_RELAXED(tcache->bytes) + bytes > limit) list = cut_bins(tcache, true, list);
    if (READ_RELAXED(tcache->bytes) + bytes > limit) list = cut_bins(tcache, false, list); /* single blocks fill it */
    return list;
}

/* pool_put_cached for a block that has just been checked, or needs no check. */
static bool put_unasked(struct tcache *tcache, struct extent *extent)
{
    uint32_t trusting = READ_RELAXED(tcache->trusting);
    WRITE_RELAXED(tcache->trusting, 1);
    bool kept = pool_put_cached(tcache, extent);
    WRITE_RELAXED(tcache->trusting, trusting && recycle_trusts(READ_RELAXED(tcache->pool))); /* it may have been taken away meanwhile */
    return kept;
}

void cache_put(struct pool *pool, struct tcache *tcache, struct extent *extent)
{
    struct extent *list = NULL;
    if (extent->cls >= TCACHE_BIG_CLASS) {
        cache_flush_big(pool, tcache);
    } else if (tcache_enter(tcache)) {
        list = make_room(pool, tcache, extent->cls, extent_bytes(extent));
        tcache_leave(tcache);
    }
    extent_set_state(extent, EXTENT_LIVE);
    if (extent->cls >= TCACHE_BIG_CLASS && !READ_RELAXED(tcache->trusting)) WRITE_RELAXED(tcache->trusting, recycle_trusts(pool));
    bool kept = false;
    bool too_big = pool->limited && extent->cls >= TCACHE_BIG_CLASS;
    if (!too_big && !(READ_RELAXED(pool->watchful) && extent_bytes(extent) >= RECYCLE_MIN_BYTES)) kept = put_unasked(tcache, extent);
    if (!kept) {
        extent_set_state(extent, EXTENT_CACHED);
        extent->next = NULL;
        tcache_return_list(pool, extent);
    }
    tcache_return_list(pool, list);
}
