/* SPDX-License-Identifier: MIT */
/* test_shard.c: the shared middle level: batches, stealing, limits, and what happens when its lock cannot be
 * had. */
#include <criterion/criterion.h>
#include <string.h>

#include "os/os.h"
#include "pool_fixture.h"
#include "support.h"

static struct pool pool;

static void set_up(void) {
    struct pool_setup setup = fixture_setup();
    setup.tcache_depth = 0; /* everything passes through the shards */
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    fixture_pin(0);
}
static void tear_down(void) {
    const char *broken = pool_check(&pool);
    cr_expect_null(broken, "%s", broken);
    pool_finish(&pool);
}
TestSuite(shard, .init = set_up, .fini = tear_down, .timeout = 60);

/* A CACHED extent, as a thread cache hands them over. */
static struct extent *idle_block(size_t n_pages) {
    struct heap_request request = {.n_pages = class_pages(class_of_pages(n_pages)), .align_pages = 1};
    struct extent *e = heap_alloc(&pool.heap, &request);
    cr_assert(e);
    e->flags = 0;
    e->state = EXTENT_CACHED;
    e->next = NULL;
    return e;
}

static void put_one(size_t n_pages) {
    shard_put_list(&pool.shards, idle_block(n_pages));
}

static unsigned length(const struct extent *list) {
    unsigned n = 0;
    for (; list; list = list->next)
        n++;
    return n;
}

Test(shard, takes_back_what_was_put_up_to_the_number_wanted) {
    bool stolen = true;
    cr_assert_null(shard_take(&pool.shards, 4, 4, &stolen));
    struct extent *list = NULL;
    for (int i = 0; i < 6; i++) {
        struct extent *e = idle_block(4);
        e->next = list;
        list = e;
    }
    shard_put_list(&pool.shards, list);
    cr_assert_eq(pool.shards.shard[0].n_blocks, 6);
    cr_assert_eq(pool.shards.shard[0].bytes, 24 * PAGE_BYTES);
    cr_assert_eq(length(shard_take(&pool.shards, 4, 4, &stolen)), 4);
    cr_assert_not(stolen);
    cr_assert_eq(length(shard_take(&pool.shards, 4, 4, &stolen)), 2);
    cr_assert_null(shard_take(&pool.shards, 4, 4, &stolen));
    cr_assert_eq(pool.shards.shard[0].bytes, 0);
}

Test(shard, classes_do_not_mix) {
    bool stolen;
    put_one(4);
    cr_assert_null(shard_take(&pool.shards, 3, 1, &stolen));
    cr_assert_null(shard_take(&pool.shards, 5, 1, &stolen));
    cr_assert_eq(length(shard_take(&pool.shards, 4, 1, &stolen)), 1);
}

Test(shard, a_miss_steals_from_another_cpu) {
    if (!fixture_pin(1)) cr_skip_test("needs two CPUs");
    put_one(4);
    put_one(4);
    cr_assert_eq(pool.shards.shard[1].n_blocks, 2);
    cr_assert_eq(atomic_load(&pool.shards.holders[4]), 2, "the word says who holds the class");
    fixture_pin(0);
    bool stolen = false;
    struct extent *list = shard_take(&pool.shards, 4, 4, &stolen);
    cr_assert_eq(length(list), 1, "one at a time from others");
    cr_assert(stolen);
    cr_assert(shard_take(&pool.shards, 4, 4, &stolen));
    cr_assert_eq(atomic_load(&pool.shards.holders[4]), 0);
}

Test(shard, the_own_shard_comes_first) {
    if (!fixture_pin(1)) cr_skip_test("needs two CPUs");
    put_one(4);
    fixture_pin(0);
    struct extent *mine = idle_block(4);
    shard_put_list(&pool.shards, mine);
    bool stolen = true;
    cr_assert_eq(shard_take(&pool.shards, 4, 1, &stolen), mine);
    cr_assert_not(stolen);
}

Test(shard, over_the_limit_the_oldest_go_to_the_heap) {
    pool.shards.shard[0].limit_bytes = 10 * 4 * PAGE_BYTES;
    struct extent *e[15];
    for (int i = 0; i < 15; i++)
        e[i] = idle_block(4);
    for (int i = 0; i < 15; i++)
        shard_put_list(&pool.shards, e[i]);
    cr_assert_eq(pool.shards.shard[0].n_blocks, 10);
    cr_assert_eq(pool.shards.shard[0].n_evictions, 5);
    cr_assert_eq(pool.heap.dirty_bytes, 5 * 4 * PAGE_BYTES);
    for (int i = 5; i < 15; i++)
        cr_assert_eq(e[i]->state, EXTENT_CACHED, "block %d", i);
}

