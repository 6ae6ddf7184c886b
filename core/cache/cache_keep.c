/* SPDX-License-Identifier: MIT */
/* cache_keep.c: see cache_keep.h. */
#include "cache/cache_keep.h"

#include "pool/account.h"
#include "learn/recycle.h"
#include "pool/zero.h"

struct extent *cache_take_big(struct tcache *tcache) {
    if (!READ_RELAXED(tcache->big.extent) || !tcache_enter(tcache)) return NULL;
    struct extent *extent = tcache_take_slot(&tcache->big);
    tcache_leave(tcache);
    return extent;
}

void cache_flush_big(struct pool *pool, struct tcache *tcache) {
    struct extent *extent = cache_take_big(tcache);
    if (extent) heap_free(&pool->heap, extent);
}

/* A big block has come back to its thread: has none of the last ones been of use to it? Then it is for
 * others, and the slot goes with it. Blocks that find the slot empty again followed one that was taken. */
bool cache_hands_over(struct tcache *tcache) {
    if (tcache->n_unused_big == TCACHE_UNUSED_BIG) return true;
    if (!READ_RELAXED(tcache->big.extent))
        tcache->n_unused_big = 0;
    else
        tcache->n_unused_big++;
    return tcache->n_unused_big == TCACHE_UNUSED_BIG;
}

void cache_keep_again(struct pool *pool, struct tcache *tcache) {
    if (tcache->n_unused_big == TCACHE_UNUSED_BIG) WRITE_RELAXED(tcache->trusting, recycle_trusts(pool));
    tcache->n_unused_big = 0;
}

/* Cut the bin of a class after its first keep blocks, those used last; the rest is put before list. */
static struct extent *cut_bin(struct tcache *tcache, unsigned cls, uint32_t keep, struct extent *list) {
    if (tcache_bin_n(tcache, cls) <= keep) return list;
    struct extent **link = &tcache->bins[cls].head;
    for (uint32_t i = 0; i < keep; i++)
        link = &(*link)->next;
    struct extent *extent = *link;
    *link = NULL;
    while (extent) {
        struct extent *next = extent->next;
        SUB_RELAXED(tcache->n_pages, extent->n_pages);
        extent->next = list;
        list = extent;
        extent = next;
    }
    tcache_bin_set_n(tcache, cls, keep);
    return list;
}

/* Every bin to its half, rounded up, or to nothing. */
static struct extent *cut_bins(struct tcache *tcache, bool to_half, struct extent *list) {
    for (unsigned cls = 0; cls < TCACHE_BIG_CLASS; cls++)
        list = cut_bin(tcache, cls, to_half ? (tcache_bin_n(tcache, cls) + 1) / 2 : 0, list);
    return list;
}

/* Make room for a block in the slot, and for the one that is there on its stack; what leaves, the blocks idle
 * longest, goes to the shards. */
static struct extent *make_room(struct pool *pool, struct tcache *tcache, uint32_t n_pages) {
    struct extent *list = NULL;
    struct extent *before = tcache->small.extent;
    uint32_t depth = READ_RELAXED(tcache->depth);
    if (before && tcache_bin_n(tcache, before->cls) >= depth)
        list = cut_bin(tcache, before->cls, depth / 2, list);
    uint32_t most = before ? (uint32_t)max_size(n_pages, before->n_pages) : n_pages;
    if (READ_RELAXED(tcache->n_pages) + most <= READ_RELAXED(tcache->limit_pages)) return list;
    tcache_adopt_limit(tcache, &pool->tcaches);
    uint32_t limit = READ_RELAXED(tcache->limit_pages);
    if (before && before->n_pages > limit) { /* no room can be made for that: the limit has been lowered */
        tcache_take_slot(&tcache->small);
        before->next = list;
        list = before;
        most = n_pages;
    }
    if (n_pages > limit) most = 0; /* it will not be kept, but the limit holds for what is here already */
    if (READ_RELAXED(tcache->n_pages) + most > limit) list = cut_bins(tcache, true, list);
    /* single blocks fill it */
    if (READ_RELAXED(tcache->n_pages) + most > limit) list = cut_bins(tcache, false, list);
    return list;
}

