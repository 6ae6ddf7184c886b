/* SPDX-License-Identifier: MIT */
/* test_recycle.c: what the program is known to have done to a block is noted where it belongs, and undone on
 * every way out. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>

#include "os/os.h"
#include "learn/recycle.h"
#include "pool/resize.h"
#include "observe/stats.h"
#include "pool_fixture.h"
#include "support.h"

static struct pool pool;

static void set_up(void) {
    struct pool_setup setup = fixture_setup();
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    /* Beyond the time in which every block is looked at: what is found below is found because it was
     * noted. */
    pool.recycle.n_checks = 1000001;
}

static unsigned flags_of(void *p) {
    return fixture_extent(&pool, p)->flags;
}

/* A block of a program that has made it read-only, and says so. */
static char *get_changed(size_t n_bytes) {
    char *p = fixture_get(&pool, n_bytes);
    memset(p, 1, n_bytes);
    cr_assert_eq(mprotect(p, n_bytes, PROT_READ), 0);
    recycle_note(&pool.recycle, p, n_bytes, EXTENT_CHANGED);
    return p;
}

TestSuite(recycle, .init = set_up, .timeout = 30);

Test(recycle, notes_the_blocks_of_a_range) {
    char *p[3];
    for (int i = 0; i < 3; i++)
        p[i] = fixture_get(&pool, 4 * MIB);
    cr_assert_eq(p[1], p[0] + 4 * MIB);
    cr_assert_eq(p[2], p[1] + 4 * MIB);
    recycle_note(&pool.recycle, p[1] + MIB + 5, 1, EXTENT_CHANGED);
    cr_assert_eq(flags_of(p[0]) & EXTENT_CHANGED, 0);
    cr_assert(flags_of(p[1]) & EXTENT_CHANGED, "from its inside");
    cr_assert_eq(flags_of(p[2]) & EXTENT_CHANGED, 0);
    recycle_note(&pool.recycle, p[0] + 4 * MIB - 1, 2, EXTENT_REPLACED);
    cr_assert(flags_of(p[0]) & EXTENT_REPLACED, "its last byte");
    cr_assert(flags_of(p[1]) & EXTENT_REPLACED, "its first byte");
    cr_assert_eq(flags_of(p[2]) & EXTENT_REPLACED, 0);
    /* In pieces, each of which finds the block where the last one did. */
    for (size_t at = 0; at < 4 * MIB; at += PAGE_BYTES)
        recycle_note(&pool.recycle, p[2] + at, PAGE_BYTES, EXTENT_HUGE);
    cr_assert(flags_of(p[2]) & EXTENT_HUGE);
    cr_assert_eq(flags_of(p[2]) & EXTENT_CHANGED, 0);
    cr_assert_not(pool.recycle.check_every_free);
    cr_assert_null(pool_check(&pool));
}

Test(recycle, checks_every_free_where_no_live_block_is) {
    char *p = fixture_get(&pool, 4 * MIB), *idle = fixture_get(&pool, 4 * MIB),
         *q = fixture_get(&pool, 4 * MIB);
    struct extent *extent = fixture_extent(&pool, idle);
    extent_set_state(extent, EXTENT_CACHED);
    heap_free(&pool.heap, extent);
    recycle_note(&pool.recycle, idle, MIB, EXTENT_HUGE);
    cr_assert_not(pool.recycle.check_every_free, "advice about huge pages is no reason");
    recycle_note(&pool.recycle, p, 12 * MIB, EXTENT_CHANGED);
    cr_assert(pool.recycle.check_every_free);
    cr_assert(flags_of(p) & EXTENT_CHANGED);
    cr_assert(flags_of(q) & EXTENT_CHANGED, "beyond the idle one");
    pool.recycle.check_every_free = 0;
    /* Ranges that reach out of the pool, and one that wraps. */
    recycle_note(&pool.recycle, (char *)pool.heap.space.base - 4 * PAGE_BYTES, 5 * PAGE_BYTES,
                 EXTENT_REPLACED);
    cr_assert(flags_of(p) & EXTENT_REPLACED);
    recycle_note(&pool.recycle, q + MIB, SIZE_MAX, EXTENT_REPLACED);
    cr_assert(flags_of(q) & EXTENT_REPLACED);
    cr_assert_null(pool_check(&pool));
}

