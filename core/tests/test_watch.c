/* SPDX-License-Identifier: MIT */
/* test_watch.c: warm blocks are watched: those that are left untouched give back what they do not use. Time
 * is passed in. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>

#include "os/os.h"
#include "learn/watch.h"
#include "pool/zero.h"
#include "pool_fixture.h"
#include "support.h"

static struct pool pool;

static void set_up(void) {
    cr_assert_eq(fixture_init_learning(&pool), 0);
    pool.heap.cannot_mark = false;
}
static void tear_down(void) {
    cr_expect_null(pool_check(&pool));
    pool_finish(&pool);
}
TestSuite(watch, .init = set_up, .fini = tear_down, .timeout = 60);

#define SIZE (16 * MIB)

/* Idle memory that has been filled, straight in the heap. */
static void make_warm(size_t n_bytes) {
    struct heap_request request = {.n_pages = pages_of(n_bytes), .align_pages = 1, .proven = true};
    struct extent *extent = heap_alloc(&pool.heap, &request);
    cr_assert(extent);
    memset(extent->address, 0xaa, n_bytes);
    extent->flags &= (uint16_t) ~(EXTENT_ZERO | EXTENT_POPULATED);
    extent_set_state(extent, EXTENT_CACHED);
    heap_free(&pool.heap, extent);
}

static size_t resident(const void *p) {
    return fixture_resident_pages(p, SIZE);
}

/* As many looks as are due, so long after the block was handed out. */
static void look_after(uint32_t ms) {
    uint32_t now = os_clock_ms() + ms;
    for (int i = 0; i < 100 && watch_tick(&pool.watch, &pool.heap, &pool.learned, now) == 1; i++)
        ;
}

static const struct watched *entry_of(const void *p) {
    for (int i = 0; i < WATCH_BLOCKS; i++)
        if (pool.watch.blocks[i].address == p) return &pool.watch.blocks[i];
    return NULL;
}

static bool gives_back(void) {
    char *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *page = 1;
    bool works = os_mark_reclaimable(page, PAGE_BYTES) == 0 && os_give_unwritten(page, PAGE_BYTES) == 0 &&
                 fixture_resident_pages(page, PAGE_BYTES) == 0;
    munmap(page, PAGE_BYTES);
    return works;
}

Test(watch, a_warm_block_that_is_filled_is_seen_to_be) {
    make_warm(SIZE);
    char *p = fixture_get(&pool, SIZE);
    cr_assert_geq(resident(p), pages_of(SIZE) - WATCH_SAMPLES - SIZE / HUGE_BYTES);
    cr_assert_eq(pool.watch.n_watched, 1);
    cr_assert(entry_of(p));
    memset(p, 1, SIZE);
    look_after(WATCH_AFTER_MS - 100);
    cr_assert_eq(fill_habit(&pool.learned, pages_of(SIZE)), 0, "not yet");
    look_after(WATCH_AFTER_MS);
    cr_assert_gt(fill_habit(&pool.learned, pages_of(SIZE)), 0);
    cr_assert_eq(pool.watch.n_watched, 0, "and that is all");
    cr_assert_eq(resident(p), pages_of(SIZE));
    fixture_put(&pool, p);
}

Test(watch, a_sparse_one_gives_back_what_is_not_written_and_nothing_else) {
    if (!gives_back()) cr_skip_test("this kernel does not give back marked pages");
    make_warm(SIZE);
    char *p = fixture_get(&pool, SIZE);
    for (size_t at = 0; at < SIZE; at += 100 * PAGE_BYTES)
        memset(p + at, 0x33, PAGE_BYTES);
    look_after(WATCH_AFTER_MS);
    cr_assert_leq(resident(p), 2 * (SIZE / (100 * PAGE_BYTES) + 1), "%zu pages", resident(p));
    for (size_t at = 0; at < SIZE; at += 100 * PAGE_BYTES)
        for (size_t i = 0; i < PAGE_BYTES; i += 512)
            cr_assert_eq(p[at + i], 0x33, "what was written is there");
    cr_assert_eq(pool.watch.n_watched, 1, "what it teaches is learned when it comes back");
    cr_assert_eq(fill_habit(&pool.learned, pages_of(SIZE)), 0);
    fixture_put(&pool, p);
    cr_assert_lt(fill_habit(&pool.learned, pages_of(SIZE)), 0);
    cr_assert_eq(pool.watch.n_watched, 0);
}

