/* SPDX-License-Identifier: MIT */
/* test_heap_holes.c: idle addresses of an open space are unmapped, and mapped anew when they are needed. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>

#include "heap_fixture.h"
#include "support.h"

/* With one run of clean memory, so that blocks lie in the order in which they are taken. */
static void set_up_open(void) {
    cr_assert_eq(heap_init(&heap, SPAN, false), 0);
    heap_free(&heap, take(PAGES(160 * MIB)));
}
TestSuite(heap_holes, .init = set_up_open, .fini = tear_down, .timeout = 60);

#define UNIT (MIB >> PAGE_SHIFT)
/* What a release may take beyond what was asked for: pieces that are not worth a mapping of their own. */
#define SLACK (16 * PAGE_BYTES)

static bool is_mapped(const void *address) {
    unsigned char page;
    return mincore((void *)(uintptr_t)address, PAGE_BYTES, &page) == 0;
}

static uint8_t state_at(const void *address) {
    return extent_state(space_lookup(&heap.space, address));
}

/* n blocks with live memory between them; the last lies at the top of what is in use. */
static void take_apart(struct extent **blocks, unsigned n, size_t n_pages) {
    for (unsigned i = 0; i < n; i++) {
        blocks[i] = take_dirty(n_pages);
        take_dirty(1);
    }
}

static void free_all(struct extent **blocks, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        heap_free(&heap, blocks[i]);
}

/* Nothing clean is left, so that what is released is what the test has freed. Returns what lies at the top
 * now. */
static struct extent *use_up_clean(void) {
    struct extent *top = take(PAGES(heap.clean_bytes));
    cr_assert(top && (uintptr_t)extent_end(top) == heap.frontier);
    cr_assert_eq(heap.clean_bytes, 0);
    return top;
}

Test(heap_holes, a_release_takes_about_what_was_asked_for) {
    struct extent *e[20];
    take_apart(e, 20, UNIT);
    use_up_clean();
    free_all(e, 20);
    for (size_t n = 100 * KIB; n <= 6 * MIB; n *= 2) {
        size_t holes = heap.hole_bytes, mapped = heap.frontier - heap.space.base - holes;
        size_t released = heap_release(&heap, n);
        cr_assert_geq(released, n);
        cr_assert_leq(released, n + SLACK, "%zu for %zu", released, n);
        cr_assert_eq(mapped - (heap.frontier - heap.space.base - heap.hole_bytes), released);
        cr_assert_null(heap_check(&heap));
    }
    cr_assert_leq(heap_release(&heap, GIB), 20 * MIB);
    cr_assert_eq(heap.dirty_bytes, 0, "that was all");
    cr_assert_eq(heap_release(&heap, GIB), 0);
}

Test(heap_holes, clean_memory_goes_before_resident_and_the_largest_first) {
    struct extent *e[4];
    take_apart(e, 2, 8 * UNIT);
    take_apart(e + 2, 2, 2 * UNIT);
    use_up_clean();
    char *large_dirty = e[0]->address, *large_clean = e[1]->address, *clean = e[2]->address,
         *dirty = e[3]->address;
    heap_free(&heap, e[1]);
    heap_free(&heap, e[2]);
    heap_trim(&heap, 0);
    heap_free(&heap, e[0]);
    heap_free(&heap, e[3]);
    heap_release(&heap, 8 * MIB);
    cr_assert_eq(state_at(large_clean), EXTENT_HOLE);
    cr_assert_eq(state_at(clean), EXTENT_CLEAN);
    heap_release(&heap, 2 * MIB);
    cr_assert_eq(state_at(clean), EXTENT_HOLE);
    cr_assert_eq(state_at(large_dirty), EXTENT_DIRTY);
    heap_release(&heap, 8 * MIB);
    cr_assert_eq(state_at(large_dirty), EXTENT_HOLE);
    cr_assert_eq(state_at(dirty), EXTENT_DIRTY);
    cr_assert_not(is_mapped(large_clean) || is_mapped(clean) || is_mapped(large_dirty));
    cr_assert(is_mapped(dirty));
}

