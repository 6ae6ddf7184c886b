/* SPDX-License-Identifier: MIT */
/* test_heap_muzzy.c: idle memory that has rested is marked for the kernel to take. Ages are set back, never
 * waited for. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/mman.h>

#include "heap_fixture.h"
#include "heap/decay.h"
#include "support.h"

TestSuite(heap_muzzy, .init = set_up, .fini = tear_down, .timeout = 60);

#define NOW 1000000u

/* Return a block that was last used then. */
static void free_at(struct extent *e, uint32_t at_ms) {
    char *start = e->address;
    heap_free(&heap, e);
    space_lookup(&heap.space, start)->last_use_ms = at_ms; /* it has no idle neighbour in front of it */
}

/* n blocks of so many pages with live memory between them. */
static void take_apart(struct extent **blocks, unsigned n, size_t n_pages) {
    for (unsigned i = 0; i < n; i++) {
        blocks[i] = take_dirty(n_pages);
        take_dirty(1);
    }
}

static uint8_t state_at(const void *address) {
    return extent_state(space_lookup(&heap.space, address));
}

Test(heap_muzzy, what_has_rested_is_marked_and_nothing_else) {
    struct extent *e[2];
    take_apart(e, 2, 100);
    char *old = e[0]->address, *young = e[1]->address;
    free_at(e[0], NOW - 100);
    free_at(e[1], NOW);
    cr_assert_eq(heap_mark(&heap, SIZE_MAX, NOW - 50), 100 * PAGE_BYTES);
    cr_assert_eq(state_at(old), EXTENT_MUZZY);
    cr_assert_eq(state_at(young), EXTENT_DIRTY);
    cr_assert_eq(heap.muzzy_bytes, 100 * PAGE_BYTES);
    cr_assert_eq(heap.dirty_bytes, 200 * PAGE_BYTES, "it is idle all the same");
    cr_assert_eq(space_lookup(&heap.space, old)->last_use_ms, NOW - 100, "marking is no use");
    cr_assert_eq(heap_mark(&heap, SIZE_MAX, NOW - 50), 0, "once");
    cr_assert_null(heap_check(&heap));
    heap.muzzy_bytes += PAGE_BYTES;
    cr_assert_not_null(heap_check(&heap));
    heap.muzzy_bytes -= PAGE_BYTES;
}

Test(heap_muzzy, by_age_and_not_by_the_time_of_the_tick) {
    /* Across the wrap of the clock as well. */
    for (int wrap = 0; wrap < 2; wrap++) {
        uint32_t now = wrap ? 20 : NOW;
        heap.decay_ms = 0; /* which has nothing to do with it */
        heap.marked_ms = now - DECAY_MARK_MS;
        struct extent *e = take_dirty(100);
        take_dirty(1);
        char *start = e->address;
        free_at(e, now - 10);
        cr_assert(decay_due(&heap, now));
        cr_assert_eq(decay_tick(&heap, now), DECAY_MARK_MS);
        cr_assert_eq(state_at(start), EXTENT_DIRTY, "freed just before");
        cr_assert_not(decay_due(&heap, now + DECAY_MARK_MS - 1), "not before DECAY_MARK_MS");
        cr_assert_eq(decay_tick(&heap, now + DECAY_MARK_MS - 20), 20);
        cr_assert_eq(state_at(start), EXTENT_DIRTY);
        cr_assert(decay_due(&heap, now + DECAY_MARK_MS));
        cr_assert_eq(decay_tick(&heap, now + DECAY_MARK_MS), 0, "nothing is left to do");
        cr_assert_eq(state_at(start), EXTENT_MUZZY);
        cr_assert_not(decay_due(&heap, now + 10 * DECAY_MARK_MS));
    }
}

Test(heap_muzzy, serves_the_next_request_and_never_passes_for_zero) {
    struct extent *e = take_dirty(500);
    char *start = e->address;
    take_dirty(1);
    free_at(e, NOW - 100);
    heap_mark(&heap, SIZE_MAX, NOW);
    cr_assert_eq(state_at(start), EXTENT_MUZZY);
    madvise(start, 100 * PAGE_BYTES, MADV_DONTNEED); /* as the kernel may have done */
    uint64_t n_fresh = heap.counters.n_fresh;
    e = take(200);
    cr_assert_eq(e->address, start);
    cr_assert_not(e->flags & EXTENT_ZERO);
    cr_assert_not(e->flags & EXTENT_MARKED);
    cr_assert_eq(heap.counters.n_fresh, n_fresh);
    pattern_fill(start, 200 * PAGE_BYTES, 3);
    cr_assert_eq(heap.muzzy_bytes, 300 * PAGE_BYTES, "what is left of it is still marked");
    cr_assert_eq(state_at(start + 200 * PAGE_BYTES), EXTENT_MUZZY);
    heap_trim(&heap, 0);
    cr_assert_eq(pattern_check(start, 200 * PAGE_BYTES, 3), 200 * PAGE_BYTES);
    cr_assert_eq(heap.muzzy_bytes, 0);
}