/* Whatever lies around it, in a bounded number of steps. */
Test(recycle, finds_a_block_from_any_of_its_pages) {
    struct pool_setup setup = fixture_setup();
    setup.span_max = 64 * GIB;
    setup.max_block_bytes = 32 * GIB;
    pool_finish(&pool);
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    static const size_t sizes[] = {20 * GIB, 4 * KIB,   4 * MIB, 8 * KIB, 3 * GIB,
                                   12 * KIB, 300 * MIB, 4 * KIB, 4 * KIB};
    enum { N = sizeof sizes / sizeof sizes[0] };
    char *p[N];
    uint64_t rng = 1;
    for (int i = 0; i < N; i++)
        cr_assert(p[i] = fixture_get(&pool, sizes[i]));
    for (int i = 0; i < 20000; i++) {
        int block = (int)rng_range(&rng, 0, N - 1);
        size_t last = sizes[block] - 1,
               at = rng_range(&rng, 0, rng_next(&rng) % 2 ? last : min_size(last, 64 * MIB));
        if (rng_next(&rng) % 2) at = last - at;
        cr_assert_eq(space_find(&pool.heap.space, p[block] + at), fixture_extent(&pool, p[block]),
                     "%zu bytes at %zu", sizes[block], at);
    }
    recycle_note(&pool.recycle, p[0] + 7 * GIB, 1, EXTENT_CHANGED);
    cr_assert(flags_of(p[0]) & EXTENT_CHANGED);
    cr_assert_not(pool.recycle.check_every_free);
    cr_assert_null(pool_check(&pool));
    /* What was in several pieces is one again. */
    for (int i = 0; i < N; i++) {
        struct extent *extent = fixture_extent(&pool, p[i]);
        extent_set_state(extent, EXTENT_CACHED);
        heap_free(&pool.heap, extent);
    }
    cr_assert_null(pool_check(&pool));
    pool_trim(&pool, 0);
    char *all = fixture_get(&pool, 22 * GIB);
    cr_assert(all);
    for (size_t at = 0; at < 22 * GIB; at += 61 * MIB)
        cr_assert_eq(space_find(&pool.heap.space, all + at), fixture_extent(&pool, all));
    cr_assert_null(pool_check(&pool));
}

static void guard(char *page, int protection) {
    cr_assert_eq(mprotect(page, PAGE_BYTES, protection), 0);
    recycle_note_protection(&pool.recycle, page, PAGE_BYTES, protection == (PROT_READ | PROT_WRITE));
}

Test(recycle, forgets_a_guard_that_is_undone) {
    enum { READ_WRITE = PROT_READ | PROT_WRITE };
    char *p = fixture_get(&pool, MIB), *end = p + MIB - PAGE_BYTES;
    guard(p, PROT_NONE);
    cr_assert(flags_of(p) & EXTENT_CHANGED);
    guard(p + PAGE_BYTES, READ_WRITE);
    cr_assert(flags_of(p) & EXTENT_CHANGED, "another page");
    guard(p, READ_WRITE);
    cr_assert_eq(flags_of(p) & EXTENT_CHANGED, 0);
    /* One at either end: what lies between is not told apart from them, but each end is. */
    guard(p, PROT_NONE);
    guard(end, PROT_READ);
    guard(p, READ_WRITE);
    cr_assert(flags_of(p) & EXTENT_CHANGED);
    guard(end, READ_WRITE);
    cr_assert(flags_of(p) & EXTENT_CHANGED);
    recycle_note_protection(&pool.recycle, p, MIB, true);
    cr_assert_eq(flags_of(p) & EXTENT_CHANGED, 0);
    /* What else was done stays to be undone. */
    guard(p, PROT_NONE);
    recycle_note(&pool.recycle, end, PAGE_BYTES, EXTENT_CHANGED);
    recycle_note_protection(&pool.recycle, p, MIB, true);
    cr_assert(flags_of(p) & EXTENT_CHANGED);
    fixture_put(&pool, p);
    cr_assert_eq(fixture_get(&pool, MIB), p);
    memset(p, 1, MIB);
    cr_assert_not(pool.recycle.check_every_free);
}

/* A guard that is left is undone where it is, also when the block has become smaller meanwhile, or has
 * moved. */
Test(recycle, undoes_a_guard_that_is_left) {
    char *p = fixture_get(&pool, 8 * MIB), *wall = fixture_get(&pool, MIB);
    memset(p, 1, 8 * MIB);
    guard(p + 4096, PROT_READ);
    guard(p + 5 * MIB, PROT_READ);
    cr_assert(resize_in_place(&pool, fixture_extent(&pool, p), 4 * MIB));
    char *tail = fixture_get(&pool, 4 * MIB);
    cr_assert_eq(tail, p + 4 * MIB);
    memset(tail, 2, 4 * MIB);
    char *larger = resize_move(&pool, tcache_find(&pool.tcaches), fixture_extent(&pool, p), 32 * MIB);
    cr_assert(larger && larger != p);
    fixture_put(&pool, larger);
    cr_assert_eq(fixture_get(&pool, 32 * MIB), larger);
    memset(larger, 2, 32 * MIB);
    cr_assert(wall);
    cr_assert_null(pool_check(&pool));
}

