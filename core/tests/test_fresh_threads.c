/* SPDX-License-Identifier: MIT */
/* test_fresh_threads.c: what one thread has not filled yet says nothing to the others about blocks of that
 * size. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "learn/fill.h"
#include "pool_fixture.h"

#define BLOCK_BYTES (4 * MIB)
#define ROUNDS 12
#define OWN_BLOCKS 4 /* more than anybody looks back */

static struct pool pool;

static void set_up(void) {
    cr_assert_eq(fixture_init_learning(&pool), 0);
}
static void tear_down(void) {
    cr_expect_null(pool_check(&pool));
    pool_finish(&pool);
}
TestSuite(fresh_threads, .init = set_up, .fini = tear_down, .timeout = 60);

static char *get_filled(void) {
    char *p = fixture_get(&pool, BLOCK_BYTES);
    cr_assert(p);
    memset(p, 1, BLOCK_BYTES);
    return p;
}

static int habit(void) {
    return fill_habit(&pool.learned, BLOCK_BYTES >> PAGE_SHIFT);
}

/* Takes a block each round and has not come to fill it yet. */
static pthread_barrier_t round_begins, round_ends;
static void *slow_thread(void *unused) {
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&round_begins);
        cr_assert(fixture_get(&pool, BLOCK_BYTES));
        pthread_barrier_wait(&round_ends);
    }
    return NULL;
}

Test(fresh_threads, a_slow_thread_does_not_change_the_habit) {
    pthread_t thread;
    pthread_barrier_init(&round_begins, NULL, 2);
    pthread_barrier_init(&round_ends, NULL, 2);
    for (int i = 0; i < 2 * OWN_BLOCKS; i++)
        get_filled();
    cr_assert_gt(habit(), 0);
    cr_assert_eq(pthread_create(&thread, NULL, slow_thread, NULL), 0);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&round_begins);
        pthread_barrier_wait(&round_ends);
        for (int j = 0; j < OWN_BLOCKS; j++) {
            get_filled();
            cr_assert_gt(habit(), 0, "round %d, block %d", i, j);
        }
    }
    pthread_join(thread, NULL);
}

Test(fresh_threads, a_thread_that_fills_nothing_changes_it) {
    for (int i = 0; i < 2 * OWN_BLOCKS; i++)
        get_filled();
    for (int i = 0; i < 4 * OWN_BLOCKS; i++)
        cr_assert(fixture_get(&pool, BLOCK_BYTES));
    cr_assert_leq(habit(), 0);
}
