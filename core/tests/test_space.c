/* SPDX-License-Identifier: MIT */
/* test_space.c: the address range, the page map and the ownership test. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "extent/space.h"
#include "support.h"

#define SPAN (64 * MIB)

/* Sanitizers keep their shadow where open spaces are placed. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OPEN_SPACES false
#else
#define OPEN_SPACES true
#endif

/* True if the range can be mapped anew, that is, nothing is there. */
static bool is_unmapped(void *address, size_t length) {
    void *p = mmap(address, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED) return false;
    munmap(p, length);
    return p == address;
}

Test(space, owns_nothing_before_anything_is_mapped) {
    struct space space;
    memset(&space, 0, sizeof space);
    cr_assert_not(space_owns(&space, NULL), "a zeroed space, as before start-up, owns nothing");
    cr_assert_not(space_owns(&space, (void *)-1));
    cr_assert_eq(space_init(&space, SPAN, true), 0);
    cr_assert_not(space_owns(&space, (void *)space.base));
    space_destroy(&space);
}

static void check_ownership(bool reserved) {
    struct space space;
    memset(&space, 0, sizeof space);
    cr_assert_eq(space_init(&space, SPAN, reserved), 0);
    cr_assert_eq(space.base % HUGE_BYTES, 0);
    cr_assert_eq(space_map(&space, (void *)space.base, MIB), 0);
    atomic_store(&space.span, MIB);
    char *base = (char *)space.base;
    cr_assert(space_owns(&space, base));
    cr_assert(space_owns(&space, base + MIB - 1));
    cr_assert_not(space_owns(&space, base + MIB));
    cr_assert_not(space_owns(&space, base - 1));
    cr_assert_not(space_owns(&space, NULL));
    cr_assert_not(space_owns(&space, (void *)UINTPTR_MAX));
    cr_assert_eq(first_nonzero(base, MIB), MIB, "mapped memory reads as zero");
    memset(base, 1, MIB);
    space_destroy(&space);
    cr_assert(is_unmapped(base, MIB), "destroy gives the address space back");
}

Test(space, ownership_reserved) {
    check_ownership(true);
}
Test(space, ownership_open, .disabled = !OPEN_SPACES) {
    check_ownership(false);
}

Test(space, page_map_finds_first_and_last_page) {
    struct space space;
    memset(&space, 0, sizeof space);
    cr_assert_eq(space_init(&space, SPAN, true), 0);
    cr_assert_eq(space_map_extents(&space, 0, 64), 0);
    cr_assert_eq(space_map(&space, (void *)space.base, MIB), 0);
    atomic_store(&space.span, MIB);
    char *base = (char *)space.base;
    struct extent *none = &space.extents[0];
    cr_assert_eq(space_lookup(&space, base), none);
    cr_assert_null(none->address, "descriptor 0 matches no pointer");
    struct extent *e = &space.extents[7];
    e->address = base + 3 * PAGE_BYTES;
    e->n_pages = 5;
    space_enter(&space, e);
    cr_assert_eq(space_index(&space, e), 7);
    for (unsigned page = 0; page < 12; page++) {
        struct extent *want = page == 3 || page == 7 ? e : none;
        cr_assert_eq(space_lookup(&space, base + page * PAGE_BYTES), want, "page %u", page);
        cr_assert_eq(space_lookup(&space, base + page * PAGE_BYTES + 4095), want, "end of page %u", page);
    }
    space_set_page(&space, e->address, 0);
    cr_assert_eq(space_lookup(&space, e->address), none);
    space_destroy(&space);
}

Test(space, many_reserved_spaces_do_not_overlap) {
    enum { N = 16 };
    static struct space spaces[N];
    for (int i = 0; i < N; i++) {
        cr_assert_eq(space_init(&spaces[i], SPAN, true), 0);
        cr_assert_eq(space_map(&spaces[i], (void *)spaces[i].base, SPAN), 0);
        atomic_store(&spaces[i].span, SPAN);
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            cr_assert_eq(space_owns(&spaces[i], (char *)spaces[j].base + SPAN - 1), i == j);
    for (int i = 0; i < N; i++)
        space_destroy(&spaces[i]);
}

Test(space, a_range_that_cannot_be_had_is_an_error_not_a_crash) {
    struct space space;
    memset(&space, 0, sizeof space);
    cr_assert_eq(space_init(&space, (size_t)1 << 47, true), -ENOMEM, "128 TiB are all there is");
}

Test(space, open_space_never_maps_over_others, .disabled = !OPEN_SPACES) {
    struct space space;
    memset(&space, 0, sizeof space);
    cr_assert_eq(space_init(&space, SPAN, false), 0);
    char *foreign = mmap((char *)space.base + MIB, PAGE_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    cr_assert_eq(foreign, (char *)space.base + MIB);
    *foreign = 42;
    cr_assert_eq(space_map(&space, (void *)space.base, 2 * MIB), -EEXIST);
    cr_assert_eq(*foreign, 42);
    cr_assert(is_unmapped((void *)space.base, MIB), "nothing is mapped after a failure");
    cr_assert_eq(space_map(&space, (void *)space.base, MIB), 0, "the part that is free can be had");
    space_destroy(&space);
    cr_assert_not(is_unmapped(foreign, PAGE_BYTES),
                  "destroying an open space must spare what others mapped in its range");
    cr_assert_eq(*foreign, 42);
}

Test(space, open_spaces_are_placed_at_random, .disabled = !OPEN_SPACES) {
    struct space a, b;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    cr_assert_eq(space_init(&a, SPAN, false), 0);
    cr_assert_eq(space_init(&b, SPAN, false), 0);
    cr_assert_neq(a.base, b.base);
    cr_assert(a.base >= (uintptr_t)22 << 40 && a.base < (uintptr_t)31 << 40, "%p", (void *)a.base);
    space_destroy(&a);
    space_destroy(&b);
}
