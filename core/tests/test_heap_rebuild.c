/* SPDX-License-Identifier: MIT */
/* test_heap_rebuild.c: a forked child makes the heap anew, whatever its parent was doing: live blocks stay,
 * all else is clean. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap_fixture.h"
#include "pool/account.h"
#include "pool_fixture.h"
#include "support.h"

#define N_BLOCKS 150
/* Each takes a second where page faults are slow. */
#define N_ROUNDS (getenv("ZP_LONG") ? 60 : 10)

static struct {
    struct extent *extent; /* NULL: free; not LIVE: on no list of the heap's */
    uint64_t tag;
} blocks[N_BLOCKS];
static uint64_t rng;
static size_t live_bytes;
static char where[80];

static int wrong(const char *what) {
    fprintf(stderr, "%s: %s\n", where, what);
    return 1;
}

static void make(unsigned i) {
    struct heap_request request = {.n_pages = rng_range(&rng, 1, (size_t)1 << rng_range(&rng, 0, 8)),
                                   .align_pages = 1};
    if (rng_next(&rng) % 8 == 0) request.headroom_pages = request.n_pages;
    if (rng_next(&rng) % 8 == 0) request.fresh_huge = true;
    struct extent *e = heap_alloc(&heap, &request);
    if (!e) return;
    extent_set_state(e, EXTENT_LIVE);
    e->flags &= (uint16_t)~EXTENT_ZERO;
    blocks[i].extent = e;
    blocks[i].tag = rng_next(&rng);
    memset(e->address, 0x5a, extent_active_bytes(e));
    pattern_fill(e->address, extent_active_bytes(e), blocks[i].tag);
}

/* To the heap, into some cache, or to the stack that waits for the lock; or to a thread that was about to
 * hand it out. */
static void unmake(unsigned i, bool at_the_end) {
    struct extent *e = blocks[i].extent;
    blocks[i].extent = NULL;
    extent_set_state(e, EXTENT_CACHED);
    unsigned dice = (unsigned)rng_range(&rng, 0, 9);
    if (!at_the_end || dice < 5)
        heap_free(&heap, e);
    else if (dice == 5)
        heap_bins_defer(&heap, e);
    else if (dice == 6)
        extent_set_state(e, EXTENT_BUSY);
}

/* All kinds of extents, the last ones on no list. */
static void make_heap(bool open) {
    memset(&heap, 0, sizeof heap);
    memset(blocks, 0, sizeof blocks);
    cr_assert_eq(heap_init(&heap, SPAN, !open), 0);
    for (int i = 0; i < 1500; i++) {
        unsigned k = (unsigned)rng_range(&rng, 0, N_BLOCKS - 1);
        if (blocks[k].extent)
            unmake(k, false);
        else
            make(k);
        if (i % 100 == 50) heap_mark(&heap, rng_range(&rng, 0, heap.dirty_bytes), os_clock_ms());
        if (i % 200 == 150) heap_trim(&heap, rng_range(&rng, 0, heap.dirty_bytes));
        if (open && i % 300 == 250) heap_release(&heap, rng_range(&rng, 0, 4 * MIB));
    }
    for (unsigned i = 0; i < N_BLOCKS; i += 3)
        if (blocks[i].extent) unmake(i, true);
    /* And idle ones that somebody has taken off the heap, to purge or to unmap them, or to hand them out. */
    struct bins *kinds[] = {&heap.dirty, &heap.clean, &heap.holes};
    for (int i = 0; i < 6; i++)
        heap_bins_take(&heap, kinds[i % 3], rng_range(&rng, 1, 50));
    live_bytes = 0;
    for (unsigned i = 0; i < N_BLOCKS; i++)
        if (blocks[i].extent) live_bytes += extent_active_bytes(blocks[i].extent);
}

static bool contents_are_intact(void) {
    for (unsigned i = 0; i < N_BLOCKS; i++) {
        struct extent *e = blocks[i].extent;
        if (!e) continue;
        size_t n = extent_active_bytes(e);
        if (space_lookup(&heap.space, e->address) != e || extent_state(e) != EXTENT_LIVE) return false;
        if (pattern_check(e->address, n, blocks[i].tag) != n) return false;
    }
    return true;
}