Test(watch, one_of_huge_pages_as_well) {
    if (!gives_back() || os_huge_pages() == HUGE_NEVER)
        cr_skip_test("no huge pages, or nothing is given back");
    struct heap_request request = {
        .n_pages = pages_of(SIZE), .align_pages = 1, .fresh_huge = true, .proven = true};
    struct extent *extent = heap_alloc(&pool.heap, &request);
    memset(extent->address, 0xaa, SIZE);
    extent->flags &= (uint16_t)~EXTENT_ZERO;
    extent_set_state(extent, EXTENT_CACHED);
    heap_free(&pool.heap, extent);
    char *p = fixture_get(&pool, SIZE);
    cr_assert_eq(extent->address, p);
    p[0] = p[SIZE / 2] = 7;
    look_after(WATCH_AFTER_MS);
    cr_assert_leq(resident(p), 32, "%zu pages", resident(p));
    cr_assert(p[0] == 7 && p[SIZE / 2] == 7);
    fixture_put(&pool, p);
}

Test(watch, a_large_one_gives_back_step_by_step) {
    if (!gives_back()) cr_skip_test("this kernel does not give back marked pages");
    const size_t tick_bytes = WATCH_LOOKS * WATCH_STEP_BYTES;
    size_t n = 3 * tick_bytes - MIB;
    make_warm(n);
    char *p = fixture_get(&pool, n);
    uint32_t now = os_clock_ms() + WATCH_AFTER_MS;
    unsigned n_steps = 0;
    size_t before = fixture_resident_pages(p, n);
    while (watch_tick(&pool.watch, &pool.heap, &pool.learned, now) == 1 && n_steps < 10) {
        n_steps++;
        size_t after = fixture_resident_pages(p, n);
        cr_assert_leq(before - after, tick_bytes >> PAGE_SHIFT);
        before = after;
    }
    cr_assert_eq(n_steps, 3);
    cr_assert_leq(before, 100, "%zu of %zu pages", before, n >> PAGE_SHIFT);
    fixture_put(&pool, p);
}

Test(watch, what_is_known_to_be_left_untouched_is_handed_out_empty) {
    fill_learn(fill_of(&pool.learned, pages_of(SIZE)), false);
    make_warm(SIZE);
    char *p = fixture_get(&pool, SIZE);
    cr_assert_eq(resident(p), 0);
    cr_assert_eq(first_nonzero(p, SIZE), SIZE);
    cr_assert_eq(pool.watch.n_watched, 0);
    fixture_put(&pool, p);
}

Test(watch, of_those_known_to_be_filled_some_are_watched_at_random) {
    enum { N = 64 * 60 };
    size_t n_bytes = 2 * MIB;
    make_warm(n_bytes);
    fixture_trust(&pool, n_bytes);
    unsigned n_watched = 0, last = 0, gaps[N], n_equal = 0;
    for (unsigned i = 0; i < N; i++) {
        struct heap_request request = {.n_pages = pages_of(n_bytes), .align_pages = 1, .proven = true};
        struct extent *extent = heap_alloc(&pool.heap, &request);
        uint32_t before = pool.watch.n_watched;
        cr_assert_not(watch_offer(&pool.watch, &pool.heap, &pool.learned, extent, 0));
        if (pool.watch.n_watched > before) {
            cr_assert(extent->flags & EXTENT_OBSERVE);
            cr_assert_not(pool.watch.blocks[0].marked, "it is not going to give anything back");
            gaps[n_watched++] = i - last;
            last = i;
            watch_returned(&pool.watch, &pool.learned, extent);
            cr_assert_eq(pool.watch.n_watched, before);
        }
        extent_set_state(extent, EXTENT_CACHED);
        heap_free(&pool.heap, extent);
        /* What it taught does not matter here. */
        fixture_trust(&pool, n_bytes);
    }
    cr_assert(n_watched >= 30 && n_watched <= 100, "%u of %u", n_watched, N);
    for (unsigned i = 1; i < n_watched; i++)
        n_equal += gaps[i] == gaps[i - 1];
    cr_assert_leq(n_equal, n_watched / 4, "%u of %u follow at the same distance", n_equal, n_watched);
}

