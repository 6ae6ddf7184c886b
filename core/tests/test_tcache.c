/* SPDX-License-Identifier: MIT */
/* test_tcache.c: the thread cache: its limits and its slots. test_tcache_threads.c has what other threads do
 * to it. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "os/os.h"
#include "learn/recycle.h"
#include "pool/account.h"
#include "observe/stats.h"
#include "pool/zero.h"
#include "pool_fixture.h"
#include "support.h"

static struct pool pool;

static void set_up(void) {
    struct pool_setup setup = fixture_setup();
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    fixture_pin(0);
}
static void tear_down(void) {
    const char *broken = pool_check(&pool);
    cr_expect_null(broken, "%s", broken);
    pool_finish(&pool);
}
TestSuite(tcache, .init = set_up, .fini = tear_down, .timeout = 60);

static unsigned cached(unsigned cls) {
    return tcache_bin_n(tcache_find(&pool.tcaches), cls);
}

Test(tcache, is_last_in_first_out_and_exact) {
    void *a = fixture_get(&pool, 40 * KIB), *b = fixture_get(&pool, 40 * KIB),
         *c = fixture_get(&pool, 40 * KIB);
    fixture_put(&pool, a);
    fixture_put(&pool, b);
    fixture_put(&pool, c);
    cr_assert_eq(fixture_get(&pool, 40 * KIB), c, "that is in the slot");
    cr_assert_eq(fixture_get(&pool, 40 * KIB), b);
    cr_assert_eq(fixture_get(&pool, 40 * KIB), a);
    fixture_put(&pool, a);
    cr_assert_neq(fixture_get(&pool, 44 * KIB), a, "another class");
    cr_assert_eq(fixture_get(&pool, 37 * KIB), a, "the same class");
}

Test(tcache, depth_is_kept) {
    fixture_get_and_put(&pool, 20, 4 * KIB);
    cr_assert_leq(cached(1), 8);
    cr_assert_gt(cached(1), 0);
    struct tcache *tcache = tcache_find(&pool.tcaches);
    cr_assert_eq(account_tcache_bytes(&pool, tcache), (cached(1) + 1) * PAGE_BYTES, "one is in the slot");
    cr_assert_eq(cached(1) + 1 + pool.shards.shard[0].n_blocks, 20, "the rest is in the shard");
}

Test(tcache, byte_limit_is_kept) {
    uint64_t rng = 5;
    for (int i = 0; i < 2000; i++) {
        fixture_get_and_put(&pool, (unsigned)rng_range(&rng, 1, 12), rng_range(&rng, 1, 256 * KIB));
        cr_assert_leq(tcache_find(&pool.tcaches)->n_pages, MIB >> PAGE_SHIFT, "the slots are not counted");
    }
    struct extent *in_slot = tcache_find(&pool.tcaches)->small.extent;
    size_t bytes = in_slot ? extent_bytes(in_slot) : 0;
    for (unsigned cls = 0; cls < TCACHE_BIG_CLASS; cls++)
        for (struct extent *e = tcache_find(&pool.tcaches)->bins[cls].head; e; e = e->next)
            bytes += extent_bytes(e);
    cr_assert_eq(bytes, account_tcache_bytes(&pool, tcache_find(&pool.tcaches)));
}

Test(tcache, the_limit_follows_threads_and_use) {
    static const struct {
        unsigned n_threads;
        size_t active_bytes, limit_bytes;
    } cases[] = {
        {1, 4 * MIB, MIB},       {4, 4 * MIB, MIB},     {8, 4 * MIB, MIB / 2}, {16, 4 * MIB, MIB / 4},
        {64, 4 * MIB, MIB / 4},  {8, 256 * MIB, MIB},   {64, GIB, MIB / 2},    {1, 160 * MIB, 2 * MIB},
        {2, 320 * MIB, 2 * MIB}, {1, 4 * GIB, 4 * MIB}, {0, 4 * MIB, MIB},
    };
    size_t before = pool.heap.active_bytes;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        atomic_store(&pool.tcaches.n, cases[i].n_threads);
        pool.heap.active_bytes = cases[i].active_bytes;
        pool.tcaches.grow = true;
        cr_assert_eq(tcache_limit_of(&pool.tcaches), cases[i].limit_bytes, "%u threads, %zu bytes",
                     cases[i].n_threads, cases[i].active_bytes);
        pool.tcaches.grow = false;
        cr_assert_eq(tcache_limit_of(&pool.tcaches), MIB, "only where nothing else was asked for");
    }
    pool.heap.active_bytes = 4 * MIB;
    pool.tcaches.grow = true;
    pool.shards.n = 32; /* threads that can all run at once */
    atomic_store(&pool.tcaches.n, 32);
    cr_assert_eq(tcache_limit_of(&pool.tcaches), MIB);
    atomic_store(&pool.tcaches.n, 64);
    cr_assert_eq(tcache_limit_of(&pool.tcaches), MIB / 2);
    pool.shards.n = 2;
    pool.heap.active_bytes = before;
    atomic_store(&pool.tcaches.n, 0);
}