Test(heap_muzzy, merges_with_its_like_only) {
    struct extent *a = take_dirty(100), *b = take_dirty(20), *c = take_dirty(100);
    take_dirty(1);
    char *start = a->address, *middle = b->address, *end = c->address;
    free_at(a, NOW - 100);
    free_at(c, NOW - 100);
    heap_mark(&heap, SIZE_MAX, NOW);
    free_at(b, NOW);
    cr_assert_eq(state_at(start), EXTENT_MUZZY);
    cr_assert_eq(state_at(middle), EXTENT_DIRTY);
    cr_assert_eq(state_at(end), EXTENT_MUZZY);
    cr_assert_eq(heap.muzzy_bytes, 200 * PAGE_BYTES, "not marked anew with each small neighbour");
    heap_mark(&heap, SIZE_MAX, NOW);
    struct extent *all = space_lookup(&heap.space, start);
    cr_assert_eq(all->n_pages, 220);
    cr_assert_eq(state_at(start), EXTENT_MUZZY);
}

Test(heap_muzzy, a_dirty_neighbour_not_much_smaller_takes_it_along) {
    struct extent *a = take_dirty(100), *b = take_dirty(30);
    take_dirty(1);
    char *start = a->address;
    free_at(a, NOW - 100);
    heap_mark(&heap, SIZE_MAX, NOW);
    free_at(b, NOW);
    cr_assert_eq(state_at(start), EXTENT_DIRTY);
    cr_assert_eq(space_lookup(&heap.space, start)->n_pages, 130);
    cr_assert_eq(heap.muzzy_bytes, 0);
}

/* Two that could not take what lies between them are one when a larger neighbour takes it. */
Test(heap_muzzy, what_lies_behind_a_neighbour_taken_along_is_joined_too) {
    for (int mirrored = 0; mirrored < 2; mirrored++) {
        struct extent *blocks[] = {take_dirty(mirrored ? 60 : 5), take_dirty(100),
                                   take_dirty(mirrored ? 5 : 60)};
        take_dirty(1);
        char *start = blocks[0]->address;
        struct extent *small = blocks[mirrored ? 2 : 0], *large = blocks[mirrored ? 0 : 2];
        free_at(blocks[1], NOW - 100);
        heap_mark(&heap, SIZE_MAX, NOW);
        free_at(small, NOW);
        cr_assert_eq(heap.muzzy_bytes, 100 * PAGE_BYTES, "too large for the small one");
        heap_free(&heap, large);
        cr_assert_eq(space_lookup(&heap.space, start)->n_pages, 165);
        cr_assert_eq(heap.muzzy_bytes, 0);
        cr_assert_null(heap_check(&heap));
    }
}

Test(heap_muzzy, a_request_is_served_from_neighbours_of_both_kinds) {
    struct extent *a = take_dirty(100), *b = take_dirty(100);
    take_dirty(1);
    heap_trim(&heap, 0);
    char *start = a->address;
    free_at(a, NOW - 100);
    heap_mark(&heap, SIZE_MAX, NOW);
    heap_free(&heap, b);
    uintptr_t frontier = heap.frontier;
    size_t clean = heap.clean_bytes, fresh = heap.counters.bytes_fresh;
    struct extent *e = take(150);
    cr_assert_eq(e->address, start);
    cr_assert_not(e->flags & EXTENT_ZERO);
    cr_assert(heap.frontier == frontier && heap.clean_bytes == clean);
    cr_assert_eq(heap.counters.bytes_fresh, fresh, "nothing of it was untouched");
    cr_assert_eq(e->unproven_pages, 0);
    cr_assert_eq(heap.dirty_bytes, 50 * PAGE_BYTES);
    cr_assert_eq(heap.muzzy_bytes, 0);
}

Test(heap_muzzy, a_block_grows_over_it) {
    struct extent *e = take_dirty(100), *next = take_dirty(100);
    take_dirty(1);
    free_at(next, NOW - 100);
    heap_mark(&heap, SIZE_MAX, NOW);
    size_t warm = 0;
    cr_assert(heap_extend(&heap, e, 160, &warm));
    cr_assert_eq(warm, 60, "it is warm memory");
    cr_assert_eq(heap.muzzy_bytes, 40 * PAGE_BYTES);
}

