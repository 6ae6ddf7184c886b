/* SPDX-License-Identifier: MIT */
/* test_heap_edges.c: the extent heap where pages are moved, and where descriptors, room or the lock are
 * missing. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "heap_fixture.h"
#include "support.h"

TestSuite(heap_edges, .init = set_up, .fini = tear_down, .timeout = 60);

Test(heap_edges, pages_can_be_moved_without_copying) {
    struct extent *from = take_dirty(512);
    pattern_fill(from->address, extent_bytes(from), 7);
    struct heap_request request = {.n_pages = 1024, .align_pages = 1};
    struct extent *to = heap_alloc(&heap, &request);
    cr_assert(to && to->flags & EXTENT_ZERO);
    to->state = EXTENT_LIVE;
    if (heap_move_pages(&heap, from, to, 512) <= 0) cr_skip_test("this kernel does not move pages");
    cr_assert_eq(pattern_check(to->address, 512 * PAGE_BYTES, 7), 512 * PAGE_BYTES);
    cr_assert_eq(first_nonzero(from->address, 512 * PAGE_BYTES), 512 * PAGE_BYTES);
    heap_free(&heap, from);
    heap_free(&heap, to);
}

Test(heap_edges, pages_of_several_vmas_are_moved_piece_by_piece) {
    struct extent *from = take_dirty(512);
    char *start = from->address;
    pattern_fill(start, extent_bytes(from), 7);
    /* Kernels before 6.17 refuse such a range as a whole. */
    cr_assert_eq(madvise(start + 100 * PAGE_BYTES, 50 * PAGE_BYTES, MADV_DONTFORK), 0);
    cr_assert_eq(madvise(start, PAGE_BYTES, MADV_DONTFORK), 0,
                 "as numpy does: all but the first page is another VMA");
    struct heap_request request = {.n_pages = 1024, .align_pages = 1};
    struct extent *to = heap_alloc(&heap, &request);
    cr_assert(to && to->flags & EXTENT_ZERO);
    to->state = EXTENT_LIVE;
    ssize_t moved = heap_move_pages(&heap, from, to, 512);
    if (moved == 0) cr_skip_test("this kernel does not move pages");
    cr_assert_eq(moved, 512 * PAGE_BYTES);
    cr_assert_eq(pattern_check(to->address, 512 * PAGE_BYTES, 7), 512 * PAGE_BYTES);
    cr_assert_eq(first_nonzero(start, 512 * PAGE_BYTES), 512 * PAGE_BYTES);
    heap_free(&heap, from);
    heap_free(&heap, to);
}

Test(heap_edges, what_lies_in_the_way_of_a_step_leaves_room_for_what_is_needed) {
    static struct heap open;
    cr_assert_eq(heap_init(&open, SPAN, false), 0);
    struct heap_request request = {.n_pages = 4, .align_pages = 1};
    struct extent *e[3];
    cr_assert(e[0] = heap_alloc(&open, &request));
    cr_assert_eq(os_map_at((void *)(open.frontier + 256 * KIB), PAGE_BYTES), 0);
    request.n_pages = PAGES(open.frontier - open.space.base) - 4;
    cr_assert(e[1] = heap_alloc(&open, &request));
    request.n_pages = 16;
    cr_assert(e[2] = heap_alloc(&open, &request));
    cr_assert_not(open.exhausted);
    void *last = e[2]->address;
    for (int i = 0; i < 3; i++) {
        e[i]->state = EXTENT_CACHED;
        heap_free(&open, e[i]);
    }
    heap_trim(&open, 0);
    heap_release_top(&open);
    cr_assert_not(space_owns(&open.space, last), "others may have blocks there now");
    cr_assert_null(heap_check(&open));
    space_destroy(&open.space);
}

Test(heap_edges, without_descriptors_nothing_is_aligned_and_nobody_is_told_otherwise) {
    take_dirty(1); /* so that the next does not begin at a multiple of everything */
    struct extent *e = take_dirty(300), *unused = heap.unused;
    uint32_t untouched = heap.untouched, untouched_end = heap.untouched_end;
    e->state = EXTENT_BUSY;
    heap.unused = NULL;
    heap.untouched = heap.untouched_end = 0;
    size_t off = 1;
    while (((uintptr_t)e->address & ((off << PAGE_SHIFT) - 1)) == 0)
        off *= 2;
    cr_assert_not(heap_bins_carve(&heap, e, 10, off, &heap.dirty));
    heap.unused = unused;
    heap.untouched = untouched;
    heap.untouched_end = untouched_end;
    cr_assert(heap_bins_carve(&heap, e, 10, off, &heap.dirty));
    cr_assert_eq((uintptr_t)e->address & ((off << PAGE_SHIFT) - 1), 0);
    cr_assert_eq(e->n_pages, 10);
    e->used_pages = 10;
    heap.active_bytes -= 290 * PAGE_BYTES;
    e->state = EXTENT_CACHED;
    heap_free(&heap, e);
}

