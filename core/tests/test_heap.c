/* SPDX-License-Identifier: MIT */
/* test_heap.c: the extent heap, one property at a time. test_heap_random.c holds it against a model,
 * test_heap_edges.c has moving pages, and what happens where descriptors, room or the lock are missing. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>

#include "heap_fixture.h"
#include "support.h"

TestSuite(heap, .init = set_up, .fini = tear_down, .timeout = 60);

Test(heap, fresh_memory_is_zero_and_says_so) {
    struct extent *e = take(100);
    cr_assert(e && e->flags & EXTENT_ZERO);
    cr_assert_eq(first_nonzero(e->address, extent_bytes(e)), extent_bytes(e));
    cr_assert_eq(e->n_pages, 100);
    cr_assert_eq(e->used_pages, 100);
    cr_assert_eq(heap.active_bytes, 100 * PAGE_BYTES);
    heap_free(&heap, e);
    cr_assert_eq(heap.active_bytes, 0);
}

Test(heap, dirty_memory_is_preferred_and_does_not_claim_to_be_zero) {
    struct extent *e = take_dirty(64);
    void *address = e->address;
    struct extent *fence = take_dirty(1);
    heap_free(&heap, e);
    cr_assert_eq(heap.dirty_bytes, 64 * PAGE_BYTES);
    e = take(64);
    cr_assert_eq(e->address, address);
    cr_assert_not(e->flags & EXTENT_ZERO);
    cr_assert_eq(heap.counters.n_dirty_hits, 1);
    cr_assert_eq(heap.dirty_bytes, 0);
    heap_free(&heap, e);
    heap_free(&heap, fence);
}

Test(heap, freed_neighbours_merge_in_every_order) {
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int o = 0; o < 6; o++) {
        struct extent *e[3], *fence;
        for (int i = 0; i < 3; i++)
            e[i] = take_dirty(10);
        fence = take_dirty(1);
        char *start = e[0]->address;
        cr_assert_eq((char *)e[2]->address, start + 20 * PAGE_BYTES, "taken side by side");
        for (int i = 0; i < 3; i++)
            heap_free(&heap, e[orders[o][i]]);
        struct extent *merged = space_lookup(&heap.space, start);
        cr_assert_eq(merged->address, start);
        cr_assert_eq(merged->n_pages, 30, "order %d", o);
        cr_assert_eq(merged->state, EXTENT_DIRTY);
        cr_assert_eq(space_lookup(&heap.space, start + 15 * PAGE_BYTES)->address, NULL,
                     "interior pages are empty");
        heap_free(&heap, fence);
        cr_assert_null(heap_check(&heap));
        heap_trim(&heap, 0);
    }
}

Test(heap, a_larger_extent_is_split_and_the_rest_stays_usable) {
    struct extent *e = take_dirty(128), *fence = take_dirty(1);
    char *start = e->address;
    heap_free(&heap, e);
    e = take(28);
    cr_assert_eq(e->address, start);
    cr_assert_eq(e->n_pages, 28);
    cr_assert_eq(heap.dirty_bytes, 100 * PAGE_BYTES);
    struct extent *rest = take(100);
    cr_assert_eq(rest->address, start + 28 * PAGE_BYTES);
    cr_assert_eq(heap.dirty_bytes, 0);
    heap_free(&heap, rest);
    heap_free(&heap, e);
    heap_free(&heap, fence);
}

Test(heap, best_fit_takes_the_smallest_that_is_large_enough) {
    static const size_t sizes[] = {512, 32, 128, 64, 256};
    struct extent *e[5], *fence[5];
    char *at[5];
    for (int i = 0; i < 5; i++) {
        e[i] = take_dirty(sizes[i]);
        at[i] = e[i]->address;
        fence[i] = take_dirty(1);
    }
    for (int i = 0; i < 5; i++)
        heap_free(&heap, e[i]);
    cr_assert_eq(take(60)->address, at[3]);
    cr_assert_eq(take(129)->address, at[4]);
    cr_assert_eq(take(128)->address, at[2]);
    cr_assert_eq(take(20)->address, at[1]);
    (void)fence;
}

Test(heap, alignment_is_kept_and_both_cuts_are_recovered) {
    for (size_t align = 2; align <= PAGES(32 * MIB); align *= 2) {
        struct extent *odd = take_dirty(1);
        struct heap_request request = {.n_pages = 20, .align_pages = align};
        struct extent *e = heap_alloc(&heap, &request);
        cr_assert(e, "alignment of %zu pages", align);
        e->state = EXTENT_LIVE;
        cr_assert_eq((uintptr_t)e->address % (align << PAGE_SHIFT), 0);
        cr_assert_eq(e->n_pages, 20);
        cr_assert_null(heap_check(&heap));
        e->flags &= (__typeof__(e->flags))~EXTENT_ZERO;
        heap_free(&heap, e);
        heap_free(&heap, odd);
        cr_assert_null(heap_check(&heap));
    }
    /* All of it can be had again in one piece once it is clean. */
    heap_trim(&heap, 0);
    struct extent *all = space_lookup(&heap.space, (void *)heap.space.base);
    cr_assert_eq((uintptr_t)extent_end(all), heap.frontier, "the cuts were not merged again");
}