Test(shard, a_block_larger_than_the_limit_does_not_push_the_others_out) {
    pool.shards.shard[0].limit_bytes = 40 * PAGE_BYTES;
    for (int i = 0; i < 10; i++)
        put_one(4);
    put_one(64);
    cr_assert_geq(pool.shards.shard[0].n_blocks, 9, "%zu of 10 blocks left", pool.shards.shard[0].n_blocks);
}

Test(shard, flush_by_age_and_whole) {
    for (int i = 0; i < 6; i++)
        put_one(4);
    struct extent *old = pool.shards.shard[0].bins[4];
    for (int i = 0; i < 3; i++, old = old->next)
        ;
    uint32_t now = os_clock_ms();
    for (; old; old = old->next)
        old->last_use_ms = now - 5000; /* the three at the bottom of the stack, put first */
    shard_flush(&pool.shards, &pool.shards.shard[0], now - 1000, false);
    cr_assert_eq(pool.shards.shard[0].n_blocks, 3);
    cr_assert_eq(pool.heap.dirty_bytes, 12 * PAGE_BYTES);
    shard_flush(&pool.shards, &pool.shards.shard[0], 0, true);
    cr_assert_eq(pool.shards.shard[0].n_blocks, 0);
    cr_assert_eq(pool.shards.shard[0].bytes, 0);
}

Test(shard, a_held_lock_sends_blocks_to_the_heap_and_hangs_nobody) {
    put_one(4);
    cr_assert(lock_try(&pool.shards.shard[0].lock));
    bool stolen;
    cr_assert_null(shard_take(&pool.shards, 4, 1, &stolen));
    put_one(4);
    cr_assert_eq(pool.shards.shard[0].n_blocks, 1);
    cr_assert_eq(pool.heap.dirty_bytes, 4 * PAGE_BYTES);
    shard_flush(&pool.shards, &pool.shards.shard[0], 0, true);
    cr_assert_eq(pool.shards.shard[0].n_blocks, 1);
    lock_release(&pool.shards.shard[0].lock);
}

static void thrash(enum eviction eviction) {
    pool_finish(&pool);
    struct pool_setup setup = fixture_setup();
    setup.eviction = eviction;
    setup.shard_limit_bytes = 2 * MIB;
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    uint64_t rng = 11;
    void *live[100] = {NULL};
    for (unsigned i = 0; i < 30000; i++) {
        unsigned slot = (unsigned)rng_range(&rng, 0, 99);
        if (live[slot]) {
            fixture_put(&pool, live[slot]);
            live[slot] = NULL;
        } else {
            live[slot] = fixture_get(&pool, rng_range(&rng, 1, 256 * KIB));
            cr_assert(live[slot]);
        }
        if (i % 3000 == 0) cr_assert_null(pool_check(&pool), "%s", pool_check(&pool));
    }
    for (unsigned i = 0; i < 100; i++)
        if (live[i]) fixture_put(&pool, live[i]);
    cr_assert_null(pool_check(&pool));
    pool_trim(&pool, 0);
    cr_assert_eq(pool.heap.active_bytes, 0, "blocks were lost between the levels");
}

Test(shard, thrash_lifo) {
    thrash(EVICT_LIFO);
}
Test(shard, thrash_clockpro) {
    thrash(EVICT_CLOCKPRO);
}

Test(shard, the_limit_follows_use_where_nothing_else_was_asked_for) {
    static const struct {
        size_t active_bytes, limit_bytes;
    } cases[] = {{4 * MIB, 256 * KIB},
                 {40 * MIB, 256 * KIB},
                 {320 * MIB, 2 * MIB},
                 {4 * GIB, 4 * GIB / CACHE_SHARE / 2}};
    size_t before = pool.heap.active_bytes;
    pool.shards.limit_bytes = 256 * KIB;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pool.heap.active_bytes = cases[i].active_bytes;
        pool.shards.grow = true;
        cr_assert_eq(shard_limit_of(&pool.shards), cases[i].limit_bytes, "%zu bytes in use",
                     cases[i].active_bytes);
        pool.shards.grow = false;
        cr_assert_eq(shard_limit_of(&pool.shards), 256 * KIB);
    }
    pool.heap.active_bytes = before;
}
