/* SPDX-License-Identifier: MIT */
/* test_zero.c: zeroed blocks are zero whatever was there, and the way they are cleared follows their use. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>
#include <sys/mman.h>

#include "sync/options.h"
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
TestSuite(zero, .init = set_up, .fini = tear_down, .timeout = 60);

static unsigned char *get_zeroed(size_t n_bytes) {
    return zero_get(&pool, tcache_find(&pool.tcaches), pages_of(n_bytes));
}

/* Of a block's pages, the share in RAM, in percent. */
static unsigned resident_percent(void *p, size_t n_bytes) {
    size_t n = fixture_resident_pages(p, n_bytes);
    cr_assert_neq(n, SIZE_MAX);
    return (unsigned)(n * 100 / (n_bytes >> PAGE_SHIFT));
}

Test(zero, always_zero_on_memory_that_was_full_of_ones) {
    uint64_t rng = 3;
    void *live[64] = {NULL};
    size_t checked = 0;
    for (unsigned i = 0; checked < 600 * MIB; i++) {
        unsigned slot = (unsigned)rng_range(&rng, 0, 63);
        if (live[slot]) fixture_put(&pool, live[slot]);
        size_t n = rng_range(&rng, 1, (size_t)1 << rng_range(&rng, 10, 23));
        unsigned char *p = get_zeroed(n);
        cr_assert(p);
        cr_assert_eq(first_nonzero(p, n), n, "round %u: byte %zu of %zu", i, first_nonzero(p, n), n);
        checked += n;
        size_t usable = extent_active_bytes(fixture_extent(&pool, p));
        memset(p, 0xff, usable);
        live[slot] = p;
        if (i % 50 == 0) pool_trim(&pool, rng_range(&rng, 0, 16 * MIB));
    }
}

Test(zero, too_large_is_refused) {
    cr_assert_null(get_zeroed(600 * MIB));
}

Test(zero, sparse_use_of_zeroed_blocks_costs_no_memory) {
    /* A hash table of 32 MiB of which two pages are touched, over and over. */
    for (int i = 0; i < 10; i++) {
        unsigned char *p = get_zeroed(32 * MIB);
        cr_assert_eq(p[100] + p[20 * MIB], 0);
        p[100] = 1;
        p[20 * MIB] = 1;
        if (i > 1) cr_assert_lt(resident_percent(p, 32 * MIB), 50, "round %d", i);
        fixture_put(&pool, p);
    }
}

Test(zero, dense_use_of_zeroed_blocks_keeps_their_pages) {
    unsigned n_kept = 0;
    for (int i = 0; i < 20; i++) {
        unsigned char *p = get_zeroed(32 * MIB);
        if (resident_percent(p, 32 * MIB) == 100) n_kept++;
        memset(p, 0x77, 32 * MIB);
        fixture_put(&pool, p);
    }
    cr_assert_gt(n_kept, 12, "cleared by memset %u times of 20", n_kept);
}

Test(zero, one_change_of_habit_is_noticed) {
    for (int i = 0; i < 20; i++) {
        unsigned char *p = get_zeroed(32 * MIB);
        memset(p, 0x77, 32 * MIB);
        fixture_put(&pool, p);
    }
    /* From now on sparse: within the recheck interval the pool must stop paying 32 MiB of memset for each. */
    unsigned n_sparse = 0;
    for (int i = 0; i < 200; i++) {
        unsigned char *p = get_zeroed(32 * MIB);
        p[0] = 1;
        n_sparse += resident_percent(p, 32 * MIB) < 50;
        fixture_put(&pool, p);
    }
    cr_assert_gt(n_sparse, 100, "%u of 200", n_sparse);
}

Test(zero, small_blocks_are_cleared_in_place) {
    unsigned char *p = fixture_get(&pool, 64 * KIB);
    memset(p, 1, 64 * KIB);
    fixture_put(&pool, p);
    unsigned char *q = get_zeroed(64 * KIB);
    cr_assert_eq(q, p, "the warm block is taken");
    cr_assert_eq(first_nonzero(q, 64 * KIB), 64 * KIB);
    cr_assert_eq(resident_percent(q, 64 * KIB), 100, "and stays warm");
}