Test(heap, aligned_requests_use_dirty_memory_too) {
    struct extent *e = take_dirty(PAGES(8 * MIB)), *fence = take_dirty(1);
    char *start = e->address;
    heap_free(&heap, e);
    struct heap_request request = {.n_pages = 16, .align_pages = PAGES(2 * MIB)};
    e = heap_alloc(&heap, &request);
    cr_assert(e);
    cr_assert((char *)e->address >= start && (char *)e->address < start + 8 * MIB);
    cr_assert_not(e->flags & EXTENT_ZERO);
    e->state = EXTENT_LIVE;
    heap_free(&heap, e);
    heap_free(&heap, fence);
}

Test(heap, the_whole_span_can_be_used_and_no_more) {
    cr_assert_null(take(PAGES(SPAN) + 1));
    cr_assert_eq(heap.counters.n_refused, 1);
    struct extent *e = take(PAGES(SPAN));
    cr_assert(e);
    cr_assert_null(take(1), "the span is used up");
    cr_assert_null(heap_check(&heap));
    heap_free(&heap, e);
    e = take(1);
    cr_assert(e, "a refusal is not for ever");
    heap_free(&heap, e);
}

Test(heap, single_pages_fill_the_span_descriptors_included) {
    /* Every second page freed: the worst case for descriptors. */
    size_t n = PAGES(SPAN);
    static struct extent *all[PAGES(SPAN)];
    for (size_t i = 0; i < n; i++) {
        all[i] = take(1);
        cr_assert(all[i], "page %zu of %zu", i, n);
    }
    for (size_t i = 0; i < n; i += 2)
        heap_free(&heap, all[i]);
    cr_assert_null(heap_check(&heap));
    for (size_t i = 0; i < n; i += 2) {
        all[i] = take(1);
        cr_assert(all[i]);
    }
    for (size_t i = 0; i < n; i++)
        heap_free(&heap, all[i]);
}

Test(heap, frontier_rises_in_coarse_steps) {
    struct extent *first = take(1);
    uintptr_t frontier = heap.frontier;
    cr_assert_eq(frontier - heap.space.base, MIB);
    for (int i = 0; i < 200; i++)
        cr_assert(take(1));
    cr_assert_eq(heap.frontier, frontier, "a mapping per block");
    heap_free(&heap, first);
}

Test(heap, purged_memory_reads_as_zero_and_leaves_the_process) {
    struct extent *e = take_dirty(PAGES(32 * MIB)), *fence = take_dirty(1);
    size_t before = resident_bytes();
    heap_free(&heap, e);
    cr_assert_eq(heap_trim(&heap, 0), 32 * MIB);
    cr_assert_eq(heap.dirty_bytes, 0);
    cr_assert_lt(resident_bytes() + 31 * MIB, before);
    e = take(PAGES(32 * MIB));
    cr_assert(e->flags & EXTENT_ZERO);
    cr_assert_eq(first_nonzero(e->address, 32 * MIB), 32 * MIB);
    heap_free(&heap, fence);
}

static int resident_map_pages(size_t n_bytes) {
    int n = (int)(PAGES(n_bytes) * sizeof(uint32_t) / PAGE_BYTES);
    return os_resident_pages((void *)align_down((size_t)heap.space.page_map, PAGE_BYTES), (size_t)n);
}

Test(heap, trimming_leaves_no_pages_of_the_map_between_pieces_purged_one_by_one) {
    struct extent *pieces[16];
    for (int i = 0; i < 16; i++)
        pieces[i] = take_dirty(PAGES(8 * MIB));
    for (int i = 0; i < 16; i++) {
        heap_free(&heap, pieces[i]);
        cr_assert(lock_acquire(&heap.lock));
        struct extent *list = heap_collect(&heap, 8 * MIB);
        lock_release(&heap.lock);
        cr_assert_eq(heap_purge_list(&heap, list), 8 * MIB);
    }
    cr_assert_gt(resident_map_pages(128 * MIB), 8);
    cr_assert_eq(heap_trim(&heap, 0), 0);
    cr_assert_leq(resident_map_pages(128 * MIB), 2, "where the merged piece begins and ends");
    struct extent *e = take(PAGES(100 * MIB));
    cr_assert(e && e->flags & EXTENT_ZERO);
    heap_free(&heap, e);
}

