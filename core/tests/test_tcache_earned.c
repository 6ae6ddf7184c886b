/* SPDX-License-Identifier: MIT */
/* test_tcache_earned.c: a thread cache that is asked for what it has just given up may hold more, within a
 * total for all threads. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "learn/recycle.h"
#include "pool_fixture.h"
#include "support.h"

#define LIMIT_BYTES (256 * KIB)
#define BLOCK_BYTES (64 * KIB)
#define STEP_PAGES (TCACHE_EARNED_STEP >> PAGE_SHIFT)

static struct pool pool;

static void set_up(void) {
    struct pool_setup setup = fixture_setup();
    setup.caches_grow = true;
    setup.tcache_limit_bytes = LIMIT_BYTES;
    setup.tcache_depth = 16;
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
}
static void tear_down(void) {
    const char *broken = pool_check(&pool);
    cr_expect_null(broken, "%s", broken);
    pool_finish(&pool);
}
TestSuite(tcache_earned, .init = set_up, .fini = tear_down, .timeout = 60);

static struct tcache *own(void) {
    return tcache_find(&pool.tcaches);
}

/* Rounds of more blocks at once than the cache holds. */
static void use_many(unsigned rounds, unsigned n) {
    for (unsigned i = 0; i < rounds; i++)
        fixture_get_and_put(&pool, n, BLOCK_BYTES);
}

static uint32_t all_earned(void) {
    return atomic_load_explicit(&pool.tcaches.earned_pages, memory_order_relaxed);
}

Test(tcache_earned, nothing_is_earned_while_everything_fits) {
    use_many(50, LIMIT_BYTES / BLOCK_BYTES);
    cr_assert_eq(own()->earned_pages, 0);
    cr_assert_eq(own()->limit_pages, LIMIT_BYTES >> PAGE_SHIFT);
}

Test(tcache_earned, who_misses_what_was_given_up_may_hold_more) {
    use_many(50, 2 * LIMIT_BYTES / BLOCK_BYTES);
    cr_assert_geq(own()->earned_pages, 2 * STEP_PAGES);
    cr_assert_eq(own()->earned_pages, all_earned());
    uint64_t slow = own()->n_slow_gets;
    use_many(20, 2 * LIMIT_BYTES / BLOCK_BYTES);
    cr_assert_leq(own()->n_slow_gets - slow, 20, "and hardly misses any more: %lu",
                  own()->n_slow_gets - slow);
}

Test(tcache_earned, other_sizes_earn_nothing) {
    for (unsigned i = 0; i < 100; i++) { /* none of these was given up just before */
        fixture_get_and_put(&pool, 2 * LIMIT_BYTES / BLOCK_BYTES, BLOCK_BYTES + 16 * KIB * (i % 4));
        memset(own()->given_up, 0, sizeof own()->given_up);
    }
    cr_assert_eq(own()->earned_pages, 0);
}

Test(tcache_earned, one_total_holds_for_all_threads) {
    for (unsigned i = 0; i < 400; i++)
        fixture_get_and_put(&pool, 64, BLOCK_BYTES);
    cr_assert_leq((size_t)all_earned() << PAGE_SHIFT, TCACHE_EARNED_BYTES);
    cr_assert_leq((size_t)own()->limit_pages << PAGE_SHIFT, LIMIT_BYTES + TCACHE_EARNED_BYTES);
}

static void *earn_and_leave(void *earned) {
    use_many(50, 2 * LIMIT_BYTES / BLOCK_BYTES);
    *(uint32_t *)earned = own()->earned_pages;
    return NULL;
}

Test(tcache_earned, a_thread_that_ends_leaves_nothing) {
    tcache_setup_process();
    for (int i = 0; i < 8; i++) {
        pthread_t thread;
        uint32_t earned = 0;
        cr_assert_eq(pthread_create(&thread, NULL, earn_and_leave, &earned), 0);
        pthread_join(thread, NULL);
        cr_assert_gt(earned, 0);
        cr_assert_eq(all_earned(), 0);
    }
}

Test(tcache_earned, it_goes_when_idle_memory_is_short) {
    use_many(50, 2 * LIMIT_BYTES / BLOCK_BYTES);
    cr_assert_gt(all_earned(), 0);
    tcache_lose_earned(own(), &pool.tcaches);
    cr_assert_eq(all_earned(), 0);
    tcache_adopt_limit(own(), &pool.tcaches);
    cr_assert_eq(own()->limit_pages, LIMIT_BYTES >> PAGE_SHIFT);
}

Test(tcache_earned, watched_bins_stay_below_what_is_watched) {
    use_many(50, 2 * LIMIT_BYTES / BLOCK_BYTES);
    recycle_watch(&pool.recycle);
    cr_assert_lt((size_t)own()->limit_pages << PAGE_SHIFT, RECYCLE_MIN_BYTES);
    use_many(50, 2 * LIMIT_BYTES / BLOCK_BYTES);
    cr_assert_lt((size_t)own()->limit_pages << PAGE_SHIFT, RECYCLE_MIN_BYTES);
}