Test(heap_holes, at_the_top_nothing_stays_behind) {
    struct extent *low = take_dirty(UNIT), *e = take_dirty(3 * UNIT), *top = use_up_clean();
    uintptr_t frontier = heap.frontier;
    heap_free(&heap, top); /* as it came: clean */
    cr_assert_geq(heap_release(&heap, 8 * MIB), 8 * MIB);
    cr_assert_leq(heap.frontier, frontier - 8 * MIB);
    cr_assert_geq(heap.frontier, frontier - 8 * MIB - SLACK);
    cr_assert_eq(heap.n_holes, 0);
    cr_assert_not(space_owns(&heap.space, (void *)(frontier - 1)), "others may have blocks there now");
    heap_free(&heap, e);
    heap_release(&heap, GIB);
    cr_assert_eq(heap.frontier, (uintptr_t)extent_end(low), "resident memory, too");
    e = take_dirty(8 * UNIT);
    cr_assert(e && space_owns(&heap.space, e->address));
}

Test(heap_holes, a_hole_that_comes_to_lie_at_the_top_goes) {
    struct extent *low = take_dirty(UNIT), *e = take_dirty(UNIT), *above = take_dirty(UNIT),
                  *top = use_up_clean();
    heap_free(&heap, e);
    heap_release(&heap, GIB);
    cr_assert_eq(heap.n_holes, 1);
    heap_free(&heap, above);
    heap_free(&heap, top);
    heap_release(&heap, GIB);
    cr_assert_eq(heap.n_holes, 0);
    cr_assert_eq(heap.frontier, (uintptr_t)extent_end(low));
}

Test(heap_holes, are_mapped_anew_and_read_as_zero) {
    struct extent *e[8];
    take_apart(e, 8, UNIT);
    use_up_clean();
    uintptr_t frontier = heap.frontier;
    free_all(e, 8);
    heap_release(&heap, GIB);
    cr_assert_eq(heap.n_holes, 8);
    for (int i = 0; i < 8; i++) {
        uint32_t n_holes = heap.n_holes;
        size_t bytes = heap.hole_bytes;
        e[i] = take(i % 2 ? UNIT : UNIT / 2);
        cr_assert(e[i] && e[i]->flags & EXTENT_ZERO);
        cr_assert_lt((uintptr_t)e[i]->address, frontier, "addresses are used again");
        cr_assert_eq(first_nonzero(e[i]->address, extent_bytes(e[i])), extent_bytes(e[i]));
        cr_assert_eq(bytes - heap.hole_bytes, extent_bytes(e[i]), "no more is mapped than is wanted");
        cr_assert_leq(heap.n_holes, n_holes);
        pattern_fill(e[i]->address, extent_bytes(e[i]), (uint64_t)i);
        cr_assert_null(heap_check(&heap));
    }
    for (int i = 0; i < 8; i++)
        cr_assert_eq(pattern_check(e[i]->address, extent_bytes(e[i]), (uint64_t)i), extent_bytes(e[i]));
}

Test(heap_holes, merge_with_each_other) {
    struct extent *a = take_dirty(UNIT), *b = take_dirty(UNIT), *c = take_dirty(UNIT);
    take_dirty(1);
    use_up_clean();
    char *start = a->address;
    heap_free(&heap, a);
    heap_release(&heap, GIB);
    heap_free(&heap, c);
    heap_release(&heap, GIB);
    cr_assert_eq(heap.n_holes, 2);
    heap_free(&heap, b);
    heap_release(&heap, GIB);
    cr_assert_eq(heap.n_holes, 1);
    struct extent *all = space_lookup(&heap.space, start);
    cr_assert_eq(all->n_pages, 3 * UNIT);
    cr_assert_eq(extent_state(all), EXTENT_HOLE);
}