static void *put_much(void *unused) {
    (void)unused;
    fixture_get_and_put(&pool, 6, 128 * KIB);
    return (void *)((size_t)tcache_find(&pool.tcaches)->n_pages << PAGE_SHIFT);
}

Test(tcache, a_thread_that_comes_to_many_keeps_less) {
    pool.tcaches.grow = true;
    atomic_store(&pool.tcaches.n, 15);
    pthread_t thread;
    void *kept;
    cr_assert_eq(pthread_create(&thread, NULL, put_much, NULL), 0);
    pthread_join(thread, &kept);
    cr_assert_gt((size_t)kept, 0);
    cr_assert_leq((size_t)kept, MIB / 4);
    atomic_store(&pool.tcaches.n, 0);
}

Test(tcache, one_big_block_stays_at_every_size) {
    /* The first put of a block goes the long way round (it is fresh); from then on the slot serves it. */
    for (size_t n = 300 * KIB; n <= 256 * MIB; n *= 3) {
        fixture_trust(&pool, n); /* or the largest go through the heap, to be watched */
        fixture_get_and_put(&pool, 1, n);
        fixture_get_and_put(&pool, 1, n);
        void *p = fixture_get(&pool, n);
        fixture_put(&pool, p);
        cr_assert_eq(tcache_find(&pool.tcaches)->big.extent, fixture_extent(&pool, p), "%zu bytes", n);
        cr_assert_eq(fixture_get(&pool, n), p);
        cr_assert_null(tcache_find(&pool.tcaches)->big.extent);
        fixture_put(&pool, p);
    }
}

/* Whoever gets it next may touch little of it, and nobody would notice. */
Test(tcache, a_warm_block_of_an_unknown_habit_does_not_stay_in_the_slot) {
    size_t n = 20 * MIB;
    for (int i = 0; i < 2; i++) {
        void *p = fixture_get(&pool, n);
        struct extent *extent = fixture_extent(&pool, p);
        heap_prove(&pool.heap, extent);
        fixture_put(&pool, p);
        cr_assert_eq(tcache_find(&pool.tcaches)->big.extent, i ? extent : NULL);
        fixture_trust(&pool, n);
    }
}

/* A block that has a bin serves what has the same bin, another what is up to 1/16 smaller and has none. */
Test(tcache, a_slot_serves_the_sizes_that_its_block_is_good_for) {
    struct tcache *tcache = tcache_get(&pool.tcaches);
    for (size_t n_pages = 1; n_pages <= 1200; n_pages += 1 + n_pages / 97) {
        void *p;
        for (int i = 0; i < 2; i++) { /* the first time it is fresh and goes the long way */
            p = fixture_get(&pool, n_pages * PAGE_BYTES);
            fixture_put(&pool, p);
        }
        struct extent *extent = fixture_extent(&pool, p);
        bool big = tcache_is_big(extent);
        struct tcache_slot *slot = big ? &tcache->big : &tcache->small;
        cr_assert_eq(slot->extent, extent, "%zu pages", n_pages);
        size_t from = extent->n_pages - extent->n_pages / 8 - 2;
        for (size_t n = from > 3 ? from : 1; n <= extent->n_pages + 2u; n++) {
            bool serves = big ? n > TCACHE_BIN_PAGES && n <= extent->n_pages && extent->n_pages - n <= n / 16
                              : n <= TCACHE_BIN_PAGES && class_of_pages(n) == extent->cls;
            cr_assert_eq(tcache_slot_fits(slot, n * PAGE_BYTES), serves, "%u pages for %zu", extent->n_pages,
                         n);
            cr_assert_eq(tcache_slot_fits(slot, (n - 1) * PAGE_BYTES + 1), serves, "%u pages for %zu",
                         extent->n_pages, n);
        }
        cr_assert_not(tcache_slot_fits(slot, 0) || tcache_slot_fits(slot, SIZE_MAX));
    }
}

