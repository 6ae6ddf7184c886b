/* SPDX-License-Identifier: MIT */
/* test_fresh.c: untouched memory is made resident beforehand only where that is known to pay: what blocks of
 * a size are believed to be, and how soon a change is noticed. test_fresh_pages.c has by which pages. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "sync/options.h"
#include "pool/zero.h"
#include "fresh_fixture.h"

TestSuite(fresh, .init = set_up, .fini = tear_down, .timeout = 60);

Test(fresh, nothing_is_made_resident_before_blocks_have_been_seen_filled) {
    for (int i = 0; i < 40; i++) {
        char *p = fixture_get(&pool, 4 * MIB);
        cr_assert_eq(resident_pages(p, 4 * MIB), 0, "block %d", i);
        p[0] = 1;
    }
}

static bool expects_filled(size_t n_pages, bool zeroed) {
    for (int i = 0; i < TRIES; i++)
        if (zero_expects_filled(&pool, n_pages, zeroed)) return true;
    return false;
}

Test(fresh, two_filled_blocks_speak_for_the_next_but_one) {
    cr_assert_not(expects_filled(1024, false));
    get_filled(4 * MIB);
    cr_assert_not(expects_filled(1024, false), "nothing has looked yet");
    get_filled(4 * MIB);
    cr_assert_not(expects_filled(1024, false), "one may be an exception");
    get_filled(4 * MIB);
    cr_assert(expects_filled(1024, false));
    char *p = get_resident(4 * MIB);
    cr_assert(p);
    cr_assert_eq(first_nonzero(p, 4 * MIB), 4 * MIB);
    cr_assert_not(expects_filled(1024, true), "of zeroed blocks half a block counts as filled");
    cr_assert_not(expects_filled(64, false), "other sizes are others' habits");
}

Test(fresh, a_block_not_written_yet_is_no_evidence_against) {
    void *blocks[6];
    for (int i = 0; i < 6; i++)
        blocks[i] = fixture_get(&pool, 4 * MIB);
    for (int i = 0; i < 6; i++)
        memset(blocks[i], 1, 4 * MIB);
    for (int i = 0; i < 3; i++)
        get_filled(4 * MIB);
    cr_assert(expects_filled(1024, false));
}

Test(fresh, a_change_of_habit_is_noticed) {
    for (int i = 0; i < 4; i++)
        get_filled(4 * MIB);
    cr_assert(expects_filled(1024, false));
    int n_wasted = 0;
    for (int i = 0; i < 3 * 8; i++) {
        char *p = fixture_get(&pool, 4 * MIB);
        n_wasted += resident_pages(p, 4 * MIB) == 1024;
        p[0] = 1;
        fixture_put(&pool, p);
        pool_trim(&pool, 0);
    }
    cr_assert_leq(n_wasted, 8, "%d blocks were filled for nothing", n_wasted);
    cr_assert_not(expects_filled(1024, false));
}

Test(fresh, a_change_of_habit_is_noticed_although_nothing_is_freed) {
    for (int i = 0; i < 3; i++)
        get_filled(4 * MIB);
    cr_assert(expects_filled(1024, false));
    size_t n_wasted = 0;
    for (int i = 0; i < 60; i++) {
        char *p = fixture_get(&pool, 4 * MIB);
        p[0] = 1;
        n_wasted += resident_pages(p, 4 * MIB) - 1;
    }
    cr_assert_leq(n_wasted << PAGE_SHIFT, AHEAD_MIN_BYTES + 8 * MIB, "%zu pages", n_wasted);
    cr_assert_not(expects_filled(1024, false));
}

/* --- a change of habit costs two blocks --- */

#define WRONG_MOST 2

struct change {
    size_t n_bytes;
    unsigned n; /* blocks of a phase */
    bool keeps; /* until the end of the phase; else each block is given back, and the memory with it */
};

/* Made resident beforehand; or, of the largest, that is to be as it is touched. */
static bool expects(const void *p, size_t n_bytes) {
    if (n_bytes >= HUGE_MIN_BYTES) return fixture_extent(&pool, (void *)(uintptr_t)p)->flags & EXTENT_HUGE;
    return resident_pages(p, n_bytes) == n_bytes >> PAGE_SHIFT;
}

