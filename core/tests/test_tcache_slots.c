/* SPDX-License-Identifier: MIT */
/* test_tcache_slots.c: which block a thread cache hands out: its slots, the order of its stacks, and near
 * fits. */
#include <criterion/criterion.h>

#include "pool/zero.h"
#include "tcache_fixture.h"

TestSuite(tcache_slots, .init = set_up, .fini = tear_down, .timeout = 60);

Test(tcache_slots, is_last_in_first_out_and_exact) {
    void *a = fixture_get(&pool, 40 * KIB), *b = fixture_get(&pool, 40 * KIB),
         *c = fixture_get(&pool, 40 * KIB);
    fixture_put(&pool, a);
    fixture_put(&pool, b);
    fixture_put(&pool, c);
    cr_assert_eq(fixture_get(&pool, 40 * KIB), c, "that is in the slot");
    cr_assert_eq(fixture_get(&pool, 40 * KIB), b);
    cr_assert_eq(fixture_get(&pool, 40 * KIB), a);
    fixture_put(&pool, a);
    cr_assert_neq(fixture_get(&pool, 44 * KIB), a, "another class");
    cr_assert_eq(fixture_get(&pool, 37 * KIB), a, "the same class");
}

Test(tcache_slots, one_big_block_stays_at_every_size) {
    /* The first put of a block goes the long way round (it is fresh); from then on the slot serves it. */
    for (size_t n = 300 * KIB; n <= 256 * MIB; n *= 3) {
        fixture_trust(&pool, n); /* or the largest go through the heap, to be watched */
        fixture_get_and_put(&pool, 1, n);
        fixture_get_and_put(&pool, 1, n);
        void *p = fixture_get(&pool, n);
        fixture_put(&pool, p);
        cr_assert_eq(tcache_find(&pool.tcaches)->big.extent, fixture_extent(&pool, p), "%zu bytes", n);
        cr_assert_eq(fixture_get(&pool, n), p);
        cr_assert_null(tcache_find(&pool.tcaches)->big.extent);
        fixture_put(&pool, p);
    }
}

/* Whoever gets it next may touch little of it, and nobody would notice. */
Test(tcache_slots, a_warm_block_of_an_unknown_habit_does_not_stay_in_the_slot) {
    size_t n = 20 * MIB;
    for (int i = 0; i < 2; i++) {
        void *p = fixture_get(&pool, n);
        struct extent *extent = fixture_extent(&pool, p);
        heap_prove(&pool.heap, extent);
        fixture_put(&pool, p);
        cr_assert_eq(tcache_find(&pool.tcaches)->big.extent, i ? extent : NULL);
        fixture_trust(&pool, n);
    }
}

/* A block that has a bin serves what has the same bin, another what is up to 1/16 smaller and has none. */
Test(tcache_slots, a_slot_serves_the_sizes_that_its_block_is_good_for) {
    struct tcache *tcache = tcache_get(&pool.tcaches);
    for (size_t n_pages = 1; n_pages <= 1200; n_pages += 1 + n_pages / 97) {
        void *p;
        for (int i = 0; i < 2; i++) { /* the first time it is fresh and goes the long way */
            p = fixture_get(&pool, n_pages * PAGE_BYTES);
            fixture_put(&pool, p);
        }
        struct extent *extent = fixture_extent(&pool, p);
        bool big = tcache_is_big(extent);
        struct tcache_slot *slot = big ? &tcache->big : &tcache->small;
        cr_assert_eq(slot->extent, extent, "%zu pages", n_pages);
        size_t from = extent->n_pages - extent->n_pages / 8 - 2;
        for (size_t n = from > 3 ? from : 1; n <= extent->n_pages + 2u; n++) {
            bool serves = big ? n > TCACHE_BIN_PAGES && n <= extent->n_pages && extent->n_pages - n <= n / 16
                              : n <= TCACHE_BIN_PAGES && class_of_pages(n) == extent->cls;
            cr_assert_eq(tcache_slot_fits(slot, n * PAGE_BYTES), serves, "%u pages for %zu", extent->n_pages,
                         n);
            cr_assert_eq(tcache_slot_fits(slot, (n - 1) * PAGE_BYTES + 1), serves, "%u pages for %zu",
                         extent->n_pages, n);
        }
        cr_assert_not(tcache_slot_fits(slot, 0) || tcache_slot_fits(slot, SIZE_MAX));
    }
}

Test(tcache_slots, a_second_big_block_goes_to_the_heap) {
    fixture_get_and_put(&pool, 2, MIB);
    fixture_get_and_put(&pool, 2, MIB);
    cr_assert(tcache_find(&pool.tcaches)->big.extent);
    cr_assert_eq(pool.heap.dirty_bytes, MIB);
}

Test(tcache_slots, a_thread_that_only_frees_big_blocks_keeps_none) {
    void *blocks[8];
    for (int i = 0; i < 8; i++)
        blocks[i] = fixture_get(&pool, MIB + (size_t)i * 64 * KIB);
    for (int i = 0; i < 8; i++)
        fixture_put(&pool, blocks[i]);
    struct tcache *tcache = tcache_find(&pool.tcaches);
    cr_assert_null(tcache->big.extent, "it would be missed by the thread that allocates");
    cr_assert_gt(pool.heap.dirty_bytes, 8 * MIB);
    void *p = fixture_get(&pool, MIB);
    fixture_put(&pool, p);
    for (int i = 0; i < 8; i++)
        blocks[i] = fixture_get(&pool, MIB + (size_t)i * 64 * KIB);
    for (int i = 0; i < 8; i++) {
        fixture_put(&pool, blocks[i]);
        fixture_get_and_put(&pool, 20, 4 * KIB);
    }
    cr_assert_null(tcache->big.extent, "small blocks in between change nothing");
    p = fixture_get(&pool, MIB);
    fixture_put(&pool, p);
    cr_assert_eq(tcache->big.extent, fixture_extent(&pool, p), "once it asks for one, it may keep one");
}