Test(tcache, a_second_big_block_goes_to_the_heap) {
    fixture_get_and_put(&pool, 2, MIB);
    fixture_get_and_put(&pool, 2, MIB);
    cr_assert(tcache_find(&pool.tcaches)->big.extent);
    cr_assert_eq(pool.heap.dirty_bytes, MIB);
}

Test(tcache, a_thread_that_only_frees_big_blocks_keeps_none) {
    void *blocks[8];
    for (int i = 0; i < 8; i++)
        blocks[i] = fixture_get(&pool, MIB + (size_t)i * 64 * KIB);
    for (int i = 0; i < 8; i++)
        fixture_put(&pool, blocks[i]);
    struct tcache *tcache = tcache_find(&pool.tcaches);
    cr_assert_null(tcache->big.extent, "it would be missed by the thread that allocates");
    cr_assert_gt(pool.heap.dirty_bytes, 8 * MIB);
    void *p = fixture_get(&pool, MIB);
    fixture_put(&pool, p);
    for (int i = 0; i < 8; i++)
        blocks[i] = fixture_get(&pool, MIB + (size_t)i * 64 * KIB);
    for (int i = 0; i < 8; i++) {
        fixture_put(&pool, blocks[i]);
        fixture_get_and_put(&pool, 20, 4 * KIB);
    }
    cr_assert_null(tcache->big.extent, "small blocks in between change nothing");
    p = fixture_get(&pool, MIB);
    fixture_put(&pool, p);
    cr_assert_eq(tcache->big.extent, fixture_extent(&pool, p), "once it asks for one, it may keep one");
}

Test(tcache, blocks_taken_from_the_slot_in_between_are_no_reason_to_hand_over) {
    for (int i = 0; i < 8; i++) {
        void *first = fixture_get(&pool, MIB), *second = fixture_get(&pool, MIB);
        fixture_put(&pool, first);
        fixture_put(&pool, second);
        cr_assert_eq(tcache_find(&pool.tcaches)->big.extent, fixture_extent(&pool, second));
    }
}

Test(tcache, depth_zero_means_no_cache) {
    pool.tcaches.depth = 0;
    fixture_get_and_put(&pool, 3, 4 * KIB);
    fixture_get_and_put(&pool, 1, MIB);
    cr_assert_null(tcache_find(&pool.tcaches));
}

/* Where nothing but the default was asked for; and something has been taken from the heap. */
static void allow_near_fit(void) {
    pool.tcaches.grow = true;
    fixture_get_and_put(&pool, 1, 256 * KIB);
}

Test(tcache, the_nearest_larger_block_serves_when_the_stack_is_empty) {
    allow_near_fit();
    struct tcache *tcache = tcache_find(&pool.tcaches);
    void *a = fixture_get(&pool, 40 * KIB), *b = fixture_get(&pool, 44 * KIB),
         *c = fixture_get(&pool, 48 * KIB);
    fixture_put(&pool, a);
    fixture_put(&pool, b);
    fixture_put(&pool, c);
    uint64_t n_slow_gets = tcache->n_slow_gets, n_hits = tcache_hits(tcache, 9);
    cr_assert_eq(fixture_get(&pool, 36 * KIB), a);
    cr_assert_eq(fixture_get(&pool, 36 * KIB), b);
    cr_assert_eq(cached(10) + cached(11), 0);
    cr_assert_eq(tcache_hits(tcache, 9), n_hits + 2, "hits count for the class asked for");
    cr_assert_eq(tcache->n_slow_gets, n_slow_gets);
    cr_assert_eq(fixture_extent(&pool, b)->used_pages, 11, "the program may use all of it");
    cr_assert_neq(fixture_get(&pool, 36 * KIB), c, "more than 1/4 larger");
    cr_assert_neq(fixture_get(&pool, 52 * KIB), c, "smaller");
    cr_assert_eq(fixture_get(&pool, 40 * KIB), c, "that is in the slot");
    cr_assert_null(tcache->small.extent);
    fixture_put(&pool, b);
    cr_assert_eq(fixture_get(&pool, 44 * KIB), b, "it is of the class it was");
}

