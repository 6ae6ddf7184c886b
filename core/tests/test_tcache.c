/* SPDX-License-Identifier: MIT */
/* test_tcache.c: the thread cache: its limits, how it is found, and who may enter it. test_tcache_slots.c has
 * which block it hands out, test_tcache_threads.c what other threads do to it. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "learn/recycle.h"
#include "pool/account.h"
#include "support.h"
#include "tcache_fixture.h"

TestSuite(tcache, .init = set_up, .fini = tear_down, .timeout = 60);

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

Test(tcache, depth_zero_means_no_cache) {
    pool.tcaches.depth = 0;
    fixture_get_and_put(&pool, 3, 4 * KIB);
    fixture_get_and_put(&pool, 1, MIB);
    cr_assert_null(tcache_find(&pool.tcaches));
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
