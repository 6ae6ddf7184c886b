/* SPDX-License-Identifier: MIT */
/* test_resize.c: growing and shrinking: what stays where, what is copied, what is moved, and what is left
 * behind. */
#include <criterion/criterion.h>
#include <string.h>

#include "pool/resize.h"
#include "pool/zero.h"
#include "pool_fixture.h"
#include "support.h"

static struct pool pool;

static void set_up(void) {
    struct pool_setup setup = fixture_setup();
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
}
static void tear_down(void) {
    const char *broken = pool_check(&pool);
    cr_expect_null(broken, "%s", broken);
    pool_finish(&pool);
}
TestSuite(resize, .init = set_up, .fini = tear_down, .timeout = 60);

/* As zp_resize does it. NULL if refused. */
static void *resize(void *p, size_t n_bytes) {
    struct extent *e = pool_live_extent(&pool, p);
    if (resize_in_place(&pool, e, n_bytes)) return p;
    return resize_move(&pool, tcache_find(&pool.tcaches), e, n_bytes);
}

static size_t usable(void *p) {
    return extent_active_bytes(fixture_extent(&pool, p));
}

/* Whatever is idle must, if asked for zeroed, be zero. */
static void assert_idle_memory_is_clean_or_cleared(size_t n_bytes, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        unsigned char *p = zero_get(&pool, tcache_find(&pool.tcaches), pages_of(n_bytes));
        if (!p) break;
        cr_assert_eq(first_nonzero(p, n_bytes), n_bytes, "block %u is not zero", i);
    }
}

Test(resize, within_the_usable_size_nothing_moves) {
    char *p = fixture_get(&pool, 100000);
    cr_assert_eq(resize(p, usable(p)), p);
    cr_assert_eq(resize(p, 1 + usable(p) / 2 + usable(p) / 4), p);
    fixture_put(&pool, p);
}

Test(resize, shrinking_keeps_the_front_and_gives_the_tail_back) {
    char *p = fixture_get(&pool, 16 * MIB);
    pattern_fill(p, MIB, 1);
    memset(p + MIB, 0xff, 15 * MIB);
    size_t active = pool.heap.active_bytes;
    cr_assert_eq(resize(p, MIB), p);
    cr_assert_eq(pattern_check(p, MIB, 1), MIB);
    cr_assert_eq(usable(p), MIB);
    cr_assert_eq(active - pool.heap.active_bytes, 15 * MIB);
    assert_idle_memory_is_clean_or_cleared(MIB, 20);
}

Test(resize, a_recycled_block_shrinks_cleanly_too) {
    for (int round = 0; round < 3; round++) {
        char *p = fixture_get(&pool, 16 * MIB);
        memset(p, 0xff, 16 * MIB);
        p = resize(p, 3 * MIB);
        unsigned char *zeroed = zero_get(&pool, tcache_find(&pool.tcaches), pages_of(12 * MIB));
        cr_assert_eq(first_nonzero(zeroed, 12 * MIB), 12 * MIB);
        fixture_put(&pool, zeroed);
        fixture_put(&pool, p);
    }
}

Test(resize, grows_into_the_free_neighbour) {
    char *p = fixture_get(&pool, 600 * KIB);
    pattern_fill(p, 600 * KIB, 2);
    char *q = resize(p, 5 * MIB); /* nothing behind it but untouched space */
    cr_assert_eq(q, p);
    cr_assert_eq(pattern_check(p, 600 * KIB, 2), 600 * KIB);
    memset(p, 1, usable(p));
    fixture_put(&pool, p);
}

static void grow_by_moving(size_t from, size_t to) {
    char *p = fixture_get(&pool, from);
    char *wall = fixture_get(&pool, from);
    pattern_fill(p, usable(p), 3);
    size_t had = usable(p);
    char *q = resize(p, to);
    cr_assert(q);
    if (q != p) cr_assert_geq(usable(q), to);
    cr_assert_eq(pattern_check(q, had, 3), had, "contents are lost from %zu to %zu", from, to);
    memset(q, 0xee, usable(q));
    cr_assert_null(pool_check(&pool));
    fixture_put(&pool, q);
    fixture_put(&pool, wall);
}

