/* SPDX-License-Identifier: MIT */
/* policy.h: which idle block a shard gives up when it is over its limit.
 *
 * LIFO      one list by age; the block idle longest goes.
 * CLOCK-Pro after Song Jiang, Feng Chen and Xiaodong Zhang, "CLOCK-Pro: An Effective Improvement of the CLOCK
 *           Replacement" (USENIX 2005), with a buffer's reuse in the place of a page's access. A block comes
 *           in cold, in its test period. Reused before it is evicted, it is hot when it returns. Evicted in
 *           its test period, its class leaves a mark in a bounded non-resident history; a request of that
 *           class that has to take a new block while the mark stands shows that eviction came too early: the
 *           new block returns hot, and the share of the shard given to cold blocks grows. A mark that expires
 *           unused shrinks it. Hot blocks get a reference bit at each reuse; the hot hand clears it once
 *           before it makes them cold.
 *
 * All functions need the lock of the shard that embeds the policy.
 */
#ifndef ZP_CACHE_POLICY_H
#define ZP_CACHE_POLICY_H

#include "base/size_class.h"
#include "extent/extent.h"

enum eviction { EVICT_LIFO, EVICT_CLOCKPRO };

enum policy_bits {
    POLICY_REFERENCED = 1, /* reused since the hot hand last passed */
    POLICY_TEST = 2,       /* cold and in its test period */
    POLICY_REUSED = 4,     /* taken out of the shard and not yet back */
};

#define POLICY_HISTORY 256

/* What CLOCK-Pro remembers of blocks that are gone. */
struct policy_marks {
    uint16_t history[POLICY_HISTORY]; /* ring of classes evicted in test, 0 = empty */
    unsigned history_at;
    uint16_t n_marks[N_CLASSES];
    uint8_t n_hot_promised[N_CLASSES]; /* misses that hit a mark: the next new block of the class is hot */
};

struct policy {
    enum eviction kind;
    struct policy_marks *marks; /* CLOCK-Pro only */
    struct extent hot, cold;    /* sentinels of the lists by age */
    size_t hot_bytes, cold_bytes;
    size_t cold_target_bytes; /* CLOCK-Pro's adaptive share for cold blocks */
};

/* marks: memory for EVICT_CLOCKPRO; the other policy needs none. */
void policy_init(struct policy *policy, enum eviction kind, struct policy_marks *marks);

/* A block enters the shard. */
void policy_insert(struct policy *policy, struct extent *extent, size_t limit_bytes);

/* A block leaves for reuse (reused) or for another reason. */
void policy_remove(struct policy *policy, struct extent *extent, bool reused);

/* A request of this class found nothing here. */
void policy_miss(struct policy *policy, unsigned cls, size_t limit_bytes);

/* The block to evict next, still linked; NULL if the shard is empty. */
struct extent *policy_victim(struct policy *policy, size_t limit_bytes);

/* The victim is evicted: leaves its mark. Removes it from the lists. */
void policy_evict(struct policy *policy, struct extent *extent, size_t limit_bytes);

/* The block idle longest of all, for decay, as seen from now_ms: those that are younger count as equally
 * old. */
struct extent *policy_oldest(struct policy *policy, uint32_t now_ms);

#endif
