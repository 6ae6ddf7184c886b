/* SPDX-License-Identifier: MIT */
/* test_counters.c: what a build with -Dcounters=true counts. */
#include "pool_fixture.h"
#include "support.h"
#include "sync/counters.h"

#include <pthread.h>
#include <unistd.h>

static struct pool pool;

static void start(void) {
    struct pool_setup setup = fixture_setup();
    cr_assert(fixture_pin(0));
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    counters_reset();
}

TestSuite(counters, .init = start, .timeout = 30);

static uint64_t count(enum counter counter) {
    uint64_t sums[N_COUNTERS];
    counters_sum(sums);
    return sums[counter];
}

Test(counters, of_levels_add_up) {
    fixture_get_and_put(&pool, 40, 64 * KIB);
    fixture_get_and_put(&pool, 40, 64 * KIB);
    fixture_get_and_put(&pool, 3, 2 * MIB);
    uint64_t gets = count(COUNTER_gets_tcache) + count(COUNTER_gets_shard) + count(COUNTER_gets_elsewhere) +
                    count(COUNTER_gets_heap);
    cr_assert_eq(gets, 83);
    cr_assert_eq(count(COUNTER_puts), 83);
    cr_assert_geq(count(COUNTER_gets_tcache), 8);
    cr_assert_geq(count(COUNTER_gets_shard), 4);
    cr_assert_geq(count(COUNTER_gets_heap), 40);
    cr_assert_gt(count(COUNTER_puts_tcache), 0);
    cr_assert_gt(count(COUNTER_to_shard), 0);
    cr_assert_gt(count(COUNTER_to_heap), 0);
    cr_assert_geq(count(COUNTER_heap_locked), count(COUNTER_gets_heap));
    cr_assert_gt(count(COUNTER_shard_locked), 0);
    cr_assert_eq(count(COUNTER_heap_contended) + count(COUNTER_shard_contended), 0);
    cr_assert_eq(count(COUNTER_heap_moved) + count(COUNTER_gets_moved) + count(COUNTER_looks_elsewhere), 0);
    cr_assert_null(pool_check(&pool));
}

/* A big block in the slot goes back with the request for the next one. */
Test(counters, see_what_is_given_back_with_a_request) {
    fixture_get_and_put(&pool, 1, 2 * MIB);
    uint64_t before = count(COUNTER_to_heap);
    cr_assert_not_null(fixture_get(&pool, 3 * MIB));
    cr_assert_eq(count(COUNTER_to_heap), before + 1);
}

static void *lets_go(void *lock) {
    usleep(2000);
    lock_release(lock);
    return NULL;
}

Test(counters, tell_a_contended_lock_and_one_given_up) {
    struct lock *lock = &pool.heap.lock;
    cr_assert(lock_acquire(lock));
    cr_assert_not(lock_acquire(lock));
    cr_assert_eq(count(COUNTER_heap_locked), 1);
    cr_assert_eq(count(COUNTER_heap_contended), 1);
    cr_assert_eq(count(COUNTER_heap_given_up), 1);
    lock->doubtful = false; /* or the wait would be a short one */
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, lets_go, lock), 0);
    cr_assert(lock_acquire(lock));
    pthread_join(thread, NULL);
    lock_release(lock);
    cr_assert_eq(count(COUNTER_heap_locked), 2);
    cr_assert_eq(count(COUNTER_heap_contended), 2);
    cr_assert_eq(count(COUNTER_heap_given_up), 1);
    cr_assert_eq(count(COUNTER_shard_locked) + count(COUNTER_other_locked), 0);
}

Test(counters, tell_what_comes_from_another_processor) {
    void *p = fixture_get(&pool, 64 * KIB);
    fixture_put(&pool, p);
    if (!fixture_pin(1)) cr_skip_test("one processor");
    uint64_t locked = count(COUNTER_heap_locked);
    cr_assert_eq(fixture_get(&pool, 64 * KIB), p);
    cr_assert_eq(count(COUNTER_gets_moved), 1);
    void *q = fixture_get(&pool, 64 * KIB);
    cr_assert_gt(count(COUNTER_heap_locked), locked);
    cr_assert_eq(count(COUNTER_heap_moved), 1);
    fixture_put(&pool, q);
    cr_assert_eq(fixture_get(&pool, 64 * KIB), q);
    cr_assert_eq(count(COUNTER_gets_moved), 1);
}

static void *get_one(void *unused) {
    (void)unused;
    cr_assert(fixture_pin(1));
    return fixture_get(&pool, 64 * KIB);
}

/* The blocks that this processor's shard holds are asked for on the other one. */
Test(counters, tell_looks_at_other_shards) {
    if (!fixture_pin(1) || !fixture_pin(0)) cr_skip_test("one processor");
    fixture_get_and_put(&pool, 40, 64 * KIB);
    cr_assert_gt(count(COUNTER_to_shard), 0);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, get_one, NULL), 0);
    pthread_join(thread, NULL);
    cr_assert_eq(count(COUNTER_looks_elsewhere), 1);
    cr_assert_eq(count(COUNTER_gets_elsewhere), 1);
}

static void *many_gets(void *unused) {
    (void)unused;
    for (int i = 0; i < 1000; i++)
        fixture_put(&pool, fixture_get(&pool, 64 * KIB));
    return NULL;
}

Test(counters, of_all_threads_are_summed) {
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, many_gets, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    cr_assert_eq(count(COUNTER_puts), 4000);
}