Test(tcache_slots, blocks_taken_from_the_slot_in_between_are_no_reason_to_hand_over) {
    for (int i = 0; i < 8; i++) {
        void *first = fixture_get(&pool, MIB), *second = fixture_get(&pool, MIB);
        fixture_put(&pool, first);
        fixture_put(&pool, second);
        cr_assert_eq(tcache_find(&pool.tcaches)->big.extent, fixture_extent(&pool, second));
    }
}

/* Where nothing but the default was asked for; and something has been taken from the heap. */
static void allow_near_fit(void) {
    pool.tcaches.grow = true;
    fixture_get_and_put(&pool, 1, 256 * KIB);
}

Test(tcache_slots, the_nearest_larger_block_serves_when_the_stack_is_empty) {
    allow_near_fit();
    struct tcache *tcache = tcache_find(&pool.tcaches);
    void *a = fixture_get(&pool, 40 * KIB), *b = fixture_get(&pool, 44 * KIB),
         *c = fixture_get(&pool, 48 * KIB);
    fixture_put(&pool, a);
    fixture_put(&pool, b);
    fixture_put(&pool, c);
    uint64_t n_slow_gets = tcache->n_slow_gets, n_hits = tcache_hits(tcache, 9);
    cr_assert_eq(fixture_get(&pool, 36 * KIB), a);
    cr_assert_eq(fixture_get(&pool, 36 * KIB), b);
    cr_assert_eq(cached(10) + cached(11), 0);
    cr_assert_eq(tcache_hits(tcache, 9), n_hits + 2, "hits count for the class asked for");
    cr_assert_eq(tcache->n_slow_gets, n_slow_gets);
    cr_assert_eq(fixture_extent(&pool, b)->used_pages, 11, "the program may use all of it");
    cr_assert_neq(fixture_get(&pool, 36 * KIB), c, "more than 1/4 larger");
    cr_assert_neq(fixture_get(&pool, 52 * KIB), c, "smaller");
    cr_assert_eq(fixture_get(&pool, 40 * KIB), c, "that is in the slot");
    cr_assert_null(tcache->small.extent);
    fixture_put(&pool, b);
    cr_assert_eq(fixture_get(&pool, 44 * KIB), b, "it is of the class it was");
}

Test(tcache_slots, blocks_that_must_be_cleared_and_those_of_other_pools_are_of_the_class_asked_for) {
    allow_near_fit();
    fixture_get_and_put(&pool, 1, 44 * KIB);
    cr_assert_eq(fixture_extent(&pool, zero_get(&pool, tcache_find(&pool.tcaches), 10))->n_pages, 10);
    pool.tcaches.grow = false;
    tcache_find(&pool.tcaches)->near_share = 0;
    fixture_get_and_put(&pool, 1, 200 * KIB); /* out of the heap */
    fixture_get_and_put(&pool, 1, 44 * KIB);
    cr_assert_eq(fixture_extent(&pool, fixture_get(&pool, 40 * KIB))->n_pages, 10);
}

/* Each block that is returned serves one that is 1/6 smaller and stays. */
Test(tcache_slots, what_near_fit_adds_is_less_than_what_caches_may_keep) {
    allow_near_fit();
    size_t added_pages = 0;
    for (int i = 0; i < 2000; i++) {
        fixture_put(&pool, fixture_get(&pool, 48 * KIB));
        added_pages += fixture_extent(&pool, fixture_get(&pool, 40 * KIB))->n_pages - 10;
    }
    cr_assert_gt(added_pages, 0);
    cr_assert_leq(added_pages, MIB >> PAGE_SHIFT);
}

/* Sizes between the largest with a bin and the next class: their blocks are of the class below. */
Test(tcache_slots, every_size_is_served_again_at_once) {
    for (size_t n_pages = 1; n_pages <= 600; n_pages++) {
        void *p = fixture_get(&pool, n_pages << PAGE_SHIFT);
        fixture_put(&pool, p);
        uint64_t n_slow_gets = tcache_find(&pool.tcaches)->n_slow_gets;
        void *q = fixture_get(&pool, n_pages << PAGE_SHIFT);
        cr_expect_eq(tcache_find(&pool.tcaches)->n_slow_gets, n_slow_gets, "%zu pages", n_pages);
        cr_expect_eq(q, p, "%zu pages", n_pages);
        fixture_put(&pool, q);
    }
}

/* A block whose stack is full gives up the slot for a block of another class. */
Test(tcache_slots, the_slot_holds_the_block_returned_last) {
    fixture_get_and_put(&pool, 9, 4 * KIB); /* the depth, and the slot */
    struct tcache *tcache = tcache_find(&pool.tcaches);
    cr_assert_eq(cached(1), 8);
    cr_assert_eq(tcache->small.extent->n_pages, 1);
    for (int i = 0; i < 2; i++)
        fixture_get_and_put(&pool, 1, 8 * KIB);
    cr_assert_eq(tcache->small.extent->n_pages, 2);
    /* Nor does one stay that the limit has no room for any more. */
    fixture_get_and_put(&pool, 1, 256 * KIB);
    cr_assert_eq(tcache->small.extent->n_pages, 64);
    pool.tcaches.limit_bytes = 64 * KIB;
    tcache_disturb(&pool.tcaches);
    fixture_get_and_put(&pool, 1, 8 * KIB);
    cr_assert_eq(tcache->small.extent->n_pages, 2);
    cr_assert_leq(tcache->n_pages, 64 * KIB >> PAGE_SHIFT);
}
