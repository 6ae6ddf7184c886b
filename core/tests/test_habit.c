/* SPDX-License-Identifier: MIT */
/* test_habit.c: what is learned from blocks that are filled and blocks that are not (zero.h): when it is
 * believed, and for how long. */
#include <criterion/criterion.h>
#include <string.h>

#include "pool/zero.h"
#include "pool_fixture.h"
#include "support.h"

static struct pool pool;

static void set_up(void) {
    cr_assert_eq(fixture_init_learning(&pool), 0);
}
static void tear_down(void) {
    cr_expect_null(pool_check(&pool));
    pool_finish(&pool);
}
TestSuite(habit, .init = set_up, .fini = tear_down, .timeout = 60);

#define N_PAGES (4 * MIB >> PAGE_SHIFT)

static bool is_believed(void) {
    return fill_habit(&pool.learned, N_PAGES) > 0;
}

/* The share of n blocks at which blocks of the size are taken to be filled, in 1/1000, where each is filled
 * with a chance of k in 1000. */
static unsigned believed_share(unsigned n, unsigned k, uint64_t seed) {
    unsigned n_believed = 0;
    uint64_t rng = seed;
    for (unsigned i = 0; i < n; i++) {
        fill_learn(fill_of(&pool.learned, N_PAGES), rng_next(&rng) % 1000 < k);
        n_believed += is_believed();
    }
    return n_believed * 1000 / n;
}

Test(habit, one_filled_block_in_eight_is_not_believed) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        unsigned share = believed_share(20000, 125, seed);
        cr_assert_leq(share, 1, "seed %lu: %u in 1000", (unsigned long)seed, share);
    }
}

/* Nor for long where they come periodically, in a pair or by chance at the very beginning. */
Test(habit, neither_a_rhythm_nor_a_lucky_beginning_helps) {
    unsigned n_believed = 0;
    for (int i = 0; i < 3; i++)
        fill_learn(fill_of(&pool.learned, N_PAGES), true);
    for (int i = 0; i < 8000; i++) {
        fill_learn(fill_of(&pool.learned, N_PAGES), i % 16 < 2);
        n_believed += is_believed();
    }
    cr_assert_leq(n_believed, 10, "%u of 8000", n_believed);
}

Test(habit, half_and_half_is_not_believed_either) {
    cr_assert_leq(believed_share(20000, 500, 5), 5);
}

Test(habit, blocks_that_are_filled_are_believed_at_once_and_again_in_the_end) {
    fill_learn(fill_of(&pool.learned, N_PAGES), true);
    cr_assert(is_believed());
    cr_assert_eq(fill_habit(&pool.learned, 2 * N_PAGES), 0, "of this size");
    for (int i = 0; i < 100; i++)
        fill_learn(fill_of(&pool.learned, N_PAGES), i % 3 == 0);
    cr_assert_not(is_believed());
    int n = 0;
    for (; n < 100 && !is_believed(); n++)
        fill_learn(fill_of(&pool.learned, N_PAGES), true);
    cr_assert(n >= 1 && n <= 20, "after %d", n);
    /* Where nearly all are filled one exception does not change that for long. */
    cr_assert_geq(believed_share(20000, 995, 7), 850);
}

Test(habit, each_wrong_belief_costs_more) {
    int before = 0;
    for (int round = 0; round < 3; round++) {
        int n = 0;
        for (; !is_believed(); n++)
            fill_learn(fill_of(&pool.learned, N_PAGES), true);
        cr_assert_gt(n, before, "round %d: %d", round, n);
        before = n;
        fill_learn(fill_of(&pool.learned, N_PAGES), false);
        cr_assert_lt(fill_habit(&pool.learned, N_PAGES), 0, "one that is sparse is enough");
    }
}

Test(habit, seen_filled_is_what_counts_against_memory_made_ready_for_nothing) {
    struct learned *learned = &pool.learned.size[log2_floor(N_PAGES)];
    atomic_store(&learned->ahead_pages, 1000);
    fill_learn(fill_of(&pool.learned, N_PAGES), false);
    cr_assert_eq(atomic_load(&learned->ahead_pages), 1000);
    fill_learn(fill_of(&pool.learned, N_PAGES), true);
    cr_assert_eq(atomic_load(&learned->ahead_pages), 0);
}

/* --- the last growth of blocks --- */

static void *grown(size_t from, size_t to, bool touched) {
    char *p = fixture_get(&pool, from);
    cr_assert(p);
    memset(p, 1, from);
    struct extent *extent = fixture_extent(&pool, p);
    cr_assert(heap_extend(&pool.heap, extent, pages_of(to), NULL));
    extent->flags |= EXTENT_GREW;
    if (touched) memset(p + from, 1, to - from);
    return p;
}

Test(habit, growth_that_is_not_touched_is_noticed_and_forgotten) {
    size_t n_pages = pages_of(9 * MIB);
    cr_assert_not(zero_tail_is_sparse(&pool, n_pages));
    fixture_put(&pool, grown(5 * MIB, 9 * MIB, false));
    cr_assert(zero_tail_is_sparse(&pool, n_pages));
    cr_assert_not(zero_tail_is_sparse(&pool, n_pages / 4), "of this size");
    pool_trim(&pool, 0);
    fixture_put(&pool, grown(5 * MIB, 9 * MIB, true));
    cr_assert_not(zero_tail_is_sparse(&pool, n_pages));
}

Test(habit, growth_that_shrinks_away_shows_nothing) {
    char *p = grown(5 * MIB, 9 * MIB, false);
    struct extent *extent = fixture_extent(&pool, p);
    heap_shrink(&pool.heap, extent, pages_of(4 * MIB));
    extent->flags |= EXTENT_GREW;
    fixture_put(&pool, p);
    cr_assert_not(zero_tail_is_sparse(&pool, pages_of(4 * MIB)));
}