Test(heap_muzzy, goes_first_where_memory_is_given_back) {
    struct extent *e[3];
    take_apart(e, 3, 200);
    char *muzzy = e[1]->address, *dirty[2] = {e[0]->address, e[2]->address};
    free_at(e[1], NOW - 100);
    heap_mark(&heap, SIZE_MAX, NOW);
    free_at(e[0], NOW);
    free_at(e[2], NOW);
    cr_assert_eq(heap_trim(&heap, heap.dirty_bytes - 80 * PAGE_BYTES), 80 * PAGE_BYTES);
    cr_assert_eq(state_at(muzzy), EXTENT_MUZZY, "the lower part stays what it was");
    cr_assert_eq(heap.muzzy_bytes, 120 * PAGE_BYTES);
    heap_trim(&heap, 400 * PAGE_BYTES);
    cr_assert_eq(heap.muzzy_bytes, 0);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(state_at(dirty[i]), EXTENT_DIRTY);
}

Test(heap_muzzy, decays_like_the_rest) {
    struct extent *e = take_dirty(1000);
    heap.decay_ms = 1000;
    heap.decay_epoch_ms = NOW;
    free_at(e, NOW);
    decay_tick(&heap, NOW + DECAY_MARK_MS);
    cr_assert_eq(heap.muzzy_bytes, 1000 * PAGE_BYTES);
    cr_assert_eq(heap.dirty_bytes, 1000 * PAGE_BYTES, "held whole for the first second");
    for (uint32_t at = 0; at <= 3 * DECAY_GRACE_MS; at += 50)
        decay_tick(&heap, NOW + at);
    cr_assert_eq(heap.dirty_bytes, 0);
    cr_assert_eq(heap.muzzy_bytes, 0);
}

Test(heap_muzzy, is_bounded_by_what_was_asked_for) {
    struct extent *e[4];
    take_apart(e, 4, 200);
    for (unsigned i = 0; i < 4; i++)
        free_at(e[i], NOW - 100 + i);
    size_t marked = heap_mark(&heap, 300 * PAGE_BYTES, NOW);
    cr_assert_geq(marked, 300 * PAGE_BYTES);
    cr_assert_leq(marked, 364 * PAGE_BYTES);
    cr_assert_eq(heap.muzzy_bytes, marked);
}

/* Kernels before 4.5. */
Test(heap_muzzy, where_the_kernel_cannot_nothing_is_tried_again) {
    heap.cannot_mark = true;
    free_at(take_dirty(100), NOW - 100);
    cr_assert_eq(heap_mark(&heap, SIZE_MAX, NOW), 0);
    cr_assert_not(decay_due(&heap, NOW));
    cr_assert_eq(decay_tick(&heap, NOW), 0, "nothing to wait for");
    cr_assert_eq(heap.dirty_bytes, 100 * PAGE_BYTES);
}

/* --- several at once --- */

/* Filled blocks with live ones between them, some of which cannot go by one call with the others. */
Test(heap_muzzy, a_list_is_purged_whole_whatever_is_in_it) {
    enum { N = 3 * OS_PURGE_MOST + 1 };
    os_purges_together = true;
    struct extent *idle[N], *between[N];
    char *address[N];
    for (int i = 0; i < N; i++) {
        idle[i] = take_dirty(3 + i % 5);
        between[i] = take_dirty(1);
        address[i] = idle[i]->address;
        memset(address[i], 1, extent_bytes(idle[i]));
        if (i % 7 == 3) idle[i]->flags |= EXTENT_HUGE;
    }
    for (int i = 0; i < N; i++)
        heap_free(&heap, idle[i]);
    size_t dirty = heap.dirty_bytes;
    cr_assert_eq(heap_trim(&heap, 0), dirty);
    for (int i = 0; i < N; i++)
        cr_assert_eq(first_nonzero(address[i], 3 * PAGE_BYTES), 3 * PAGE_BYTES, "block %d", i);
    for (int i = 0; i < N; i++)
        heap_free(&heap, between[i]);
}

Test(heap_muzzy, ranges_go_together_or_are_left_as_they_are) {
    struct extent *a = take_dirty(4), *b = take_dirty(4);
    memset(a->address, 1, extent_bytes(a));
    memset(b->address, 1, extent_bytes(b));
    struct iovec ranges[] = {{a->address, extent_bytes(a)}, {b->address, PAGE_BYTES}};
    cr_assert_not(os_purge_several(ranges, 2), "others may want to see each call");
    os_purges_together = true;
    bool gone = os_purge_several(ranges, 2);
    cr_assert_eq(*(char *)a->address, !gone);
    cr_assert_eq(*(char *)b->address, !gone);
    cr_assert_eq(((char *)b->address)[PAGE_BYTES], 1, "what was not named stays");
    heap_free(&heap, a);
    heap_free(&heap, b);
}