Test(tcache, blocks_that_must_be_cleared_and_those_of_other_pools_are_of_the_class_asked_for) {
    allow_near_fit();
    fixture_get_and_put(&pool, 1, 44 * KIB);
    cr_assert_eq(fixture_extent(&pool, zero_get(&pool, tcache_find(&pool.tcaches), 10))->n_pages, 10);
    pool.tcaches.grow = false;
    tcache_find(&pool.tcaches)->near_share = 0;
    fixture_get_and_put(&pool, 1, 200 * KIB); /* out of the heap */
    fixture_get_and_put(&pool, 1, 44 * KIB);
    cr_assert_eq(fixture_extent(&pool, fixture_get(&pool, 40 * KIB))->n_pages, 10);
}

/* Each block that is returned serves one that is 1/6 smaller and stays. */
Test(tcache, what_near_fit_adds_is_less_than_what_caches_may_keep) {
    allow_near_fit();
    size_t added_pages = 0;
    for (int i = 0; i < 2000; i++) {
        fixture_put(&pool, fixture_get(&pool, 48 * KIB));
        added_pages += fixture_extent(&pool, fixture_get(&pool, 40 * KIB))->n_pages - 10;
    }
    cr_assert_gt(added_pages, 0);
    cr_assert_leq(added_pages, MIB >> PAGE_SHIFT);
}

static unsigned caches_made(void) {
    unsigned n = 0;
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered)
        n++;
    return n;
}

/* By the pool's number; a new pool with the number of one that is gone takes over its cache. */
Test(tcache, a_thread_finds_its_cache_for_each_of_many_pools) {
    enum { N = 300 };
    static struct pool pools[N];
    struct tcache *caches[N];
    struct pool_setup setup = fixture_setup();
    setup.span_max = 64 * MIB;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            memset(&pools[i], 0, sizeof pools[i]);
            cr_assert_eq(fixture_init(&pools[i], &setup), 0);
            cr_assert(helper_add_pool(&pools[i]));
            cr_assert_null(tcache_find(&pools[i].tcaches));
            fixture_get_and_put(&pools[i], 2, 4 * KIB);
        }
        cr_assert(tcache_tls.by_number);
        for (int i = 0; i < N; i++) {
            cr_assert(caches[i] = tcache_find(&pools[i].tcaches));
            cr_assert_eq(caches[i]->caches, &pools[i].tcaches);
            cr_assert_eq(tcache_tls.by_number[pools[i].tcaches.number], caches[i]);
        }
        cr_assert_eq(helper_count_pools(), N);
        for (int i = 0; i < N; i++) {
            helper_remove_pool(&pools[i]);
            pool_finish(&pools[i]);
            cr_assert_null(tcache_find(&pools[i].tcaches));
        }
    }
    cr_assert_eq(caches_made(), N);
}

Test(tcache, owner_and_reclaimer_exclude_each_other) {
    fixture_get_and_put(&pool, 4, 4 * KIB);
    struct tcache *tcache = tcache_find(&pool.tcaches);
    cr_assert(tcache_enter(tcache));
    cr_assert_not(tcache_enter(tcache), "a signal handler goes round a cache in use");
    tcache_leave(tcache);
    atomic_store(&tcache->claim, TCACHE_CLAIMED);
    cr_assert_not(tcache_enter(tcache), "claimed");
    cr_assert_eq(atomic_load(&tcache->busy), 0, "the owner backs off");
    void *p = fixture_get(&pool, 4 * KIB);
    cr_assert(p, "a claimed cache sends the owner the slow way, it does not fail");
    fixture_put(&pool, p);
    atomic_store(&tcache->claim, 0);
    cr_assert(tcache_enter(tcache));
    tcache_leave(tcache);
}

Test(tcache, a_busy_cache_is_bypassed_by_handlers_without_loss) {
    fixture_get_and_put(&pool, 4, 4 * KIB);
    size_t active = pool.heap.active_bytes;
    struct tcache *tcache = tcache_find(&pool.tcaches);
    cr_assert(tcache_enter(tcache)); /* the thread is interrupted here */
    void *p[10];
    for (int i = 0; i < 10; i++)
        cr_assert(p[i] = fixture_get(&pool, 4 * KIB));
    for (int i = 0; i < 10; i++)
        fixture_put(&pool, p[i]);
    cr_assert_eq(tcache_bin_n(tcache, 1), 3, "the lists of the interrupted thread are untouched");
    tcache_leave(tcache);
    pool_trim(&pool, 0);
    cr_assert_eq(pool.heap.active_bytes, 0);
    (void)active;
}

