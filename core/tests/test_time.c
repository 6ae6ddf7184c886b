/* SPDX-License-Identifier: MIT */
/* test_time.c: ages on a clock of milliseconds that wraps every 49.7 days. Linked with a build whose clock a
 * test sets. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/time.h"
#include "os/os.h"
#include "pool/account.h"
#include "heap/decay.h"
#include "pool_fixture.h"

#define DAY_MS (24u * 3600 * 1000)
#define START_MS 1000000u

static struct pool pool;

static void set_up(void) {
    os_fault_clock_ms = START_MS;
    struct pool_setup setup = fixture_setup();
    setup.decay_ms = 4000;
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
}

static void tear_down(void) {
    const char *broken = pool_check(&pool);
    cr_expect_null(broken, "%s", broken);
    pool_finish(&pool);
}

TestSuite(time, .init = set_up, .fini = tear_down, .timeout = 60);

/* 64 MiB, written, in the heap. */
static void make_idle(void) {
    char *block = fixture_get(&pool, 64 * MIB);
    cr_assert(block);
    memset(block, 1, 64 * MIB);
    fixture_put(&pool, block);
    pool_flush_caches(&pool);
    cr_assert_geq(pool.heap.dirty_bytes, 64 * MIB);
}

/* Nobody calls for so long; then, as the clock goes on, somebody does for ten seconds. */
static size_t idle_after(uint64_t ms) {
    for (unsigned second = 0; second < 10; second++) {
        os_fault_clock_ms = (uint32_t)(START_MS + ms + second * 1000);
        pool_tick(&pool, os_clock_ms());
    }
    return pool.heap.dirty_bytes;
}

Test(time, later_means_by_little) {
    cr_assert(time_is_later(1, 0));
    cr_assert(time_is_later(0, UINT32_MAX));
    cr_assert(time_is_later(TIME_AHEAD_MS, 0));
    cr_assert_not(time_is_later(0, 0));
    cr_assert_not(time_is_later(0, 1));
    cr_assert_not(time_is_later(TIME_AHEAD_MS + 1, 0));
    cr_assert_not(time_is_later(0, 25 * DAY_MS));
    cr_assert_not(time_is_later(0, 49 * DAY_MS));
}

Test(time, passed_is_never_negative) {
    cr_assert_eq(time_passed_ms(7, 7), 0);
    cr_assert_eq(time_passed_ms(7, 8), 0, "read after us");
    cr_assert_eq(time_passed_ms(8, 7), 1);
    cr_assert_eq(time_passed_ms(4, UINT32_MAX), 5);
    cr_assert_eq(time_passed_ms(49 * DAY_MS, 0), 49 * DAY_MS);
}

Test(time, what_is_idle_for_days_goes_back) {
    static const unsigned days[] = {1, 24, 25, 30, 49, 50, 75, 100};
    for (unsigned i = 0; i < sizeof days / sizeof days[0]; i++) {
        os_fault_clock_ms = START_MS;
        pool.heap.decay_epoch_ms = pool.heap.marked_ms = START_MS;
        make_idle();
        cr_assert_eq(idle_after((uint64_t)days[i] * DAY_MS), 0, "after %u days", days[i]);
    }
}

Test(time, what_was_seen_and_left_for_days_goes_back) {
    make_idle();
    pool_tick(&pool, os_clock_ms() + 200);
    cr_assert_eq(idle_after((uint64_t)25 * DAY_MS), 0);
}

/* By 100 ms before the whole wrap it seems as young as then, and is looked at again. */
Test(time, what_seems_young_after_the_whole_wrap_goes_a_moment_later) {
    make_idle();
    cr_assert_eq(idle_after(((uint64_t)1 << 32) - 100), 0);
}

Test(time, shards_are_flushed_after_days) {
    for (unsigned i = 0; i < 2; i++) {
        os_fault_clock_ms = START_MS;
        fixture_get_and_put(&pool, 40, 128 * KIB);
        struct tcache *tcache = tcache_find(&pool.tcaches);
        struct extent *list = tcache_take_all(tcache);
        cr_assert(list);
        shard_put_list(&pool.shards, list);
        os_fault_clock_ms = START_MS + (i ? 50 : 25) * DAY_MS;
        pool_drain_caches(&pool, true);
        cr_assert_eq(account_cached_bytes(&pool, NULL), 0);
    }
}

Test(time, a_tick_with_an_earlier_time_gives_nothing_back) {
    make_idle();
    os_fault_clock_ms += DECAY_GRACE_MS + 260; /* a step has just begun */
    pool_tick(&pool, os_clock_ms());
    size_t idle = pool.heap.dirty_bytes;
    cr_assert_gt(idle, 32 * MIB);
    pool_tick(&pool, os_clock_ms() - 150); /* another thread, which read the clock before and had to wait */
    cr_assert_eq(pool.heap.dirty_bytes, idle);
}

Test(time, a_time_made_odd_is_not_long_ago) {
    os_fault_clock_ms = START_MS;
    pool.slots_closed_ms = os_clock_ms() | 1;
    cr_assert(account_slots_closed(&pool));
    os_fault_clock_ms += 60000;
    cr_assert_not(account_slots_closed(&pool));
}