/* All that is idle can be had again, once, and reads as zero. */
static int take_everything(void) {
    for (size_t n_pages = 1024; n_pages; n_pages /= 2)
        for (int i = 0; i < 400; i++) {
            struct extent *e = take(n_pages);
            if (!e) break;
            size_t n = extent_bytes(e);
            if (!(e->flags & EXTENT_ZERO)) return wrong("memory that is not clean was idle");
            if (first_nonzero(e->address, n) != n) return wrong("clean memory does not read as zero");
            memset(e->address, 0xee, n);
            if (heap.frontier - heap.space.base > SPAN - 8 * MIB) break;
        }
    return contents_are_intact() ? 0 : wrong("live blocks were handed out again");
}

static int rebuilt(void *ignored) {
    heap_rebuild(&heap);
    const char *broken = heap_check(&heap);
    if (broken) return wrong(broken);
    if (!contents_are_intact()) return wrong("a live block was lost");
    if (heap.active_bytes != live_bytes) return wrong("active bytes are not those of the live blocks");
    if (heap.dirty_bytes || heap.muzzy_bytes) return wrong("something idle is resident");
    if (heap.unproven_bytes || heap.cached_bytes)
        return wrong("what the parent did not know is still counted");
    int error = take_everything();
    if (error) return error;
    for (unsigned i = 0; i < N_BLOCKS; i++)
        if (blocks[i].extent) heap_free(&heap, blocks[i].extent);
    if ((broken = heap_check(&heap))) return wrong(broken);
    return 0;
}

static void in_children(bool open, bool locked) {
    for (int i = 0; i < N_ROUNDS; i++) {
        rng = (uint64_t)i * 4 + 2 * (uint64_t)open + locked;
        snprintf(where, sizeof where, "%s, lock %s, round %d", open ? "open" : "reserved",
                 locked ? "held" : "free", i);
        make_heap(open);
        if (locked) cr_assert(lock_acquire(&heap.lock));
        struct child_result child = run_child(rebuilt, NULL);
        cr_assert(child.exit_status == 0, "status %d, signal %d, %s", child.exit_status, child.signal,
                  child.text);
        cr_assert(contents_are_intact(), "%s: the parent's blocks changed", where);
        space_destroy(&heap.space);
    }
}

TestSuite(heap_rebuild, .timeout = 120);

Test(heap_rebuild, of_an_open_space) {
    in_children(true, false);
}
Test(heap_rebuild, of_an_open_space_whose_lock_is_held) {
    in_children(true, true);
}
Test(heap_rebuild, of_a_reserved_space) {
    in_children(false, false);
}
Test(heap_rebuild, of_a_reserved_space_whose_lock_is_held) {
    in_children(false, true);
}

/* --- what the parent was in the middle of --- */

static struct extent *last_live;

static int nothing_beyond(void *ignored) {
    uintptr_t end = (uintptr_t)extent_end(last_live);
    heap_rebuild(&heap);
    const char *broken = heap_check(&heap);
    if (broken) return wrong(broken);
    /* Served from known memory, or beyond what was claimed. */
    for (int i = 0; i < 20; i++) {
        struct extent *e = take(100);
        if (!e) return wrong("refused");
        memset(e->address, 1, extent_bytes(e));
        if (!space_owns(&heap.space, e->address)) return wrong("the pool does not know its own block");
    }
    (void)end;
    return 0;
}

static int takes_beyond_the_map(void *ignored) {
    (void)ignored;
    heap_rebuild(&heap);
    const char *broken = heap_check(&heap);
    if (broken) return wrong(broken);
    return take(PAGES(100 * MIB)) ? 0 : wrong("the page map does not grow any more");
}

