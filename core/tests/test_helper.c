/* SPDX-License-Identifier: MIT */
/* test_helper.c: the background thread: what it cares for, and when it leaves and comes back. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "os/os.h"
#include "pool/limits.h"
#include "pool_fixture.h"
#include "support.h"

#define MS 1000

static struct pool pool;

static void set_up(void) {
    struct pool_setup setup = fixture_setup();
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
}
TestSuite(helper, .init = set_up, .timeout = 60);

/* A pool of the thread's care that nobody can take the lock of, and another one with idle memory. */
static struct pool second;
static void start_beside_a_locked_pool(bool ready) {
    struct pool_setup setup = fixture_setup();
    cr_assert_eq(fixture_init(&second, &setup), 0);
    cr_assert(fixture_get(&pool, 20 * MIB));
    second.heap.decay_ms = pool.heap.decay_ms = 200;
    cr_assert(helper_add_pool(&pool) && helper_add_pool(&second));
    pool.ready = ready;
    cr_assert(lock_acquire(&pool.heap.lock));
    os_helper_prepare();
    helper_allow(true);
    void *p[2] = {fixture_get(&second, 16 * MIB), fixture_get(&second, 16 * MIB)};
    cr_assert(background_runs());
    for (int i = 0; i < 2; i++)
        fixture_put(&second, p[i]);
}

static void end_both(void) {
    helper_remove_pool(&pool);
    helper_remove_pool(&second);
}

Test(helper, has_no_business_with_a_pool_that_is_being_destroyed) {
    start_beside_a_locked_pool(false);
    for (int i = 0; i < 150 && background_runs(); i++)
        usleep(100000);
    cr_assert_not(background_runs(), "still at work after 15 s");
    cr_assert_eq(second.heap.dirty_bytes, 0);
    end_both();
}

Test(helper, a_pool_whose_lock_is_held_does_not_keep_it_from_the_others) {
    start_beside_a_locked_pool(true);
    for (int i = 0; i < 150 && READ_RELAXED(second.heap.dirty_bytes); i++)
        usleep(100000);
    cr_assert_eq(READ_RELAXED(second.heap.dirty_bytes), 0);
    lock_release(&pool.heap.lock);
    end_both();
}

/* The thread would care for the pool, were it allowed (helper_allow). */
static void put_under_care(void) {
    pool.heap.decay_ms = 200;
    cr_assert(helper_add_pool(&pool));
    os_helper_prepare();
}

/* The pool gets the thread, and is empty afterwards. */
static void start_thread(void) {
    put_under_care();
    helper_allow(true);
    fixture_put(&pool, fixture_get(&pool, 16 * MIB));
    cr_assert(background_runs());
    pool_trim(&pool, 0);
}

static void *get_filled(size_t n_bytes) {
    void *p = fixture_get(&pool, n_bytes);
    memset(p, 1, n_bytes);
    return p;
}

static bool all_is_given_back(void) {
    for (int i = 0; i < 100 && pool.heap.active_bytes + pool.heap.dirty_bytes; i++)
        usleep(100 * MS);
    return pool.heap.active_bytes + pool.heap.dirty_bytes == 0;
}

/* While it sleeps for the last time before it leaves, after some three seconds of rest, too. */
ParameterizedTestParameters(helper, what_is_freed_as_it_leaves_is_given_back) {
    static unsigned after_ms[] = {2700, 3200, 3700};
    return cr_make_param_array(unsigned, after_ms, 3);
}
ParameterizedTest(unsigned *after_ms, helper, what_is_freed_as_it_leaves_is_given_back, .init = set_up,
                  .timeout = 60) {
    void *p[3];
    start_thread();
    for (int i = 0; i < 3; i++)
        p[i] = get_filled(MIB);
    for (unsigned ms = 0; ms < *after_ms; ms += 100)
        usleep(100 * MS);
    for (int i = 0; i < 3; i++)
        fixture_put(&pool, p[i]);
    cr_assert(all_is_given_back(), "%zu bytes live and %zu idle 10 s later", pool.heap.active_bytes,
              pool.heap.dirty_bytes);
    helper_remove_pool(&pool);
}

Test(helper, comes_back_for_less_than_it_first_came_for) {
    start_thread();
    for (int i = 0; i < 150 && background_runs(); i++)
        usleep(100 * MS);
    cr_assert_not(background_runs(), "still at work after 15 s");
    usleep(100 * MS); /* it is off its stack */
    void *p = get_filled(5 * MIB);
    cr_assert(background_runs());
    fixture_put(&pool, p);
    cr_assert(all_is_given_back());
    helper_remove_pool(&pool);
}

Test(helper, does_not_come_for_little) {
    put_under_care();
    helper_allow(true);
    fixture_put(&pool, get_filled(7 * MIB));
    cr_assert_not(background_runs());
    fixture_put(&pool, get_filled(9 * MIB));
    cr_assert(background_runs());
    helper_remove_pool(&pool);
}

static void allow(int resource, rlim_t n) {
    cr_assert(limit_resource(resource, n));
}

struct obstacle {
    int resource;
    rlim_t n;
};

