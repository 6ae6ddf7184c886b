/* SPDX-License-Identifier: MIT */
/* test_heap_random.c: long random sequences of heap operations against a shadow model that knows the owner of
 * every page. */
#include <criterion/criterion.h>
#include <string.h>

#include "heap/heap.h"
#include "support.h"

#define SPAN (128 * MIB)
#define SPAN_PAGES (SPAN >> PAGE_SHIFT)
#define BLOCKS_MAX 200

struct block {
    struct extent *extent; /* NULL: slot free */
    uint64_t tag;
};

struct model {
    struct heap heap;
    struct block blocks[BLOCKS_MAX];
    uint16_t owner[SPAN_PAGES]; /* slot + 1, 0 = nobody */
    size_t live_pages;
    uint64_t rng, next_tag;
};
static struct model m;

static size_t page_of(const void *p) {
    return ((uintptr_t)p - m.heap.space.base) >> PAGE_SHIFT;
}

static void own(unsigned slot, size_t first, size_t n_pages) {
    for (size_t i = first; i < first + n_pages; i++) {
        cr_assert_eq(m.owner[i], 0, "page %zu belongs to block %d already", i, m.owner[i] - 1);
        m.owner[i] = (uint16_t)(slot + 1);
    }
    m.live_pages += n_pages;
}

static void disown(unsigned slot, size_t first, size_t n_pages) {
    for (size_t i = first; i < first + n_pages; i++) {
        cr_assert_eq(m.owner[i], slot + 1);
        m.owner[i] = 0;
    }
    m.live_pages -= n_pages;
}

static void check_contents(const struct block *block) {
    size_t n = extent_active_bytes(block->extent);
    cr_assert_eq(pattern_check(block->extent->address, n, block->tag), n, "contents of a live block changed");
}

static void refill(struct block *block) {
    block->tag = ++m.next_tag;
    pattern_fill(block->extent->address, extent_active_bytes(block->extent), block->tag);
}

static size_t random_pages(void) {
    unsigned bits = (unsigned)rng_range(&m.rng, 0, 10);
    return rng_range(&m.rng, 1, (size_t)1 << bits);
}

static void op_alloc(unsigned slot) {
    struct heap_request request = {.n_pages = random_pages(), .align_pages = 1};
    if (rng_next(&m.rng) % 4 == 0) request.align_pages = (size_t)1 << rng_range(&m.rng, 0, 9);
    if (rng_next(&m.rng) % 8 == 0) request.headroom_pages = random_pages();
    struct extent *e = heap_alloc(&m.heap, &request);
    if (!e) return; /* the span is small on purpose: refusals are part of the game */
    e->state = EXTENT_LIVE;
    cr_assert_geq(e->used_pages, request.n_pages);
    cr_assert_leq(e->used_pages, e->n_pages);
    cr_assert_eq((uintptr_t)e->address % (request.align_pages << PAGE_SHIFT), 0);
    if (e->flags & EXTENT_ZERO) {
        size_t n = extent_active_bytes(e);
        cr_assert_eq(first_nonzero(e->address, n), n, "memory that was written is passed for zero");
    }
    m.blocks[slot].extent = e;
    own(slot, page_of(e->address), e->used_pages);
    refill(&m.blocks[slot]);
}

static void op_free(unsigned slot) {
    struct extent *e = m.blocks[slot].extent;
    check_contents(&m.blocks[slot]);
    disown(slot, page_of(e->address), e->used_pages);
    e->flags &= (__typeof__(e->flags))~EXTENT_ZERO;
    heap_free(&m.heap, e);
    m.blocks[slot].extent = NULL;
}

static void op_extend(unsigned slot) {
    struct extent *e = m.blocks[slot].extent;
    size_t used = e->used_pages, wanted = used + random_pages();
    if (heap_extend(&m.heap, e, wanted, NULL)) {
        cr_assert_eq(e->used_pages, wanted);
        own(slot, page_of(e->address) + used, wanted - used);
        size_t n = used << PAGE_SHIFT;
        cr_assert_eq(pattern_check(e->address, n, m.blocks[slot].tag), n);
        refill(&m.blocks[slot]);
    } else {
        cr_assert_eq(e->used_pages, used);
        check_contents(&m.blocks[slot]);
    }
}

static void op_shrink(unsigned slot) {
    struct extent *e = m.blocks[slot].extent;
    size_t used = e->used_pages;
    if (used < 2) return;
    size_t wanted = rng_range(&m.rng, 1, used - 1);
    heap_shrink(&m.heap, e, wanted);
    cr_assert_eq(e->used_pages, wanted);
    disown(slot, page_of(e->address) + wanted, used - wanted);
    refill(&m.blocks[slot]);
}

static void check_everything(void) {
    const char *broken = heap_check(&m.heap);
    cr_assert_null(broken, "%s", broken);
    cr_assert_eq(m.heap.active_bytes, m.live_pages << PAGE_SHIFT);
    for (unsigned slot = 0; slot < BLOCKS_MAX; slot++)
        if (m.blocks[slot].extent) check_contents(&m.blocks[slot]);
}

static void run(uint64_t seed, unsigned n_operations, unsigned n_blocks, bool open) {
    memset(&m, 0, sizeof m);
    m.rng = seed;
    cr_assert_eq(heap_init(&m.heap, SPAN, !open), 0);
    for (unsigned i = 0; i < n_operations; i++) {
        unsigned slot = (unsigned)rng_range(&m.rng, 0, n_blocks - 1);
        unsigned dice = (unsigned)rng_range(&m.rng, 0, 99);
        if (!m.blocks[slot].extent)
            op_alloc(slot);
        else if (dice < 60)
            op_free(slot);
        else if (dice < 80)
            op_extend(slot);
        else if (dice < 98)
            op_shrink(slot);
        else
            heap_trim(&m.heap, rng_range(&m.rng, 0, m.heap.dirty_bytes));
        if (dice == 99) heap_release_top(&m.heap);
        if (i % 20 == 7) heap_mark(&m.heap, rng_range(&m.rng, 0, m.heap.dirty_bytes), os_clock_ms());
        if (open && i % 50 == 33) heap_release(&m.heap, rng_range(&m.rng, 0, 4 * MIB));
        if (i % 250 == 0) check_everything();
    }
    for (unsigned slot = 0; slot < n_blocks; slot++)
        if (m.blocks[slot].extent) op_free(slot);
    check_everything();
    cr_assert_eq(m.heap.active_bytes, 0);
    heap_trim(&m.heap, 0);
    cr_assert_eq(m.heap.dirty_bytes, 0);
    struct extent *all = space_lookup(&m.heap.space, (void *)m.heap.space.base);
    if (m.heap.frontier > m.heap.space.base && !open)
        cr_assert_eq((uintptr_t)extent_end(all), m.heap.frontier,
                     "all is free and clean, yet not one extent");
    space_destroy(&m.heap.space);
}

TestSuite(heap_random, .timeout = 60);

Test(heap_random, few_blocks) {
    run(1, 8000, 12, false);
}
Test(heap_random, many_blocks) {
    run(2, 12000, BLOCKS_MAX, false);
}
Test(heap_random, medium) {
    run(3, 12000, 60, false);
}
Test(heap_random, with_holes) {
    run(4, 8000, 60, true);
}
Test(heap_random, with_holes_and_many_blocks) {
    run(5, 8000, BLOCKS_MAX, true);
}