/* Whether the kernel had mapped it yet is not known in the child. */
/* Whoever was filing an extent when the process was forked has written the head of its bin, not the bit. */
Test(heap_rebuild, a_bin_whose_bit_was_not_written_yet_is_empty) {
    memset(&heap, 0, sizeof heap);
    cr_assert_eq(heap_init(&heap, SPAN, true), 0);
    struct heap_request request = {.n_pages = 40, .align_pages = 1};
    struct extent *e = heap_alloc(&heap, &request);
    cr_assert(e);
    e->flags &= (uint16_t)~EXTENT_ZERO;
    extent_set_state(e, EXTENT_CACHED);
    heap_free(&heap, e);
    unsigned cls = 0;
    while (!heap.dirty.head[cls])
        cr_assert_lt(++cls, N_CLASSES);
    heap.dirty.nonempty[cls / 64] &= ~((uint64_t)1 << (cls % 64));
    heap_rebuild(&heap);
    struct bins *bins[] = {&heap.dirty, &heap.clean, &heap.holes};
    for (int i = 0; i < 3; i++)
        for (cls = 0; cls < N_CLASSES; cls++)
            cr_assert_eq(bins[i]->head[cls] != NULL, bins[i]->nonempty[cls / 64] >> (cls % 64) & 1,
                         "bins %d, class %u", i, cls);
    cr_assert_null(heap_check(&heap), "%s", heap_check(&heap));
    space_destroy(&heap.space);
}

Test(heap_rebuild, a_part_of_the_page_map_that_was_being_mapped_is_mapped_anew) {
    for (int kind = 0; kind < 4; kind++) {
        bool open = kind & 1, mapped = kind & 2;
        memset(&heap, 0, sizeof heap);
        cr_assert_eq(heap_init(&heap, SPAN, !open), 0);
        struct space *space = &heap.space;
        cr_assert(space_reach_begins(space, 80 * MIB));
        char *start = (char *)space->page_map - space->map_lead_bytes;
        if (mapped)
            cr_assert_eq(
                space_map(space, start + space->map_bytes, space->map_growing_bytes - space->map_bytes), 0);
        struct child_result child = run_child(takes_beyond_the_map, NULL);
        cr_assert_eq(child.exit_status, 0, "kind %d: signal %d, %s", kind, child.signal, child.text);
        space_forget_reach(space);
        space_destroy(space);
    }
}

Test(heap_rebuild, a_step_that_was_being_mapped_belongs_to_nobody) {
    for (int open = 0; open < 2; open++) {
        memset(&heap, 0, sizeof heap);
        cr_assert_eq(heap_init(&heap, SPAN, !open), 0);
        last_live = take_dirty(100);
        heap_free(&heap, take_dirty(50));
        cr_assert(heap.clean_bytes > 0, "it lies below the claim");
        /* As claim() leaves it while it maps: no mapping, no descriptor in the map. */
        cr_assert_eq(space_reach(&heap.space, heap.frontier + 4 * MIB - heap.space.base), 0);
        heap.frontier += 4 * MIB;
        struct child_result child = run_child(nothing_beyond, NULL);
        cr_assert_eq(child.exit_status, 0, "open %d: signal %d, %s", open, child.signal, child.text);
        heap.frontier -= 4 * MIB;
        space_destroy(&heap.space);
    }
}

static int free_it_and_look(void *argument) {
    struct extent *e = argument;
    char *start = e->address;
    size_t n = extent_bytes(e);
    heap_rebuild(&heap);
    if (first_nonzero(start, 100 * PAGE_BYTES) != 0) return wrong("contents of the block are gone");
    heap_free(&heap, e);
    if (heap_check(&heap)) return wrong("broken");
    for (struct extent *again; (again = take(10)) && (char *)again->address < start + n;)
        if (again->flags & EXTENT_ZERO && first_nonzero(again->address, 10 * PAGE_BYTES) != 10 * PAGE_BYTES)
            return wrong("passed for zero");
    return 0;
}

