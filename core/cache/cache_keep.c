/* SPDX-License-Identifier: MIT */
/* cache_keep.c: see cache_keep.h. */
#include "cache/cache_keep.h"

#include "cache/tcache_fast.h"

#include <string.h>

struct extent *cache_take_big(struct tcache *tcache) {
    if (!READ_RELAXED(tcache->big.extent) || !tcache_enter(tcache)) return NULL;
    struct extent *extent = tcache_take_slot(&tcache->big);
    tcache_leave(tcache);
    return extent;
}

void cache_flush_big(struct tcaches *caches, struct tcache *tcache) {
    struct extent *extent = cache_take_big(tcache);
    if (extent) heap_free(caches->shards->heap, extent);
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

bool cache_keeps_again(struct tcache *tcache) {
    bool handed_over = tcache->n_unused_big == TCACHE_UNUSED_BIG;
    tcache->n_unused_big = 0;
    return handed_over;
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
        tcache->given_up[cls] += tcache->given_up[cls] < UINT8_MAX;
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
    memset(tcache->given_up, 0, sizeof tcache->given_up);
    for (unsigned cls = 0; cls < TCACHE_BIG_CLASS; cls++)
        list = cut_bin(tcache, cls, to_half ? (tcache_bin_n(tcache, cls) + 1) / 2 : 0, list);
    return list;
}

/* Make room for a block in the slot, and for the one that is there on its stack; what leaves, the blocks idle
 * longest, goes to the shards. */
static struct extent *make_room(struct tcaches *caches, struct tcache *tcache, uint32_t n_pages) {
    struct extent *list = NULL;
    struct extent *before = tcache->small.extent;
    uint32_t depth = READ_RELAXED(tcache->depth);
    if (before && tcache_bin_n(tcache, before->cls) >= depth)
        list = cut_bin(tcache, before->cls, depth / 2, list);
    uint32_t most = before ? (uint32_t)max_size(n_pages, before->n_pages) : n_pages;
    if (READ_RELAXED(tcache->n_pages) + most <= READ_RELAXED(tcache->limit_pages)) return list;
    tcache_adopt_limit(tcache, caches);
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

static bool put(struct tcache *tcache, struct extent *extent) {
    if (!tcache_enter(tcache)) return false;
    bool kept = tcache_is_big(extent) ? tcache_put_big(tcache, extent, extent->address)
                                      : tcache_put_small(tcache, extent, extent->address);
    tcache_leave(tcache);
    return kept;
}

void cache_put(struct tcaches *caches, struct tcache *tcache, struct extent *extent, bool keep) {
    struct extent *list = NULL;
    if (tcache_is_big(extent)) {
        cache_flush_big(caches, tcache);
    } else if (tcache_enter(tcache)) {
        list = make_room(caches, tcache, extent->n_pages);
        tcache_leave(tcache);
    }
    if (keep && put(tcache, extent)) {
        COUNT(puts_tcache);
    } else {
        extent->next = NULL;
        tcache_return_list(caches, extent);
    }
    tcache_return_list(caches, list);
}