#define SLOT_KNOWN_BYTES (8 * MIB)
/* Whether a block in the slot is still untouched is not asked again: what may become resident unnoticed is no
 * more than the budget's slack. */
#define SLOT_UNTOUCHED_BYTES (64 * MIB)

/* What lies there is not marked, however long it rests (limits.h). */
static bool slot_may_hold(const struct pool *pool, const struct extent *extent) {
    if (extent_bytes(extent) > READ_RELAXED(pool->heap.unmarked_max_bytes)) return false;
    /* The next who gets it may touch little of it, and nobody would notice: where it is not known that such
     * blocks are filled, it goes through the heap (watch.h), unless it is itself hardly resident. */
    size_t n_bytes = extent_bytes(extent);
    if (n_bytes < SLOT_KNOWN_BYTES || os_restricted || zero_trusts_warm(pool, extent->n_pages)) return true;
    return n_bytes <= SLOT_UNTOUCHED_BYTES && zero_habit(pool, extent->n_pages) < 0 &&
           READ_RELAXED(extent->unproven_pages) >= extent->used_pages / 4 * 3;
}

void pool_put_entered(struct pool *pool, struct tcache *tcache, struct extent *extent) {
    bool kept =
        tcache_is_big(extent) && slot_may_hold(pool, extent) && pool_put_big(tcache, extent, extent->address);
    tcache_leave(tcache);
    if (!kept) pool_put_slow(pool, extent);
}

static bool put(struct tcache *tcache, struct extent *extent) {
    if (!tcache_enter(tcache)) return false;
    bool kept = tcache_is_big(extent) ? pool_put_big(tcache, extent, extent->address)
                                      : pool_put_small(tcache, extent, extent->address);
    tcache_leave(tcache);
    return kept;
}

/* A block that has just been checked, or needs no check. */
static bool put_unasked(struct pool *pool, struct tcache *tcache, struct extent *extent) {
    if (!tcache_is_big(extent)) return put(tcache, extent);
    uint32_t trusting = READ_RELAXED(tcache->trusting);
    WRITE_RELAXED(tcache->trusting, 1);
    bool kept = put(tcache, extent);
    /* it may have been taken away meanwhile */
    WRITE_RELAXED(tcache->trusting, trusting && recycle_trusts(pool));
    return kept;
}

void cache_put(struct pool *pool, struct tcache *tcache, struct extent *extent) {
    struct extent *list = NULL;
    bool is_big = tcache_is_big(extent);
    if (is_big) {
        cache_flush_big(pool, tcache);
    } else if (tcache_enter(tcache)) {
        list = make_room(pool, tcache, extent->n_pages);
        tcache_leave(tcache);
    }
    extent_set_state(extent, EXTENT_LIVE);
    bool too_big = is_big && (pool->limited || !slot_may_hold(pool, extent));
    /* it counts as cached, all of it */
    if (is_big && !too_big && zero_habit(pool, extent->n_pages) >= 0) heap_prove(&pool->heap, extent);
    if (is_big && !too_big && !READ_RELAXED(tcache->trusting))
        WRITE_RELAXED(tcache->trusting, recycle_trusts(pool));
    bool kept = false;
    if (!too_big && !(READ_RELAXED(pool->watchful) && extent_bytes(extent) >= RECYCLE_MIN_BYTES))
        kept = put_unasked(pool, tcache, extent);
    if (!kept) {
        extent_set_state(extent, EXTENT_CACHED);
        extent->next = NULL;
        tcache_return_list(&pool->tcaches, extent);
    }
    tcache_return_list(&pool->tcaches, list);
}