Test(zero, where_faults_are_slow_larger_blocks_are_cleared) {
    atomic_store(&pool.n_fault_looks, ZERO_LOOKS);
    for (unsigned us = 1; us <= 100; us *= 10) {
        atomic_store(&pool.fault_ns, us * 1000);
        size_t least = zero_memset_bytes(&pool);
        cr_expect_eq(least,
                     us == 1    ? ZERO_MEMSET_BYTES
                     : us == 10 ? 10000 * ZERO_MEMSET_BYTES_PER_NS
                                : ZERO_MEMSET_MAX_BYTES,
                     "%u us: %zu", us, least);
        for (int i = 0; i < 4; i++) {
            unsigned char *p = get_zeroed(4 * MIB);
            bool cleared = resident_percent(p, 4 * MIB) == 100;
            if (i > 1) cr_expect_eq(cleared, us > 1, "%u us, round %d", us, i);
            p[100] = 1;
            fixture_put(&pool, p);
        }
        unsigned char *p = get_zeroed(16 * MIB);
        fixture_put(&pool, p);
        p = get_zeroed(16 * MIB);
        cr_expect_lt(resident_percent(p, 16 * MIB), 50, "%u us: large ones are purged all the same", us);
        fixture_put(&pool, p);
    }
}

Test(zero, what_a_fault_costs_is_measured) {
    cr_assert_eq(zero_memset_bytes(&pool), ZERO_MEMSET_BYTES, "nothing is known yet");
    unsigned n_looks = 0;
    for (int i = 0; i < 10; i++) {
        unsigned char *p = get_zeroed(32 * MIB);
        p[100] = 1;
        fixture_put(&pool, p);
        n_looks = atomic_load(&pool.n_fault_looks);
    }
    cr_assert_eq(n_looks, ZERO_LOOKS);
    uint32_t ns = atomic_load(&pool.fault_ns);
    cr_assert(ns > 50 && ns < 1000000, "%u ns", ns);
}

Test(zero, huge_pages_must_be_earned) {
    size_t pages = HUGE_MIN_BYTES >> PAGE_SHIFT;
    cr_assert_not(zero_wants_huge(&pool, pages, false), "nothing is known yet");
    cr_assert_not(zero_wants_huge(&pool, pages, true));
    struct learned *learned = &pool.learned.size[log2_floor(pages)];
    learned->malloced.filled = 3;
    cr_assert(zero_wants_huge(&pool, pages, false));
    cr_assert_not(zero_wants_huge(&pool, pages, true), "what is known of malloc says nothing of calloc");
    cr_assert_not(zero_wants_huge(&pool, pages / 4, false), "never below the minimum");
    pool.huge = SWITCH_OFF;
    cr_assert_not(zero_wants_huge(&pool, pages, false));
    pool.huge = SWITCH_ON;
    cr_assert_not(zero_wants_huge(&pool, pages, true), "never on memory that may be touched sparsely");
}

Test(zero, one_sparse_block_takes_huge_pages_away) {
    size_t n_bytes = HUGE_MIN_BYTES;
    struct learned *learned = &pool.learned.size[log2_floor(n_bytes >> PAGE_SHIFT)];
    unsigned char *p;
    for (int i = 0; i < 4; i++) {
        p = fixture_get(&pool, n_bytes);
        memset(p, 1, n_bytes);
        fixture_put(&pool, p);
        pool_trim(&pool, 0);
    }
    cr_assert_gt(learned->malloced.filled, 0, "filled blocks are noticed");
    learned->malloced.filled = 0; /* so that the next is observed on small pages */
    p = fixture_get(&pool, n_bytes);
    p[0] = 1;
    fixture_put(&pool, p);
    cr_assert_lt(learned->malloced.filled, 0);
    cr_assert_not(zero_wants_huge(&pool, n_bytes >> PAGE_SHIFT, false));
}

/* --- a change of habit --- */

#define WRONG_MOST 2

/* A pool on a machine where faults are cheap: small blocks are not always cleared. */
static void set_up_cheap_faults(void) {
    set_up();
    atomic_store(&pool.n_fault_looks, ZERO_LOOKS);
    atomic_store(&pool.fault_ns, 700);
}
TestSuite(zero_habits, .init = set_up_cheap_faults, .fini = tear_down, .timeout = 60);

/* Two places that call. */
static const char sites[2];

/* One zeroed block, filled or touched on three pages. True if it was served the wrong way, which is cleared
 * though sparse, or purged though filled. */
static bool is_wrong(unsigned char *p, size_t n_bytes, bool filled, uint64_t *rng) {
    bool cleared = resident_percent(p, n_bytes) > 90;
    size_t at[3];
    for (int i = 0; i < 3; i++) {
        at[i] = rng_range(rng, 0, n_bytes - 1);
        cr_assert_eq(p[at[i]], 0);
    }
    for (int i = 0; i < 3; i++)
        p[at[i]] = 1;
    if (filled) memset(p, 0x77, n_bytes);
    return cleared != filled;
}

static unsigned char *get_for(size_t n_bytes, int site) {
    unsigned char *p = zero_get_for(&pool, tcache_find(&pool.tcaches), pages_of(n_bytes), &sites[site]);
    cr_assert(p);
    return p;
}