Test(heap_holes, are_never_more_than_so_many) {
    enum { N = HEAP_HOLES_MAX + 200 };
    static struct extent *e[N];
    take_apart(e, N, 20);
    use_up_clean();
    free_all(e, N);
    size_t released = heap_release(&heap, 5 * 20 * PAGE_BYTES);
    released += heap_release(&heap, GIB);
    cr_assert_eq(heap.n_holes, HEAP_HOLES_MAX);
    cr_assert_eq(released, HEAP_HOLES_MAX * 20 * PAGE_BYTES);
    cr_assert_eq(heap.dirty_bytes, (N - HEAP_HOLES_MAX) * 20 * PAGE_BYTES);
    cr_assert_eq(heap_release(&heap, GIB), 0);
    /* Beside a hole it costs nothing. */
    struct extent *fence = space_lookup(&heap.space, (void *)heap.space.base);
    while (!(heap_bins_idle_before(&heap, fence, EXTENT_DIRTY) &&
             heap_bins_idle_after(&heap, fence, EXTENT_HOLE)))
        fence = space_lookup(&heap.space, extent_end(fence));
    heap_free(&heap, fence);
    cr_assert_eq(heap_release(&heap, GIB), 21 * PAGE_BYTES);
    cr_assert_eq(heap.n_holes, HEAP_HOLES_MAX);
}

Test(heap_holes, small_pieces_are_not_worth_one) {
    struct extent *e[10];
    take_apart(e, 10, 15);
    use_up_clean();
    free_all(e, 10);
    cr_assert_eq(heap_release(&heap, GIB), 0);
    cr_assert_eq(heap.n_holes, 0);
}

Test(heap_holes, what_somebody_else_has_put_there_is_left_alone) {
    struct extent *e[2];
    take_apart(e, 2, UNIT);
    use_up_clean();
    char *hole = e[0]->address;
    heap_free(&heap, e[0]);
    cr_assert_eq(heap_release(&heap, MIB), MIB);
    char *theirs = mmap(hole + 10 * PAGE_BYTES, PAGE_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    cr_assert_eq(theirs, hole + 10 * PAGE_BYTES);
    *theirs = 77;
    struct extent *served = take_dirty(UNIT);
    cr_assert(served, "from elsewhere");
    cr_assert(served->address != hole);
    cr_assert_eq(state_at(hole), EXTENT_LOST);
    cr_assert_eq(heap.n_holes, 0);
    cr_assert_eq(heap.hole_bytes, 0);
    cr_assert_not(heap.exhausted, "it says nothing about the frontier");
    heap_free(&heap, served);
    heap_free(&heap, e[1]);
    heap_trim(&heap, 0);
    heap_release(&heap, GIB);
    heap_release_top(&heap);
    cr_assert_eq(*theirs, 77);
    cr_assert_null(heap_check(&heap));
    for (int i = 0; i < 10; i++)
        cr_assert(take_dirty(UNIT));
    cr_assert_eq(*theirs, 77);
    munmap(theirs, PAGE_BYTES);
}

/* Its thread had unmapped it and could not have the lock. */
Test(heap_holes, one_that_waits_for_the_lock_is_filed_as_such) {
    struct extent *e = take_dirty(UNIT);
    take_dirty(1);
    use_up_clean();
    char *start = e->address;
    heap_free(&heap, e);
    heap_release(&heap, MIB);
    cr_assert(lock_acquire(&heap.lock));
    e = heap_bins_take(&heap, &heap.holes, UNIT);
    lock_release(&heap.lock);
    cr_assert_eq(e->address, start);
    cr_assert_eq(heap.n_holes, 0);
    e->flags = EXTENT_UNMAPPED;
    heap_bins_defer(&heap, e);
    cr_assert_null(heap_check(&heap));
    cr_assert_eq(state_at(start), EXTENT_HOLE);
    cr_assert_eq(heap.n_holes, 1);
}

Test(heap_holes, a_reserved_space_has_none) {
    static struct heap reserved;
    cr_assert_eq(heap_init(&reserved, SPAN, true), 0);
    struct heap_request request = {.n_pages = UNIT, .align_pages = 1};
    struct extent *e = heap_alloc(&reserved, &request);
    extent_set_state(e, EXTENT_CACHED);
    heap_free(&reserved, e);
    cr_assert_eq(heap_release(&reserved, MIB), 0);
    cr_assert_eq(reserved.n_holes, 0);
    space_destroy(&reserved.space);
}