Test(watch, what_finds_no_place_in_the_table_is_handed_out_empty) {
    enum { N = WATCH_BLOCKS + 3 };
    char *p[N];
    make_warm(N * 2 * MIB);
    for (int i = 0; i < N; i++) {
        p[i] = fixture_get(&pool, 2 * MIB);
        cr_assert_leq(pool.watch.n_watched, WATCH_BLOCKS);
        cr_assert_eq(entry_of(p[i]) != NULL, i < WATCH_BLOCKS, "block %d", i);
        if (i >= WATCH_BLOCKS)
            cr_assert_eq(fixture_resident_pages(p[i], 2 * MIB), 0, "nobody would notice that it is sparse");
    }
    for (int i = 0; i < N; i++)
        fixture_put(&pool, p[i]);
    cr_assert_eq(pool.watch.n_watched, 0);
    cr_assert_eq(pool.watch.n_open, 0);
}

Test(watch, blocks_that_have_gone_meanwhile_are_forgotten) {
    make_warm(3 * SIZE);
    char *p[3];
    for (int i = 0; i < 3; i++)
        p[i] = fixture_get(&pool, SIZE);
    cr_assert_eq(pool.watch.n_watched, 3);
    /* One comes back, one is lost to the heap by another way, of one a piece is left. */
    fixture_put(&pool, p[0]);
    cr_assert_eq(pool.watch.n_watched, 2);
    struct extent *extent = fixture_extent(&pool, p[1]);
    extent_set_state(extent, EXTENT_CACHED);
    heap_free(&pool.heap, extent);
    heap_shrink(&pool.heap, fixture_extent(&pool, p[2]), 100);
    look_after(WATCH_AFTER_MS);
    cr_assert_eq(pool.watch.n_watched, 0);
    fixture_put(&pool, p[2]);
}

Test(watch, nobody_waits_for_its_lock) {
    make_warm(2 * SIZE);
    char *p = fixture_get(&pool, SIZE);
    cr_assert(lock_try(&pool.watch.lock));
    char *q = fixture_get(&pool, SIZE);
    cr_assert(q);
    cr_assert_eq(watch_tick(&pool.watch, &pool.heap, &pool.learned, os_clock_ms() + WATCH_AFTER_MS),
                 WATCH_AFTER_MS);
    fixture_put(&pool, p);
    lock_release(&pool.watch.lock);
    cr_assert_eq(pool.watch.n_watched, 1);
    look_after(WATCH_AFTER_MS);
    cr_assert_eq(pool.watch.n_watched, 0);
    fixture_put(&pool, q);
}

Test(watch, small_zeroed_and_locked_blocks_are_not_watched) {
    make_warm(4 * MIB);
    void *p = fixture_get(&pool, WATCH_MIN_BYTES - PAGE_BYTES);
    void *q = zero_get(&pool, tcache_find(&pool.tcaches), pages_of(2 * MIB));
    cr_assert_eq(pool.watch.n_watched, 0);
    fixture_put(&pool, p);
    fixture_put(&pool, q);
    os_restricted = true;
    p = fixture_get(&pool, 3 * MIB);
    cr_assert_eq(pool.watch.n_watched, 0, "under a filter nobody can look");
    fixture_put(&pool, p);
    os_restricted = false;
}