/* Lengths of phases have no period. */
static unsigned phase_length(uint64_t *rng) {
    return (unsigned)rng_range(rng, 16, 32);
}

ParameterizedTestParameters(zero_habits, a_change_of_habit_costs_two_blocks) {
    static size_t sizes[] = {MIB, 4 * MIB, 16 * MIB, 64 * MIB};
    return cr_make_param_array(size_t, sizes, 4);
}
ParameterizedTest(size_t *n_bytes, zero_habits, a_change_of_habit_costs_two_blocks,
                  .init = set_up_cheap_faults, .timeout = 60) {
    uint64_t rng = *n_bytes;
    for (int phase = 0; phase < 7; phase++) {
        bool filled = phase % 2;
        unsigned n = phase_length(&rng), n_wrong = 0;
        for (unsigned i = 0; i < n; i++) {
            unsigned char *p = get_for(*n_bytes, 0);
            n_wrong += is_wrong(p, *n_bytes, filled, &rng);
            fixture_put(&pool, p);
        }
        cr_expect_leq(n_wrong, WRONG_MOST, "phase %d of %s blocks: %u of %u", phase,
                      filled ? "filled" : "sparse", n_wrong, n);
    }
}

/* One place fills its blocks, the other does not, in turns or at random; then they change parts. */
ParameterizedTestParameters(zero_habits, two_callers_have_a_habit_each) {
    static size_t sizes[] = {MIB, 4 * MIB, 16 * MIB, 64 * MIB};
    return cr_make_param_array(size_t, sizes, 4);
}
ParameterizedTest(size_t *n_bytes, zero_habits, two_callers_have_a_habit_each, .init = set_up_cheap_faults,
                  .timeout = 60) {
    uint64_t rng = *n_bytes;
    for (int phase = 0; phase < 6; phase++) {
        unsigned n = 2 * phase_length(&rng), n_wrong[2] = {0};
        for (unsigned i = 0; i < n; i++) {
            int site = (int)(phase < 3 ? i % 2 : rng_range(&rng, 0, 1));
            unsigned char *p = get_for(*n_bytes, site);
            n_wrong[site] += is_wrong(p, *n_bytes, (site + phase) % 2, &rng);
            fixture_put(&pool, p);
        }
        cr_expect_leq(n_wrong[0], WRONG_MOST, "phase %d, first caller: %u of %u", phase, n_wrong[0], n);
        cr_expect_leq(n_wrong[1], WRONG_MOST, "phase %d, second caller: %u of %u", phase, n_wrong[1], n);
    }
}

/* The kernel cannot tell, nor can what is in them: a few are purged on trial, ever fewer. */
Test(zero_habits, blocks_filled_with_zeros_are_cleared_as_well) {
    unsigned n_purged[2] = {0};
    for (int i = 0; i < 400; i++) {
        unsigned char *p = get_for(MIB, 0);
        n_purged[i >= 200] += resident_percent(p, MIB) < 90;
        memset(p, 0, MIB);
        fixture_put(&pool, p);
    }
    cr_expect_leq(n_purged[0], 10, "%u of 200", n_purged[0]);
    cr_expect_leq(n_purged[1], 8, "%u of 200", n_purged[1]);
}

/* One filled block in eight, at random or not, speaks for no other. */
ParameterizedTestParameters(zero_habits, where_few_are_filled_none_is_cleared) {
    static bool at_random[] = {false, true};
    return cr_make_param_array(bool, at_random, 2);
}
ParameterizedTest(bool *at_random, zero_habits, where_few_are_filled_none_is_cleared,
                  .init = set_up_cheap_faults, .timeout = 60) {
    uint64_t rng = 7;
    unsigned n_cleared = 0;
    for (unsigned i = 0; i < 800; i++) {
        bool filled = *at_random ? rng_range(&rng, 0, 7) == 0 : i % 8 == 0;
        unsigned char *p = get_for(MIB, 0);
        n_cleared += resident_percent(p, MIB) > 90;
        is_wrong(p, MIB, filled, &rng);
        fixture_put(&pool, p);
    }
    cr_expect_leq(n_cleared, 16, "%u of 800", n_cleared);
}

/* An exception now and then changes nothing for the others. */
Test(zero_habits, one_sparse_block_among_many_is_an_exception) {
    uint64_t rng = 7;
    unsigned n_purged = 0;
    for (unsigned i = 0; i < 800; i++) {
        unsigned char *p = get_for(MIB, 0);
        n_purged += resident_percent(p, MIB) < 90;
        is_wrong(p, MIB, rng_range(&rng, 0, 15) != 0, &rng);
        fixture_put(&pool, p);
    }
    cr_expect_leq(n_purged, 80, "%u of 800", n_purged);
}