Test(recycle, watching_ends_when_nothing_is_found) {
    size_t limit = pool.tcaches.limit_bytes;
    recycle_watch(&pool.recycle);
    cr_assert_lt(pool.tcaches.limit_bytes, limit);
    void *p = fixture_get(&pool, 200 * KIB);
    memset(p, 1, 200 * KIB);
    for (int i = 0; i < RECYCLE_QUIET - 1; i++) {
        fixture_put(&pool, p);
        cr_assert(p = fixture_get(&pool, 200 * KIB));
    }
    cr_assert(pool.recycle.check_every_free, "one more");
    /* Something is found: from the beginning. */
    cr_assert_eq(mprotect(p, 200 * KIB, PROT_READ), 0);
    for (int i = 0; i < RECYCLE_QUIET; i++) {
        fixture_put(&pool, p);
        cr_assert(p = fixture_get(&pool, 200 * KIB));
    }
    cr_assert_eq(pool.recycle.check_every_free, 1);
    fixture_put(&pool, p);
    cr_assert_eq(pool.recycle.check_every_free, 0);
    cr_assert_eq(pool.tcaches.limit_bytes, limit);
    /* Caches take such blocks again. */
    for (int i = 0; i < 2; i++)
        fixture_put(&pool, fixture_get(&pool, 200 * KIB));
    cr_assert(tcache_find(&pool.tcaches)->small.extent);
}

Test(recycle, mends_what_is_freed) {
    static const size_t sizes[] = {40 * KIB, 200 * KIB, 5 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *p = get_changed(sizes[i]);
        fixture_put(&pool, p);
        char *q = fixture_get(&pool, sizes[i]);
        cr_assert_eq(q, p);
        memset(q, 2, sizes[i]);
        cr_assert_eq(flags_of(q) & (EXTENT_CHANGED | EXTENT_CHECK), 0);
        fixture_put(&pool, q);
        /* The same with a hole, at a block that now comes from a cache. */
        p = fixture_get(&pool, sizes[i]);
        cr_assert_eq(munmap(p, sizes[i]), 0);
        recycle_note(&pool.recycle, p, sizes[i], EXTENT_REPLACED);
        fixture_put(&pool, p);
        q = fixture_get(&pool, sizes[i]);
        cr_assert_eq(q, p);
        memset(q, 2, sizes[i]);
    }
    cr_assert_not(pool.recycle.check_every_free, "what was noted is no reason");
    cr_assert_null(pool_check(&pool));
}

Test(recycle, mends_what_realloc_gives_back) {
    char *p = get_changed(8 * MIB);
    cr_assert(resize_in_place(&pool, fixture_extent(&pool, p), 2 * MIB));
    char *tail = fixture_get(&pool, 6 * MIB);
    cr_assert_eq(tail, p + 2 * MIB);
    memset(tail, 2, 6 * MIB);
    cr_assert(flags_of(p) & EXTENT_CHANGED, "the rest is still to be mended");
    fixture_put(&pool, p);
    char *q = fixture_get(&pool, 2 * MIB);
    cr_assert_eq(q, p);
    memset(q, 2, 2 * MIB);
}

Test(recycle, follows_a_block_that_moves) {
    char *p = get_changed(8 * MIB), *wall = fixture_get(&pool, MIB);
    struct extent *extent = fixture_extent(&pool, p);
    char *larger = resize_move(&pool, tcache_find(&pool.tcaches), extent, 32 * MIB);
    cr_assert(larger && larger != p && larger[8 * MIB - 1] == 1);
    bool by_tables = flags_of(larger) & EXTENT_MOVED;
    cr_assert_eq(!!(flags_of(larger) & EXTENT_CHANGED), by_tables, "attributes move with the pages");
    /* Where it was, and where it is now. */
    char *q = fixture_get(&pool, 8 * MIB);
    memset(q, 2, 8 * MIB);
    fixture_put(&pool, larger);
    q = fixture_get(&pool, 32 * MIB);
    memset(q, 2, 32 * MIB);
    fixture_put(&pool, wall);
}

/* Without a note: the first blocks that come back are looked at, however many are out by then. */
Test(recycle, asks_for_the_first_blocks_only) {
    enum { N = RECYCLE_CHECK_ALL + 20 };
    char *p[N];
    for (int early = 0; early < 2; early++) {
        struct pool_setup setup = fixture_setup();
        pool_finish(&pool);
        memset(&pool, 0, sizeof pool);
        cr_assert_eq(fixture_init(&pool, &setup), 0);
        for (int i = 0; i < N; i++)
            memset(p[i] = fixture_get(&pool, MIB), 1, MIB);
        int changed = early ? RECYCLE_CHECK_ALL - 1 : RECYCLE_CHECK_ALL;
        cr_assert_eq(mprotect(p[changed], MIB, PROT_READ), 0);
        for (int i = 0; i < N - 1; i++)
            fixture_put(&pool, p[i]);
        cr_assert_eq(pool.recycle.n_checks, RECYCLE_CHECK_ALL);
        cr_assert_eq(pool.recycle.check_every_free > 0, early);
    }
}