Test(heap_rebuild, what_a_block_was_growing_over_does_not_pass_for_zero) {
    set_up();
    struct extent *e = take_dirty(100), *next = take_dirty(100);
    take_dirty(1);
    heap_free(&heap, next);
    cr_assert(lock_acquire(&heap.lock));
    next = heap_bins_take(&heap, &heap.dirty, 100);
    heap_bins_join(&heap, e, next); /* and what it may use is not written yet */
    cr_assert_eq(e->used_pages, 100);
    struct child_result child = run_child(free_it_and_look, e);
    cr_assert_eq(child.exit_status, 0, "signal %d, %s", child.signal, child.text);
    space_destroy(&heap.space);
}

static int count(void *ignored) {
    heap_rebuild(&heap);
    if (heap.counters.n_moved_vmas != 0 || heap.counters.bytes_pinned != 0)
        return wrong("counts of what is not here");
    return 0;
}

Test(heap_rebuild, moved_and_locked_memory_of_the_parent_is_not_counted) {
    set_up();
    struct extent *e = take_dirty(100);
    e->flags |= EXTENT_MOVED | EXTENT_PINNED;
    heap.counters.n_moved_vmas = 1;
    heap.counters.bytes_pinned = 100 * PAGE_BYTES;
    heap_free(&heap, e);
    struct child_result child = run_child(count, NULL);
    cr_assert_eq(child.exit_status, 0, "signal %d, %s", child.signal, child.text);
    space_destroy(&heap.space);
}

/* --- a whole pool --- */

static struct pool pool;
static sem_t inside, leave;

/* Blocks in its cache, and it stays inside. */
static void *busy_main(void *ignored) {
    fixture_get_and_put(&pool, 20, 40 * KIB);
    fixture_put(&pool, fixture_get(&pool, 8 * MIB));
    struct tcache *tcache = tcache_find(&pool.tcaches);
    tcache_enter(tcache);
    sem_post(&inside);
    sem_wait(&leave);
    tcache_leave(tcache);
    return NULL;
}

static int uses_everything(void *held) {
    size_t n = extent_active_bytes(fixture_extent(&pool, held));
    for (int i = 0; i < 200; i++) {
        size_t n_bytes = (size_t)(i % 40 + 1) * 20 * KIB;
        char *p = fixture_get(&pool, n_bytes);
        if (!p) return wrong("refused");
        memset(p, 1, n_bytes);
        fixture_put(&pool, p);
        if (i == 0 && pool.heap.dirty_bytes + account_cached_bytes(&pool, NULL) > MIB)
            return wrong("something of the parent's is idle here");
    }
    if (pattern_check(held, n, 99) != n) return wrong("a live block was lost");
    fixture_put(&pool, held);
    if (pool_check(&pool)) return wrong(pool_check(&pool));
    pool_trim(&pool, 0);
    if (pool.heap.active_bytes) return wrong("bytes that nobody holds");
    pool_finish(&pool); /* waits for nobody */
    return 0;
}

Test(heap_rebuild, of_a_pool_with_locks_held_and_caches_busy) {
    struct pool_setup setup = fixture_setup();
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    cr_assert(helper_add_pool(&pool));
    sem_init(&inside, 0, 0);
    sem_init(&leave, 0, 0);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, busy_main, NULL), 0);
    sem_wait(&inside);
    fixture_get_and_put(&pool, 64, 60 * KIB); /* shards hold some as well */
    void *held = fixture_get(&pool, 3 * MIB);
    pattern_fill(held, 3 * MIB, 99);
    for (int locked = 0; locked < 4; locked++) {
        if (locked & 1) cr_assert(lock_acquire(&pool.shards.shard[0].lock));
        if (locked & 2) cr_assert(lock_acquire(&pool.heap.lock));
        struct child_result child = run_child(uses_everything, held);
        cr_assert_eq(child.exit_status, 0, "locks %d: signal %d, %s", locked, child.signal, child.text);
        if (locked & 1) lock_release(&pool.shards.shard[0].lock);
        if (locked & 2) lock_release(&pool.heap.lock);
    }
    sem_post(&leave);
    pthread_join(thread, NULL);
    cr_assert_eq(pattern_check(held, 3 * MIB, 99), 3 * MIB);
    cr_assert_null(pool_check(&pool));
    helper_remove_pool(&pool);
}