/* --- blocks that are left without a touched page --- */

#define SMALL (2 * MIB)

static void take_and_return(bool touch) {
    char *p = fixture_get(&pool, SMALL);
    cr_assert(p);
    if (touch) p[rand() % SMALL] = 1;
    fixture_put(&pool, p);
    struct extent *list =
        tcache_take_all(tcache_find(&pool.tcaches)); /* so that the next comes from the heap */
    tcache_return_list(&pool.tcaches, list);
}

static bool left_empty(void) {
    return fill_left_empty(&pool.learned, pages_of(SMALL));
}

static uint64_t n_given_whole(int n) {
    uint64_t before = pool.heap.counters.by_size[log2_floor(pages_of(SMALL))].n_dirty, n_given = 0;
    for (int i = 0; i < n; i++) {
        char *p = fixture_get(&pool, SMALL);
        n_given += READ_RELAXED(fixture_extent(&pool, p)->flags) & EXTENT_OBSERVE ? 1 : 0;
        fixture_put(&pool, p);
        tcache_return_list(&pool.tcaches, tcache_take_all(tcache_find(&pool.tcaches)));
    }
    cr_assert_eq(pool.heap.counters.by_size[log2_floor(pages_of(SMALL))].n_dirty - before, n,
                 "all were warm");
    return n_given;
}

Test(watch, blocks_left_empty_are_soon_handed_out_as_they_are) {
    for (int i = 0; i < 3 * FILL_EMPTY_TRUST && !left_empty(); i++)
        take_and_return(false);
    cr_assert(left_empty());
    uint64_t n = n_given_whole(64 * FILL_EMPTY_ONE_IN);
    cr_assert(n > 16 && n < 256, "one in %d is looked at, not %lu of %d", FILL_EMPTY_ONE_IN, n,
              64 * FILL_EMPTY_ONE_IN);
    for (int i = 0; i < 64 * FILL_EMPTY_ONE_IN && left_empty(); i++)
        take_and_return(true);
    cr_assert_not(left_empty(), "a page was touched");
}

Test(watch, a_single_touched_page_is_not_empty) {
    for (int i = 0; i < 8 * FILL_EMPTY_TRUST; i++)
        take_and_return(true);
    cr_assert_not(left_empty());
}

Test(watch, nothing_is_given_back_for_what_is_left_empty) {
    make_warm(SIZE);
    for (int i = 0; i < 3 * FILL_EMPTY_TRUST && !left_empty(); i++)
        take_and_return(false);
    uint64_t purged = pool.heap.counters.bytes_purged;
    void *blocks[64];
    for (int i = 0; i < 64; i++)
        blocks[i] = fixture_get(&pool, SMALL);
    cr_assert_eq(pool.heap.counters.bytes_purged, purged);
    cr_assert_eq(pool.heap.unproven_bytes, 64 * SMALL, "and none of it counts as used");
    for (int i = 0; i < 64; i++)
        fixture_put(&pool, blocks[i]);
}

Test(watch, a_filled_block_now_and_then_earns_no_trust) {
    enum { N = 64 };
    make_warm((N + 1) * SMALL);
    for (int i = 0; i < N; i++) {
        char *p = fixture_get(&pool, SMALL);
        if (i % 8 == 0) memset(p, 1, SMALL);
        cr_assert_not(fill_trusts_warm(&pool.learned, pages_of(SMALL)), "block %d", i);
    }
}

Test(watch, blocks_are_known_to_be_filled_before_one_has_come_back) {
    enum { N = 16 };
    make_warm((N + 1) * SMALL);
    for (int i = 0; i < N; i++)
        memset(fixture_get(&pool, SMALL), 1, SMALL);
    cr_assert(fill_trusts_warm(&pool.learned, pages_of(SMALL)));
    cr_assert_leq(pool.watch.n_watched, 2);
}