/* Ten processes are not to be shared; without a descriptor nobody can tell whether there is a debugger. */
ParameterizedTestParameters(helper, comes_once_what_stood_in_its_way_has_gone) {
    static struct obstacle obstacles[] = {{RLIMIT_NPROC, 10}, {RLIMIT_NOFILE, 0}};
    return cr_make_param_array(struct obstacle, obstacles, 2);
}
ParameterizedTest(struct obstacle *obstacle, helper, comes_once_what_stood_in_its_way_has_gone,
                  .init = set_up, .timeout = 60) {
    put_under_care();
    helper_allow(true);
    allow(obstacle->resource, obstacle->n);
    void *p[3];
    p[0] = get_filled(16 * MIB);
    cr_assert_not(background_runs());
    allow(obstacle->resource, obstacle->resource == RLIMIT_NOFILE ? 1024 : RLIM_INFINITY);
    p[1] = get_filled(16 * MIB);
    cr_assert_not(background_runs(), "not tried again at each call");
    helper_retry_ms = 100;
    usleep(200 * MS);
    p[2] = get_filled(16 * MIB);
    cr_assert(background_runs());
    for (int i = 0; i < 3; i++)
        fixture_put(&pool, p[i]);
    cr_assert(all_is_given_back());
    helper_remove_pool(&pool);
}

/* Only the thread itself is waited for when a pool is destroyed, so nobody else may touch the pools of
 * others. */
Test(helper, to_learn_the_limit_no_pool_is_touched) {
    cr_assert(helper_add_pool(&pool));
    pool.heap.limit_bytes = 4711;
    limits_learn();
    cr_assert_eq(pool.heap.limit_bytes, 4711);
    helper_remove_pool(&pool);
}

static int n_visits;
static void visit(void) {
    __atomic_fetch_add(&n_visits, 1, __ATOMIC_RELAXED);
}

/* Who asked has been told no, and has taken its things away. */
Test(helper, that_comes_later_does_not_visit_who_was_refused) {
    put_under_care();
    helper_allow(true);
    allow(RLIMIT_NPROC, 10);
    cr_assert_not(helper_start_for_good(visit, 100));
    allow(RLIMIT_NPROC, RLIM_INFINITY);
    helper_retry_ms = 0;
    fixture_put(&pool, get_filled(16 * MIB));
    cr_assert(background_runs());
    for (int i = 0; i < 150 && background_runs(); i++)
        usleep(100 * MS);
    cr_assert_not(background_runs(), "still at work after 15 s");
    cr_assert_eq(__atomic_load_n(&n_visits, __ATOMIC_RELAXED), 0);
    helper_remove_pool(&pool);
}

static _Atomic bool enough;

static void poke(void) {
    background_poke(READ_RELAXED(pool.heap.active_bytes) + READ_RELAXED(pool.heap.dirty_bytes));
}

static void *poke_all_the_time(void *ignored) {
    (void)ignored;
    while (!enough)
        poke();
    return NULL;
}

/* Another thread's start at the same moment is not a thread. */
Test(helper, that_is_being_started_by_others_is_not_yet_there) {
    put_under_care();
    void *p = get_filled(16 * MIB);
    helper_allow(true);
    helper_retry_ms = 0;
    allow(RLIMIT_NPROC, 10);
    pthread_t other;
    cr_assert_eq(pthread_create(&other, NULL, poke_all_the_time, NULL), 0);
    unsigned n_wrong = 0;
    for (uint64_t end = os_clock_ns() + 1000000000u; os_clock_ns() < end;)
        n_wrong += helper_start_for_good(NULL, 0);
    enough = true;
    pthread_join(other, NULL);
    cr_assert_eq(n_wrong, 0);
    fixture_put(&pool, p);
    helper_remove_pool(&pool);
}

static void *poke_once(void *ignored) {
    (void)ignored;
    while (!enough) {
    }
    poke();
    return NULL;
}

static int start_beside_another(void *after_us) {
    helper_fork_child();
    pthread_t other;
    if (pthread_create(&other, NULL, poke_once, NULL)) return 2;
    usleep(MS);
    enough = true;
    for (uint64_t end = os_clock_ns() + *(unsigned *)after_us * 1000; os_clock_ns() < end;) {
    }
    return helper_start_for_good(visit, 100) ? 0 : 1;
}

/* But it is if that succeeds. */
Test(helper, that_is_started_by_others_is_there) {
    put_under_care();
    void *p = get_filled(16 * MIB);
    helper_allow(true);
    for (unsigned us = 0; us < 300; us++)
        cr_assert_eq(run_child(start_beside_another, &us).exit_status, 0, "%u us later", us);
    fixture_put(&pool, p);
    helper_remove_pool(&pool);
}

/* Nor is one mode of huge pages to be had for good from a file that could not be opened. */
Test(helper, finds_out_about_huge_pages_when_there_are_descriptors_again) {
    static struct pool late;
    struct pool_setup setup = fixture_setup();
    allow(RLIMIT_NOFILE, 0);
    int error = fixture_init(&late, &setup);
    allow(RLIMIT_NOFILE, 1024);
    cr_assert_eq(error, 0);
    cr_assert_eq(late.heap.huge_pages, HUGE_UNKNOWN);
    void *p = fixture_get(&late, MIB);
    cr_assert(p);
    memset(p, 1, MIB);
    late.heap.decay_ms = 200;
    cr_assert(helper_add_pool(&late));
    start_thread();
    for (int i = 0; i < 50 && READ_RELAXED(late.heap.huge_pages) == HUGE_UNKNOWN; i++)
        usleep(100 * MS);
    cr_assert_eq(READ_RELAXED(late.heap.huge_pages), os_huge_pages());
    fixture_put(&late, p);
    helper_remove_pool(&late);
    helper_remove_pool(&pool);
}
