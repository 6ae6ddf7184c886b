/* SPDX-License-Identifier: MIT */
/* settled_fixture.h: a heap of which no cache holds anything, for tests of what it keeps and for how long. */
#ifndef ZP_TESTS_SETTLED_FIXTURE_H
#define ZP_TESTS_SETTLED_FIXTURE_H

#include "os/os.h"
#include "heap/budget.h"
#include "heap/heap_bins.h"

#include <criterion/criterion.h>

#define SPAN (512 * MIB)

static struct heap heap;

static inline void set_up(void) {
    cr_assert_eq(heap_init(&heap, SPAN, true), 0);
}
static inline void tear_down(void) {
    cr_expect_null(heap_check(&heap));
    space_destroy(&heap.space);
}

/* As a pool takes a block that will be filled, while nothing lies in caches. */
static inline struct extent *take(size_t n_bytes) {
    struct heap_request request = {.n_pages = n_bytes >> PAGE_SHIFT, .align_pages = 1, .proven = true};
    cr_assert(lock_acquire(&heap.lock));
    budget_settle(&heap, n_bytes, true, 0);
    lock_release(&heap.lock);
    struct extent *e = heap_alloc(&heap, &request);
    cr_assert(e);
    e->state = EXTENT_LIVE;
    e->flags &= (__typeof__(e->flags))~EXTENT_ZERO;
    return e;
}

/* Idle dirty memory of so many bytes that does not merge with its like. */
static inline void make_dirty(size_t n_bytes) {
    heap_free(&heap, take(n_bytes));
}

#endif