Test(tcache, inside_a_slow_path_gets_are_refused_and_puts_deferred) {
    void *small = fixture_get(&pool, 4 * KIB), *big = fixture_get(&pool, MIB);
    tcache_tls.entered = IN_SLOW_PATH; /* a handler that interrupts a slow path, which may hold any lock */
    cr_assert(lock_try(&pool.heap.lock));
    cr_assert_null(fixture_get(&pool, 8 * KIB));
    fixture_put(&pool, small);
    fixture_put(&pool, big);
    cr_assert_eq(pool_trim(&pool, 0), 0);
    lock_release(&pool.heap.lock);
    tcache_tls.entered = 0;
    pool_trim(&pool, 0);
    cr_assert_eq(pool.heap.active_bytes, 0, "deferred blocks come home");
}

/* Sizes between the largest with a bin and the next class: their blocks are of the class below. */
Test(tcache, every_size_is_served_again_at_once) {
    for (size_t n_pages = 1; n_pages <= 600; n_pages++) {
        void *p = fixture_get(&pool, n_pages << PAGE_SHIFT);
        fixture_put(&pool, p);
        uint64_t n_slow_gets = tcache_find(&pool.tcaches)->n_slow_gets;
        void *q = fixture_get(&pool, n_pages << PAGE_SHIFT);
        cr_expect_eq(tcache_find(&pool.tcaches)->n_slow_gets, n_slow_gets, "%zu pages", n_pages);
        cr_expect_eq(q, p, "%zu pages", n_pages);
        fixture_put(&pool, q);
    }
}

/* The pair of calls lives in the slot; what its stacks hold must follow a limit that falls all the same. */
Test(tcache, a_lowered_limit_reaches_a_thread_that_lives_in_the_slot) {
    fixture_get_and_put(&pool, 8, 64 * KIB);
    fixture_get_and_put(&pool, 8, 60 * KIB);
    struct tcache *tcache = tcache_find(&pool.tcaches);
    cr_assert_gt(tcache->n_pages, 512 * KIB >> PAGE_SHIFT);
    void *p = fixture_get(&pool, 60 * KIB);
    pool.tcaches.limit_bytes = 256 * KIB;
    tcache_disturb(&pool.tcaches);
    fixture_put(&pool, p);
    cr_assert_leq(tcache->n_pages, 256 * KIB >> PAGE_SHIFT);
}

/* Although the block that is put is larger than all that may be kept now. */
Test(tcache, a_cache_that_may_not_keep_watched_blocks_gives_up_those_it_has) {
    fixture_get_and_put(&pool, 8, 128 * KIB);
    struct tcache *tcache = tcache_find(&pool.tcaches);
    cr_assert_gt(tcache->n_pages, 4 * (128 * KIB >> PAGE_SHIFT));
    void *p = fixture_get(&pool, 160 * KIB);
    recycle_watch(&pool.recycle);
    fixture_put(&pool, p);
    cr_assert_lt(tcache->n_pages, 128 * KIB >> PAGE_SHIFT);
    cr_assert_null(tcache->small.extent);
}

/* A block whose stack is full gives up the slot for a block of another class. */
Test(tcache, the_slot_holds_the_block_returned_last) {
    fixture_get_and_put(&pool, 9, 4 * KIB); /* the depth, and the slot */
    struct tcache *tcache = tcache_find(&pool.tcaches);
    cr_assert_eq(cached(1), 8);
    cr_assert_eq(tcache->small.extent->n_pages, 1);
    for (int i = 0; i < 2; i++)
        fixture_get_and_put(&pool, 1, 8 * KIB);
    cr_assert_eq(tcache->small.extent->n_pages, 2);
    /* Nor does one stay that the limit has no room for any more. */
    fixture_get_and_put(&pool, 1, 256 * KIB);
    cr_assert_eq(tcache->small.extent->n_pages, 64);
    pool.tcaches.limit_bytes = 64 * KIB;
    tcache_disturb(&pool.tcaches);
    fixture_get_and_put(&pool, 1, 8 * KIB);
    cr_assert_eq(tcache->small.extent->n_pages, 2);
    cr_assert_leq(tcache->n_pages, 64 * KIB >> PAGE_SHIFT);
}