Test(heap, trim_keeps_what_it_was_told_and_takes_the_coldest) {
    struct extent *cold = take_dirty(1024), *f1 = take_dirty(1), *warm = take_dirty(1024),
                  *f2 = take_dirty(1);
    char *cold_at = cold->address, *warm_at = warm->address;
    heap_free(&heap, cold);
    heap_free(&heap, warm);
    size_t purged = heap_trim(&heap, 1024 * PAGE_BYTES);
    cr_assert_eq(purged, 1024 * PAGE_BYTES);
    cr_assert_eq(*cold_at, 0);
    cr_assert_eq((unsigned char)*warm_at, 0xa5);
    purged = heap_trim(&heap, 512 * PAGE_BYTES);
    cr_assert_eq(purged, 512 * PAGE_BYTES, "an extent is purged in part");
    cr_assert_eq((unsigned char)*warm_at, 0xa5, "the lower part stays: it is reused first");
    cr_assert_eq(warm_at[1023 * PAGE_BYTES], 0);
    heap_free(&heap, f1);
    heap_free(&heap, f2);
}

Test(heap, extend_takes_free_neighbours_and_the_frontier) {
    struct extent *e = take_dirty(10), *next = take_dirty(10), *fence = take_dirty(1);
    heap_free(&heap, next);
    cr_assert(heap_extend(&heap, e, 20, NULL));
    cr_assert_eq(e->n_pages, 20);
    cr_assert_eq(e->used_pages, 20);
    cr_assert_not(heap_extend(&heap, e, 21, NULL), "the neighbour is live");
    cr_assert_eq(e->n_pages, 20);
    cr_assert_null(heap_check(&heap));
    heap_free(&heap, fence);
    size_t to_end = (heap.frontier - (uintptr_t)e->address) >> PAGE_SHIFT;
    cr_assert(heap_extend(&heap, e, to_end + 500, NULL), "beyond the frontier");
    cr_assert_eq(e->used_pages, to_end + 500);
    cr_assert_eq(heap.active_bytes, (to_end + 500) * PAGE_BYTES);
    memset(e->address, 1, extent_bytes(e));
    cr_assert_not(heap_extend(&heap, e, PAGES(SPAN) + 1, NULL), "beyond the span");
    heap_free(&heap, e);
}

Test(heap, shrink_gives_the_tail_back_as_dirty) {
    struct extent *e = take(100), *fence = take_dirty(1);
    memset(e->address, 0x5a, extent_bytes(e)); /* the program writes; nobody tells the heap */
    heap_shrink(&heap, e, 40);
    cr_assert_eq(e->n_pages, 40);
    cr_assert_eq(e->used_pages, 40);
    cr_assert_eq(heap.active_bytes, 41 * PAGE_BYTES);
    struct extent *tail = space_lookup(&heap.space, (char *)e->address + 40 * PAGE_BYTES);
    cr_assert_eq(tail->state, EXTENT_DIRTY, "what the program wrote must not be taken for zero");
    heap_free(&heap, e);
    heap_free(&heap, fence);
}

Test(heap, shrink_takes_what_is_not_known_to_be_used_along) {
    /* untouched, and nobody says that it will be filled */
    struct extent *e = take(1000), *fence = take_dirty(1);
    cr_assert_eq(e->unproven_pages, 1000);
    heap_shrink(&heap, e, 300);
    cr_assert_eq(e->unproven_pages, 300, "no more than there is");
    cr_assert_eq(heap.unproven_bytes, 301 * PAGE_BYTES);
    heap_free(&heap, e);
    heap_free(&heap, fence);
    cr_assert_eq(heap.unproven_bytes, 0);
    heap_trim(&heap, 0);
    e = take_dirty(1000);
    heap_prove(&heap, e);
    cr_assert(heap_extend(&heap, e, 1500, NULL));
    cr_assert_eq(e->unproven_pages, 500, "what it grew by last");
    heap_shrink(&heap, e, 1200);
    cr_assert_eq(e->unproven_pages, 200);
    heap_shrink(&heap, e, 800);
    cr_assert_eq(heap.unproven_bytes, 0);
    heap_free(&heap, e);
}

Test(heap, headroom_is_address_space_not_memory) {
    struct heap_request request = {.n_pages = 100, .align_pages = 1, .headroom_pages = 300};
    struct extent *e = heap_alloc(&heap, &request);
    cr_assert(e);
    e->state = EXTENT_LIVE;
    cr_assert_eq(e->used_pages, 100);
    cr_assert_geq(e->n_pages, 400);
    cr_assert_eq(heap.active_bytes, 100 * PAGE_BYTES);
    struct extent *fence = take_dirty(1);
    cr_assert(heap_extend(&heap, e, 250, NULL), "into its own headroom, past a live neighbour");
    cr_assert_eq(heap.active_bytes, 251 * PAGE_BYTES);
    memset(e->address, 0xa5, extent_active_bytes(e));
    e->flags &= (__typeof__(e->flags))~EXTENT_ZERO;
    size_t dirty_before = heap.dirty_bytes;
    heap_free(&heap, e);
    cr_assert_eq(heap.dirty_bytes - dirty_before, 250 * PAGE_BYTES, "the headroom goes back clean");
    heap_free(&heap, fence);
}