Test(recycle, asks_for_a_sample_later) {
    char *held[4]; /* a program that treats one of four so, and goes round in the same way for ever */
    int n = 0;
    for (; !pool.recycle.check_every_free && n < 4 * RECYCLE_CHECK_EVERY; n++) {
        for (int i = 0; i < 4; i++)
            memset(held[i] = fixture_get(&pool, MIB), 1, MIB);
        cr_assert_eq(mprotect(held[1], MIB, PROT_READ | PROT_EXEC), 0);
        cr_assert_eq(mprotect(held[1], MIB, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
        for (int i = 0; i < 4; i++)
            fixture_put(&pool, held[i]);
    }
    cr_assert(pool.recycle.check_every_free, "not within %d blocks", 4 * n);
}

/* Neighbours that stay apart, as where threads have touched them before they could merge, say nothing about
 * the program. */
Test(recycle, takes_no_amiss_what_does_not_merge) {
    pool.recycle.n_checks = 0;
    char *p[3];
    for (int i = 0; i < 3; i++)
        p[i] = fixture_get(&pool, 4 * MIB);
    /* Mapped one by one and touched before the next: each has its own history for the kernel. */
    for (int i = 0; i < 3; i++)
        cr_assert_eq(munmap(p[i], 4 * MIB), 0);
    for (int i = 2; i >= 0; i -= 2) {
        cr_assert_eq(os_map_at(p[i], 4 * MIB), 0);
        memset(p[i], 1, 4 * MIB);
    }
    cr_assert_eq(os_map_at(p[1] + PAGE_BYTES, 4 * MIB - 2 * PAGE_BYTES), 0);
    memset(p[1] + PAGE_BYTES, 1, 4 * MIB - 2 * PAGE_BYTES);
    cr_assert_eq(os_map_at(p[1], PAGE_BYTES), 0);
    cr_assert_eq(os_map_at(p[1] + 4 * MIB - PAGE_BYTES, PAGE_BYTES), 0);
    cr_assert_not(os_is_one_vma(p[1] - PAGE_BYTES, 4 * MIB + PAGE_BYTES));
    cr_assert_not(os_is_one_vma(p[1], 4 * MIB + PAGE_BYTES));
    fixture_put(&pool, p[1]);
    cr_assert_not(pool.recycle.check_every_free);
}

/* Into idle memory a block is copied. */
Test(recycle, mends_what_a_copy_leaves) {
    char *idle = fixture_get(&pool, 6 * MIB), *wall = fixture_get(&pool, MIB);
    char *p = get_changed(2 * MIB), *wall2 = fixture_get(&pool, MIB);
    memset(idle, 1, 6 * MIB);
    struct extent *extent = fixture_extent(&pool, idle);
    extent_set_state(extent, EXTENT_CACHED);
    heap_free(&pool.heap, extent);
    char *larger = resize_move(&pool, tcache_find(&pool.tcaches), fixture_extent(&pool, p), 5 * MIB);
    cr_assert_eq(larger, idle);
    cr_assert_eq(flags_of(larger) & EXTENT_CHANGED, 0);
    char *q = fixture_get(&pool, 2 * MIB);
    cr_assert_eq(q, p);
    memset(q, 2, 2 * MIB);
    cr_assert(wall && wall2);
}

Test(recycle, guards_at_the_end_of_a_block_of_three_gigabytes_are_found) {
    static struct pool large;
    struct pool_setup setup = fixture_setup();
    setup.span_max = 8 * GIB;
    setup.max_block_bytes = 4 * GIB;
    cr_assert_eq(fixture_init(&large, &setup), 0);
    large.recycle.n_checks = 1000001;
    char *p = pool_get(&large, NULL, pages_of(3 * GIB));
    cr_assert(p);
    recycle_note(&large.recycle, p + 3 * GIB - PAGE_BYTES, PAGE_BYTES, EXTENT_CHANGED);
    cr_assert(fixture_extent(&large, p)->flags & EXTENT_CHANGED);
    cr_assert_not(large.recycle.check_every_free);
}

Test(recycle, the_slot_takes_nothing_of_a_watched_size) {
    void *p = fixture_get(&pool, RECYCLE_MIN_BYTES);
    for (int i = 0; i < 2; i++) { /* from the slot the second time: no flag sends it the long way */
        fixture_put(&pool, p);
        cr_assert_eq(tcache_find(&pool.tcaches)->small.extent, fixture_extent(&pool, p));
        p = fixture_get(&pool, RECYCLE_MIN_BYTES);
    }
    recycle_watch(&pool.recycle);
    fixture_put(&pool, p);
    cr_assert_null(tcache_find(&pool.tcaches)->small.extent);
}