Test(resize, moving_keeps_the_contents_copied_or_remapped) {
    for (size_t from = 4 * KIB; from <= 32 * MIB; from *= 2)
        for (size_t factor = 2; factor <= 8; factor *= 4)
            grow_by_moving(from, from * factor);
    assert_idle_memory_is_clean_or_cleared(2 * MIB, 60);
}

Test(resize, a_block_that_keeps_growing_seldom_moves) {
    size_t n = 64 * KIB;
    char *p = fixture_get(&pool, n), *wall = fixture_get(&pool, n);
    unsigned n_moves = 0;
    pattern_fill(p, n, 4);
    while (n < 256 * MIB) {
        size_t larger = n + n / 8;
        char *q = resize(p, larger);
        cr_assert(q);
        cr_assert_eq(pattern_check(q, n, 4), n);
        n_moves += q != p;
        p = q;
        n = larger;
        pattern_fill(p, n, 4);
        char *next_wall = n % 3 ? NULL : fixture_get(&pool, 64 * KIB);
        if (next_wall) fixture_put(&pool, next_wall);
    }
    cr_assert_leq(n_moves, 12, "moved %u times", n_moves);
    fixture_put(&pool, p);
    fixture_put(&pool, wall);
    cr_assert_null(pool_check(&pool));
}

/* Rather than over untouched memory, where idle warm memory has room for twice as much; once there it
 * stays. */
Test(resize, a_block_grows_into_warm_room) {
    char *warm = fixture_get(&pool, 32 * MIB), *wall = fixture_get(&pool, 64 * KIB),
         *p = fixture_get(&pool, 2 * MIB);
    memset(warm, 1, 32 * MIB);
    pattern_fill(p, 2 * MIB, 5);
    cr_assert(p > warm, "else the growing block has no untouched memory behind it, and nothing is tested");
    fixture_put(&pool, warm);
    uintptr_t frontier = pool.heap.frontier;
    size_t n = 2 * MIB;
    unsigned n_moves = 0;
    while (n < 15 * MIB) {
        char *q = resize(p, n + n / 8);
        cr_assert_eq(pattern_check(q, n, 5), n);
        n_moves += q != p;
        p = q;
        n += n / 8;
        pattern_fill(p, n, 5);
        cr_assert(p >= warm && p + n <= warm + 32 * MIB, "%zu bytes are %td bytes from the warm ones", n,
                  p - warm);
    }
    cr_assert_eq(n_moves, 1);
    cr_assert_eq(pool.heap.frontier, frontier);
    fixture_put(&pool, p);
    fixture_put(&pool, wall);
    assert_idle_memory_is_clean_or_cleared(2 * MIB, 20);
}

/* Else one of two that grow beside each other might be copied at each step. */
Test(resize, a_block_that_grows_by_small_steps_stays) {
    char *warm = fixture_get(&pool, 32 * MIB), *wall = fixture_get(&pool, 64 * KIB),
         *p = fixture_get(&pool, 4 * MIB);
    memset(warm, 1, 32 * MIB);
    cr_assert(p > warm);
    fixture_put(&pool, warm);
    for (size_t n = 4 * MIB; n < 8 * MIB; n += 64 * KIB)
        cr_assert_eq(resize(p, n + 64 * KIB), p);
    fixture_put(&pool, p);
    fixture_put(&pool, wall);
}

Test(resize, a_block_that_moves_again_and_again_counts_once) {
    char *p = fixture_get(&pool, 600 * KIB);
    void *walls[12];
    unsigned n = 0;
    for (size_t want = MIB; want <= 256 * MIB; want = want * 3 / 2) {
        walls[n % 12] = fixture_get(&pool, 600 * KIB);
        n++;
        char *q = resize(p, want);
        if (!q) break;
        p = q;
    }
    cr_assert_gt(n, 6);
    int64_t count = pool.heap.counters.n_moved_vmas;
    cr_assert_leq(count, 2, "%ld", (long)count);
    fixture_put(&pool, p);
    pool_trim(&pool, 0);
    cr_assert_eq(pool.heap.counters.n_moved_vmas, 0);
    (void)walls;
}