/* Blocks of untouched memory, each filled or touched on three pages. Of filled ones so many that are served
 * the wrong way before the first that is not: some are left as they are at any time. */
static unsigned count_wrong(const struct change *change, bool filled, uint64_t *rng) {
    void *blocks[16];
    unsigned n_wrong = 0;
    bool right = false;
    for (unsigned i = 0; i < change->n; i++) {
        char *p = blocks[i] = fixture_get(&pool, change->n_bytes);
        cr_assert(p);
        bool expected = expects(p, change->n_bytes);
        right |= expected;
        n_wrong += filled ? !right : expected;
        for (int k = 0; k < 3; k++)
            p[rng_range(rng, 0, change->n_bytes - 1)] = 1;
        if (filled) memset(p, 1, change->n_bytes);
        if (change->keeps) continue;
        fixture_put(&pool, p);
        pool_trim(&pool, 0);
    }
    for (unsigned i = 0; change->keeps && i < change->n; i++)
        fixture_put(&pool, blocks[i]);
    pool_trim(&pool, 0);
    return n_wrong;
}

ParameterizedTestParameters(fresh, a_change_of_habit_costs_two_blocks) {
    static struct change changes[] = {{MIB, 16, true},     {4 * MIB, 16, true},  {16 * MIB, 12, true},
                                      {MIB, 16, false},    {4 * MIB, 16, false}, {16 * MIB, 12, false},
                                      {64 * MIB, 8, true}, {64 * MIB, 12, false}};
    return cr_make_param_array(struct change, changes, sizeof changes / sizeof changes[0]);
}
ParameterizedTest(struct change *change, fresh, a_change_of_habit_costs_two_blocks, .init = set_up,
                  .timeout = 60) {
    uint64_t rng = change->n_bytes;
    for (int phase = 0; phase < 7; phase++) {
        bool filled = phase % 2;
        unsigned n_wrong = count_wrong(change, filled, &rng);
        cr_expect_leq(n_wrong, WRONG_MOST, "%zu MiB, %s, phase %d of %s blocks: %u", change->n_bytes / MIB,
                      change->keeps ? "kept" : "given back", phase, filled ? "filled" : "sparse", n_wrong);
    }
}

Test(fresh, a_growing_program_that_fills_its_blocks_is_served_throughout) {
    unsigned n_ready = 0;
    for (int i = 0; i < 100; i++) {
        char *p = fixture_get(&pool, 4 * MIB);
        n_ready += resident_pages(p, 4 * MIB) == 1024;
        memset(p, 1, 4 * MIB);
    }
    cr_assert_geq(n_ready, 70, "%u of 100", n_ready);
}

Test(fresh, the_largest_blocks_come_as_they_are_touched) {
    for (int i = 0; i < 3; i++)
        get_filled(HUGE_MIN_BYTES);
    char *p = fixture_get(&pool, HUGE_MIN_BYTES);
    cr_assert_eq(resident_pages(p, HUGE_MIN_BYTES), 0);
}

Test(fresh, small_heaps_take_no_more_than_was_asked_for) {
    size_t before = resident_bytes();
    for (int i = 0; i < 100; i++)
        get_filled(100 * KIB);
    if (!UNDER_ASAN) cr_assert_lt(resident_bytes() - before, 100 * 100 * KIB + MIB);
    cr_assert_eq(pool.heap.dirty_bytes, 0);
}

Test(fresh, near_a_limit_nothing_is_filled) {
    for (int i = 0; i < 4; i++)
        get_filled(4 * MIB);
    WRITE_RELAXED(pool.heap.limit_bytes, 40 * MIB);
    char *p = fixture_get(&pool, 4 * MIB);
    cr_assert_eq(resident_pages(p, 4 * MIB), 0);
}

Test(fresh, switched_off_means_off) {
    for (int i = 0; i < 4; i++)
        get_filled(4 * MIB);
    pool.huge = SWITCH_OFF;
    char *p = fixture_get(&pool, 4 * MIB);
    cr_assert_eq(resident_pages(p, 4 * MIB), 0);
}
