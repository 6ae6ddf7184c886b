/* SPDX-License-Identifier: MIT */
/* test_helper.c: the background thread: what it cares for, and when it leaves and comes back. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "os/os.h"
#include "pool_fixture.h"

#define MS 1000

static struct pool pool;

static void set_up(void)
{
    struct pool_setup setup = fixture_setup();
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
}
TestSuite(helper, .init = set_up, .timeout = 60);

/* Its lock is never released: who waits for it waits in vain, and what it holds is never given back. */
Test(helper, has_no_business_with_a_retired_pool)
{
    static struct pool other;
    struct pool_setup setup = fixture_setup();
    cr_assert_eq(fixture_init(&other, &setup), 0);
    cr_assert(fixture_get(&pool, 20 * MIB));
    other.heap.decay_ms = pool.heap.decay_ms = 200;
    cr_assert(helper_add_pool(&pool) && helper_add_pool(&other));
    pool.retired = true;
    cr_assert(lock_acquire(&pool.heap.lock));
    os_helper_prepare();
    helper_allow(true);
    void *p[2] = {fixture_get(&other, 16 * MIB), fixture_get(&other, 16 * MIB)};
    cr_assert(helper_runs());
    for (int i = 0; i < 2; i++)
        fixture_put(&other, p[i]);
    for (int i = 0; i < 150 && helper_runs(); i++)
        usleep(100000);
    cr_assert_not(helper_runs(), "still at work after 15 s");
    cr_assert_eq(other.heap.dirty_bytes, 0);
    helper_remove_pool(&pool);
    helper_remove_pool(&other);
}

/* The pool gets the thread, and is empty afterwards. */
static void start_thread(void)
{
    pool.heap.decay_ms = 200;
    cr_assert(helper_add_pool(&pool));
    os_helper_prepare();
    helper_allow(true);
    fixture_put(&pool, fixture_get(&pool, 16 * MIB));
    cr_assert(helper_runs());
    pool_trim(&pool, 0);
}

static void *get_filled(size_t n_bytes)
{
    void *p = fixture_get(&pool, n_bytes);
    memset(p, 1, n_bytes);
    return p;
}

static bool all_is_given_back(void)
{
    for (int i = 0; i < 100 && pool.heap.active_bytes + pool.heap.dirty_bytes; i++)
        usleep(100 * MS);
    return pool.heap.active_bytes + pool.heap.dirty_bytes == 0;
}

/* While it sleeps for the last time before it leaves, after some three seconds of rest, too. */
ParameterizedTestParameters(helper, what_is_freed_as_it_leaves_is_given_back)
{
    static unsigned after_ms[] = {2700, 3200, 3700};
    return cr_make_param_array(unsigned, after_ms, 3);
}
ParameterizedTest(unsigned *after_ms, helper, what_is_freed_as_it_leaves_is_given_back, .init = set_up, .timeout = 60)
{
    void *p[3];
    start_thread();
    for (int i = 0; i < 3; i++)
        p[i] = get_filled(MIB);
    for (unsigned ms = 0; ms < *after_ms; ms += 100)
        usleep(100 * MS);
    for (int i = 0; i < 3; i++)
        fixture_put(&pool, p[i]);
    cr_assert(all_is_given_back(), "%zu bytes live and %zu idle 10 s later", pool.heap.active_bytes, pool.heap.dirty_bytes);
    helper_remove_pool(&pool);
}

Test(helper, comes_back_for_less_than_it_first_came_for)
{
    start_thread();
    for (int i = 0; i < 150 && helper_runs(); i++)
        usleep(100 * MS);
    cr_assert_not(helper_runs(), "still at work after 15 s");
    usleep(100 * MS); /* it is off its stack */
    void *p = get_filled(5 * MIB);
    cr_assert(helper_runs());
    fixture_put(&pool, p);
    cr_assert(all_is_given_back());
    helper_remove_pool(&pool);
}

Test(helper, does_not_come_for_little)
{
    pool.heap.decay_ms = 200;
    cr_assert(helper_add_pool(&pool));
    os_helper_prepare();
    helper_allow(true);
    fixture_put(&pool, get_filled(7 * MIB));
    cr_assert_not(helper_runs());
    fixture_put(&pool, get_filled(9 * MIB));
    cr_assert(helper_runs());
    helper_remove_pool(&pool);
}

static void allow(int resource, rlim_t n)
{
    struct rlimit limit;
    cr_assert_eq(getrlimit((__rlimit_resource_t)resource, &limit), 0);
    limit.rlim_cur = n < limit.rlim_max ? n : limit.rlim_max;
    cr_assert_eq(setrlimit((__rlimit_resource_t)resource, &limit), 0);
}

struct obstacle {
    int resource;
    rlim_t n;
};

/* Ten processes are not to be shared; without a descriptor nobody can tell whether there is a debugger. */
ParameterizedTestParameters(helper, comes_once_what_stood_in_its_way_has_gone)
{
    static struct obstacle obstacles[] = {{RLIMIT_NPROC, 10}, {RLIMIT_NOFILE, 0}};
    return cr_make_param_array(struct obstacle, obstacles, 2);
}
ParameterizedTest(struct obstacle *obstacle, helper, comes_once_what_stood_in_its_way_has_gone, .init = set_up, .timeout = 60)
{
    pool.heap.decay_ms = 200;
    cr_assert(helper_add_pool(&pool));
    os_helper_prepare();
    helper_allow(true);
    allow(obstacle->resource, obstacle->n);
    void *p[3];
    p[0] = get_filled(16 * MIB);
    cr_assert_not(helper_runs());
    allow(obstacle->resource, obstacle->resource == RLIMIT_NOFILE ? 1024 : RLIM_INFINITY);
    p[1] = get_filled(16 * MIB);
    cr_assert_not(helper_runs(), "not tried again at each call");
    helper_retry_ms = 100;
    usleep(200 * MS);
    p[2] = get_filled(16 * MIB);
    cr_assert(helper_runs());
    for (int i = 0; i < 3; i++)
        fixture_put(&pool, p[i]);
    cr_assert(all_is_given_back());
    helper_remove_pool(&pool);
}

static int n_visits;
static void visit(void) { __atomic_fetch_add(&n_visits, 1, __ATOMIC_RELAXED); }

/* Who asked has been told no, and has taken its things away. */
Test(helper, that_comes_later_does_not_visit_who_was_refused)
{
    pool.heap.decay_ms = 200;
    cr_assert(helper_add_pool(&pool));
    os_helper_prepare();
    helper_allow(true);
    allow(RLIMIT_NPROC, 10);
    cr_assert_not(helper_start_for_good(visit, 100));
    allow(RLIMIT_NPROC, RLIM_INFINITY);
    helper_retry_ms = 0;
    fixture_put(&pool, get_filled(16 * MIB));
    cr_assert(helper_runs());
    for (int i = 0; i < 150 && helper_runs(); i++)
        usleep(100 * MS);
    cr_assert_not(helper_runs(), "still at work after 15 s");
    cr_assert_eq(__atomic_load_n(&n_visits, __ATOMIC_RELAXED), 0);
    helper_remove_pool(&pool);
}