Test(heap_edges, a_full_descriptor_table_does_not_mark_written_pages_clean) {
    /* Without descriptors nothing can be split: extend then absorbs a whole dirty neighbour. */
    struct extent *e = take_dirty(10), *next = take_dirty(100), *fence = take_dirty(1);
    char *start = e->address;
    heap_free(&heap, next);
    struct extent *unused = heap.unused;
    uint32_t n_unused = heap.n_unused;
    heap.unused = NULL;
    heap.n_unused = 4; /* enough to pass the check at the door, as if others had used them up since */
    bool grown = heap_extend(&heap, e, 20, NULL);
    struct extent *dropped = heap.unused;
    heap.unused = unused;
    heap.n_unused = n_unused;
    if (dropped) heap_bins_drop_extent(&heap, dropped);
    if (grown) memset(start, 0xa5, 20 * PAGE_BYTES);
    heap_free(&heap, e);
    cr_assert_null(heap_check(&heap));
    struct extent *back;
    while ((back = take(1)) && (uintptr_t)back->address < heap.frontier - PAGE_BYTES)
        if (back->flags & EXTENT_ZERO)
            cr_assert_eq(first_nonzero(back->address, PAGE_BYTES), PAGE_BYTES, "page %zu",
                         ((uintptr_t)back->address - heap.space.base) >> PAGE_SHIFT);
    (void)fence;
}

Test(heap_edges, a_held_lock_never_hangs_anybody) {
    struct extent *e = take_dirty(50), *other = take_dirty(50);
    size_t active = heap.active_bytes;
    cr_assert(lock_try(&heap.lock)); /* the holder was lost in a fork */
    cr_assert_null(take(50), "allocation gives up");
    cr_assert_not(heap_extend(&heap, other, 60, NULL));
    heap_shrink(&heap, other, 10);
    cr_assert_eq(heap_trim(&heap, 0), 0);
    cr_assert_str_eq(heap_check(&heap), "heap lock is held");
    heap_free(&heap, e); /* onto the deferred list */
    lock_release(&heap.lock);
    cr_assert_eq(heap.active_bytes, active, "deferred blocks still count");
    e = take(50);
    cr_assert_eq(heap.counters.n_dirty_hits, 1, "the next holder files what was deferred");
    heap_free(&heap, e);
    heap_free(&heap, other);
}

/* The least of several tries: others use the machine, too. */
Test(heap_edges, a_block_is_left_to_the_holder_without_a_wait) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 10; i++) {
        struct extent *e = take_dirty(50);
        size_t active = heap.active_bytes;
        cr_assert(lock_try(&heap.lock));
        uint64_t begin = os_clock_ns();
        heap_free(&heap, e);
        uint64_t ns = os_clock_ns() - begin;
        if (ns < least) least = ns;
        cr_assert_eq(heap.active_bytes, active, "it still counts");
        cr_assert_eq(heap.deferred_bytes, 50 * PAGE_BYTES);
        heap_bins_unlock(&heap);
        cr_assert_eq(heap.active_bytes, active - 50 * PAGE_BYTES, "who holds the lock takes it back");
        cr_assert_eq(heap.deferred_bytes, 0);
        cr_assert(!heap.deferred);
    }
    cr_assert_lt(least, LOCK_DOUBT_NS, "%lu ns", least);
}

