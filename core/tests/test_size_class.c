/* SPDX-License-Identifier: MIT */
/* test_size_class.c: the size classes, for every size there is. */
#include <criterion/criterion.h>

#include "base/size_class.h"

Test(size_class, every_size_fits_its_class_and_no_smaller_one) {
    /* cr_assert at each of 67 million sizes would take minutes: count, and assert once. */
    size_t n_too_small = 0, n_not_smallest = 0, n_wasteful = 0, n_floor_wrong = 0, first_wrong = 0;
    for (size_t n = 1; n <= CLASS_MAX_PAGES; n++) {
        unsigned cls = class_of_pages(n);
        size_t have = class_pages(cls);
        unsigned down = class_floor(n);
        bool too_small = have<n, not_smallest = cls> 1 && class_pages(cls - 1) >= n;
        bool wasteful = n > CLASS_STEPS ? (have - n) * CLASS_STEPS > n : have != n;
        bool floor_wrong = class_pages(down) > n || (down + 1 < N_CLASSES && class_pages(down + 1) <= n);
        n_too_small += too_small;
        n_not_smallest += not_smallest;
        n_wasteful += wasteful;
        n_floor_wrong += floor_wrong;
        if (!first_wrong && (too_small || not_smallest || wasteful || floor_wrong)) first_wrong = n;
    }
    cr_assert_eq(n_too_small, 0, "first wrong size: %zu pages", first_wrong);
    cr_assert_eq(n_not_smallest, 0, "first wrong size: %zu pages", first_wrong);
    cr_assert_eq(n_wasteful, 0, "more than 1/16 lost, first at %zu pages", first_wrong);
    cr_assert_eq(n_floor_wrong, 0, "first wrong size: %zu pages", first_wrong);
}

Test(size_class, classes_rise_and_name_themselves) {
    for (unsigned cls = 1; cls < N_CLASSES; cls++) {
        cr_assert_gt(class_pages(cls), class_pages(cls - 1), "class %u", cls);
        cr_assert_eq(class_of_pages(class_pages(cls)), cls, "class %u", cls);
        cr_assert_eq(class_floor(class_pages(cls)), cls, "class %u", cls);
    }
    cr_assert_eq(class_of_pages(CLASS_MAX_PAGES), N_CLASSES - 1);
    cr_assert_eq(class_pages(N_CLASSES - 1), CLASS_MAX_PAGES);
    cr_assert_eq(class_floor(CLASS_MAX_PAGES + 1), N_CLASSES - 1,
                 "larger extents are filed in the last class");
}

Test(size_class, largest_block_is_at_least_64_gib) {
    cr_assert_geq(CLASS_MAX_PAGES << PAGE_SHIFT, 64 * GIB);
}

Test(bits, pages_of_rounds_up_for_every_size) {
    cr_assert_eq(pages_of(0), 0);
    cr_assert_eq(pages_of(1), 1);
    cr_assert_eq(pages_of(PAGE_BYTES), 1);
    cr_assert_eq(pages_of(PAGE_BYTES + 1), 2);
    /* The end of the range that bits.h promises; what lies beyond, callers must refuse first. */
    cr_assert_eq(pages_of(SIZE_MAX - PAGE_BYTES), SIZE_MAX >> PAGE_SHIFT);
    cr_assert_eq(pages_of(SIZE_MAX - PAGE_BYTES + 1), SIZE_MAX >> PAGE_SHIFT);
}

Test(bits, arithmetic) {
    cr_assert_eq(log2_floor(1), 0);
    cr_assert_eq(log2_floor(UINT64_MAX), 63);
    for (unsigned bit = 1; bit < 63; bit++) {
        cr_assert_eq(log2_floor((uint64_t)1 << bit), bit);
        cr_assert_eq(log2_floor(((uint64_t)1 << bit) - 1), bit - 1);
        cr_assert(is_pow2((size_t)1 << bit));
        cr_assert_eq(is_pow2(((size_t)1 << bit) + 1), false);
    }
    cr_assert_not(is_pow2(0));
    cr_assert_eq(round_up_pow2(0), 1);
    cr_assert_eq(round_up_pow2(1), 1);
    for (unsigned n = 2; n <= 4096; n++) {
        unsigned up = round_up_pow2(n);
        cr_assert(is_pow2(up) && up >= n && up / 2 < n, "%u -> %u", n, up);
    }
    cr_assert_eq(align_up(1, 4096), 4096);
    cr_assert_eq(align_up(4096, 4096), 4096);
    cr_assert_eq(align_down(4095, 4096), 0);
}

Test(size_class, the_table_says_the_same) {
    for (size_t n = 1; n <= CLASS_TABLE_PAGES; n++)
        cr_expect_eq(class_of_few_pages(n), class_of_pages(n), "%zu pages", n);
}