Test(resize, the_limit_on_moved_blocks_counts_those_that_exist) {
    /* A server that grows one buffer after the other must not lose page moving for good after a few
     * thousand. */
    pool.heap.counters.n_moved_blocks = 0;
    unsigned n_by_tables = 0;
    for (int i = 0; i < 4600; i++) {
        char *p = fixture_get(&pool, 512 * KIB), *wall = fixture_get(&pool, 512 * KIB);
        uint64_t before = pool.heap.counters.n_moved_blocks;
        char *q = resize(p, 8 * MIB);
        n_by_tables += pool.heap.counters.n_moved_blocks != before;
        fixture_put(&pool, q);
        fixture_put(&pool, wall);
        pool_trim(&pool, 0);
    }
    /* As many as in the first thousand, in proportion; in place growth is also fine. */
    if (n_by_tables < 1000) cr_skip_test("blocks grow in place here (%u moved)", n_by_tables);
    cr_assert_gt(n_by_tables, 4200, "page moving stopped after %u blocks, none of which is left",
                 n_by_tables);
}

Test(resize, refusal_leaves_everything_as_it_was) {
    char *p = fixture_get(&pool, MIB);
    pattern_fill(p, MIB, 5);
    size_t sizes[] = {600 * MIB,
                      2 * GIB,
                      (size_t)1 << 40,
                      PTRDIFF_MAX,
                      (size_t)PTRDIFF_MAX + 1,
                      SIZE_MAX - 2 * PAGE_BYTES,
                      SIZE_MAX - PAGE_BYTES + 1,
                      SIZE_MAX - 4094,
                      SIZE_MAX - 1,
                      SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct extent *e = pool_live_extent(&pool, p);
        cr_assert_not(resize_in_place(&pool, e, sizes[i]), "in place to %zx", sizes[i]);
        cr_assert_null(resize_move(&pool, tcache_find(&pool.tcaches), e, sizes[i]), "moved to %zx", sizes[i]);
        cr_assert_eq(usable(p), MIB);
        cr_assert_eq(pattern_check(p, MIB, 5), MIB);
    }
    fixture_put(&pool, p);
}

Test(resize, random_against_a_model) {
    struct {
        char *p;
        size_t n;
        uint64_t tag;
    } live[40] = {{NULL, 0, 0}};
    uint64_t rng = 17, tag = 0;
    for (unsigned i = 0; i < 20000; i++) {
        unsigned slot = (unsigned)rng_range(&rng, 0, 39);
        size_t n = rng_range(&rng, 1, (size_t)1 << rng_range(&rng, 10, 23));
        if (!live[slot].p) {
            bool zeroed = rng_next(&rng) % 2;
            live[slot].p =
                zeroed ? zero_get(&pool, tcache_find(&pool.tcaches), pages_of(n)) : fixture_get(&pool, n);
            if (!live[slot].p) continue;
            if (zeroed)
                cr_assert_eq(first_nonzero(live[slot].p, n), n, "operation %u: calloc is not zero", i);
        } else {
            cr_assert_eq(pattern_check(live[slot].p, live[slot].n, live[slot].tag), live[slot].n,
                         "operation %u", i);
            if (rng_next(&rng) % 3 == 0) {
                fixture_put(&pool, live[slot].p);
                live[slot].p = NULL;
                continue;
            }
            size_t both = min_size(n, live[slot].n);
            char first[64];
            memcpy(first, live[slot].p, min_size(both, 64));
            char *q = resize(live[slot].p, n);
            if (!q) continue;
            cr_assert_eq(memcmp(q, first, min_size(both, 64)), 0, "operation %u", i);
            live[slot].p = q;
        }
        live[slot].n = n;
        live[slot].tag = ++tag;
        pattern_fill(live[slot].p, n, tag);
        if (i % 2000 == 0) cr_assert_null(pool_check(&pool), "%s", pool_check(&pool));
    }
}