Test(heap_edges, many_small_blocks_are_left_only_as_far_as_one_hold_may_take) {
    struct extent *list = NULL, *all[40];
    for (int i = 0; i < 40; i++)
        all[i] = take_dirty(1);
    size_t active = heap.active_bytes;
    for (int i = 0; i < 40; i++) {
        all[i]->next = list;
        list = all[i];
    }
    cr_assert(lock_try(&heap.lock));
    heap.lock.doubtful = true; /* so that the wait is short */
    uint64_t begin = os_clock_ns();
    heap_free_list(&heap, list);
    cr_assert_geq(os_clock_ns() - begin, LOCK_DOUBT_NS, "the rest is waited for");
    cr_assert_eq(heap.deferred_bytes, 40 * DEFER_LEAST_BYTES, "the list takes all in the end");
    heap_bins_unlock(&heap);
    cr_assert_eq(heap.active_bytes, active - 40 * PAGE_BYTES);
    cr_assert_eq(heap.deferred_bytes, 0);
}

/* While somebody holds the lock and does not come back: it is waited for, as long as a doubtful one is. */
static void assert_waits(struct extent *e) {
    cr_assert(lock_try(&heap.lock));
    heap.lock.doubtful = true;
    uint64_t begin = os_clock_ns();
    heap_free(&heap, e);
    cr_assert_geq(os_clock_ns() - begin, LOCK_DOUBT_NS);
    heap_bins_unlock(&heap);
}

Test(heap_edges, a_large_block_is_not_left_to_the_holder) {
    assert_waits(take_dirty(PAGES(2 * MIB)));
    cr_assert_eq(heap.active_bytes, 0);
}

/* A bound on idle memory holds after each return. */
Test(heap_edges, nothing_is_left_to_the_holder_where_idle_memory_is_bounded) {
    struct extent *e = take_dirty(50);
    heap.retain_max_bytes = 10 * PAGE_BYTES;
    assert_waits(e);
}

static unsigned n_maps, n_under_lock;

static void *notes_the_lock(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    n_maps++;
    n_under_lock += heap.lock.held;
    return mmap(address, length, protection, flags, fd, offset);
}

/* The kernel may keep a call waiting for the page faults of all threads. */
Test(heap_edges, nothing_is_mapped_with_the_lock_held) {
    cr_assert(os_unseal());
    os_calls.mmap = notes_the_lock;
    struct extent *e = take(PAGES(200 * MIB)); /* beyond what the first step of the page map describes */
    cr_assert(e);
    cr_assert_geq(n_maps, 2);
    cr_assert_eq(n_under_lock, 0);
    os_calls.mmap = mmap;
    os_seal();
    heap_free(&heap, e);
}

static void *takes_much(void *ignored) {
    (void)ignored;
    return take(PAGES(100 * MIB));
}

Test(heap_edges, who_needs_a_part_of_the_page_map_waits_for_who_maps_it) {
    heap_free(&heap, take_dirty(10));
    cr_assert(space_reach_begins(&heap.space, 80 * MIB));
    cr_assert_not(space_reach_begins(&heap.space, 80 * MIB), "one at a time");
    cr_assert_eq(space_reach(&heap.space, 80 * MIB), -EAGAIN);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, takes_much, NULL), 0);
    for (int i = 0; i < 50; i++) {
        os_yield();
        struct extent *e = take(10);
        cr_assert(e, "others go on");
        heap_free(&heap, e);
    }
    cr_assert(space_reaches(&heap.space, MIB) && !space_reaches(&heap.space, 80 * MIB));
    cr_assert_eq(space_reach_ends(&heap.space), 0);
    void *taken;
    pthread_join(thread, &taken);
    cr_assert_not_null(taken);
    cr_assert(space_reaches(&heap.space, 100 * MIB));
    heap_free(&heap, taken);
}

Test(heap_edges, release_top_returns_address_space) {
    /* Of an open space; what is reserved stays so. */
    space_destroy(&heap.space);
    memset(&heap, 0, sizeof heap);
    cr_assert_eq(heap_init(&heap, SPAN, false), 0);
    struct extent *low = take_dirty(10), *high = take_dirty(PAGES(64 * MIB));
    heap_free(&heap, high);
    heap_release_top(&heap);
    uintptr_t frontier = heap.frontier;
    cr_assert_gt(frontier - heap.space.base, 64 * MIB, "dirty memory is not released");
    heap_trim(&heap, 0);
    heap_release_top(&heap);
    cr_assert_lt(heap.frontier, frontier);
    cr_assert_eq(heap.frontier, (uintptr_t)extent_end(low));
    cr_assert_null(heap_check(&heap));
    high = take_dirty(PAGES(64 * MIB));
    cr_assert(high, "and can be taken again");
    heap_free(&heap, high);
    heap_free(&heap, low);
}
