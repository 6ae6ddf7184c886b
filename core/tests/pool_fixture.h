/* SPDX-License-Identifier: MIT */
/* pool_fixture.h: a small pool for tests of its levels, with everything off that would act on its own. */
#ifndef ZP_TESTS_POOL_FIXTURE_H
#define ZP_TESTS_POOL_FIXTURE_H

#include "sync/options.h"
#include "process/helper.h"
#include "pool/account.h"
#include "pool/pool.h"
#include "pool/zero.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

static inline struct pool_setup fixture_setup(void) {
    return (struct pool_setup){
        .span_max = 1 * GIB,
        .reserved = true,
        .n_shards = 2,
        .tcache_depth = 8,
        .tcache_limit_bytes = 1 * MIB,
        .shard_limit_bytes = 8 * MIB,
        .shard_max_block_bytes = 256 * KIB,
        .retain_max_bytes = SIZE_MAX,
        .max_block_bytes = 512 * MIB,
        .huge = 0, /* off */
    };
}

/* 0 or negative errno. No background thread, no decay. */
static inline int fixture_init(struct pool *pool, const struct pool_setup *setup) {
    helper_allow(false);
    tcache_setup_process();
    return pool_init(pool, setup);
}

static inline void *fixture_get(struct pool *pool, size_t n_bytes) {
    return pool_get(pool, tcache_find(&pool->tcaches), pages_of(n_bytes));
}

static inline void fixture_put(struct pool *pool, void *p) {
    pool_put(pool, tcache_find(&pool->tcaches), p);
}

/* At most 64 blocks of a size, all out at once. */
static inline void fixture_get_and_put(struct pool *pool, unsigned n, size_t n_bytes) {
    void *p[64];
    for (unsigned i = 0; i < n; i++)
        cr_assert(p[i] = fixture_get(pool, n_bytes));
    for (unsigned i = 0; i < n; i++)
        fixture_put(pool, p[i]);
}

static inline struct extent *fixture_extent(struct pool *pool, void *p) {
    return space_lookup(&pool->heap.space, p);
}

/* A pool that learns whether blocks get filled. */
static inline int fixture_init_learning(struct pool *pool) {
    struct pool_setup setup = fixture_setup();
    setup.huge = SWITCH_AUTO;
    memset(pool, 0, sizeof *pool);
    return fixture_init(pool, &setup);
}

/* Blocks of this size are known to be filled, also warm ones: they may stay in slots, and count as used at
 * once. */
static inline void fixture_trust(struct pool *pool, size_t n_bytes) {
    while (!fill_trusts_warm(&pool->learned, pages_of(n_bytes)) ||
           fill_habit(&pool->learned, pages_of(n_bytes)) <= 0)
        fill_learn_warm(&pool->learned, pages_of(n_bytes), true);
}

/* How many pages of a block of at most 256 MiB are in RAM; SIZE_MAX if that cannot be told. */
static inline size_t fixture_resident_pages(const void *p, size_t n_bytes) {
    static unsigned char pages[1 << 16];
    size_t n = n_bytes >> PAGE_SHIFT, sum = 0;
    if (mincore((void *)(uintptr_t)p, n_bytes, pages)) return SIZE_MAX;
    for (size_t i = 0; i < n; i++)
        sum += pages[i] & 1;
    return sum;
}

/* Run on one CPU from now on; false if there is no such CPU for us. */
static inline bool fixture_pin(unsigned cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

#endif
