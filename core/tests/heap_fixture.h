/* SPDX-License-Identifier: MIT */
/* heap_fixture.h: one heap over a small reserved space, for tests of the extent heap alone. */
#ifndef ZP_TESTS_HEAP_FIXTURE_H
#define ZP_TESTS_HEAP_FIXTURE_H

#include "os/os.h"
#include "heap/heap_bins.h"

#include <criterion/criterion.h>
#include <string.h>

#define SPAN (256 * MIB)
#define PAGES(bytes) ((bytes) >> PAGE_SHIFT)

static struct heap heap;

static inline void set_up(void) {
    cr_assert_eq(heap_init(&heap, SPAN, true), 0);
}
static inline void tear_down(void) {
    const char *broken = heap_check(&heap);
    cr_expect_null(broken, "%s", broken);
    space_destroy(&heap.space);
}

static inline struct extent *take(size_t n_pages) {
    struct heap_request request = {.n_pages = n_pages, .align_pages = 1};
    struct extent *e = heap_alloc(&heap, &request);
    if (e) e->state = EXTENT_LIVE;
    return e;
}

/* A program writes what it was given; the pool clears the flag on free. */
static inline struct extent *take_dirty(size_t n_pages) {
    struct extent *e = take(n_pages);
    cr_assert(e);
    memset(e->address, 0xa5, extent_bytes(e));
    e->flags &= (__typeof__(e->flags))~EXTENT_ZERO;
    return e;
}

#endif
