/* SPDX-License-Identifier: MIT */
/* test_stats.c: requests by size and level, what exited threads leave, and what a forked child begins
 * with. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "observe/stats.h"
#include "pool/zero.h"
#include "pool_fixture.h"
#include "zeropool.h"

static struct pool pool;
static struct stats_size sizes[HEAP_SIZES];

static void set_up(void) {
    struct pool_setup setup = fixture_setup();
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
}
static void tear_down(void) {
    pool_finish(&pool);
}
TestSuite(stats, .init = set_up, .fini = tear_down, .timeout = 60);

static uint64_t served(unsigned i) {
    return sizes[i].n_tcache + sizes[i].n_shard + sizes[i].n_dirty + sizes[i].n_mixed + sizes[i].n_fresh;
}

static uint64_t served_in_all(void) {
    uint64_t n = 0;
    for (unsigned i = 0; i < HEAP_SIZES; i++)
        n += served(i);
    return n;
}

Test(stats, a_request_counts_at_the_level_that_served_it) {
    fixture_put(&pool, fixture_get(&pool, 64 * KIB)); /* fresh */
    fixture_put(&pool, fixture_get(&pool, 64 * KIB)); /* thread cache */
    fixture_put(&pool, fixture_get(&pool, 64 * KIB));
    pool_stats_by_size(&pool, sizes);
    cr_assert_eq(served(4), 3); /* 16 pages */
    cr_assert_eq(sizes[4].n_fresh, 1);
    cr_assert_eq(sizes[4].n_tcache, 2);
    cr_assert_eq(sizes[4].bytes_fresh, 64 * KIB);
    cr_assert_eq(sizes[4].bytes_warm, 128 * KIB);
}

Test(stats, what_is_marked_counts_as_idle) {
    void *held[6];
    for (int i = 0; i < 6; i++)
        held[i] = fixture_get(&pool, 2 * MIB);
    for (int i = 0; i < 6; i += 2)
        fixture_put(&pool, held[i]);
    size_t n_live, n_idle, n_idle_before;
    pool_count_extents(&pool, &n_live, &n_idle_before);
    cr_assert_eq(n_live, 3);
    cr_assert_eq(n_idle_before, 3);
    pool_flush_caches(&pool);
    cr_assert_gt(heap_mark(&pool.heap, SIZE_MAX, os_clock_ms() + 1), 0);
    pool_count_extents(&pool, &n_live, &n_idle);
    cr_assert_eq(n_live, 3);
    cr_assert_eq(n_idle, n_idle_before);
}

Test(stats, sizes_add_up_to_the_totals) {
    void *held[40];
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < 40; i++)
            held[i] = fixture_get(&pool, (i + 1) * 37 * KIB);
        for (size_t i = 0; i < 40; i++)
            fixture_put(&pool, held[(i * 7) % 40]);
    }
    zp_stats stats;
    pool_stats(&pool, &stats);
    pool_stats_by_size(&pool, sizes);
    cr_assert_eq(served_in_all(), stats.n_gets - stats.n_refused);
    uint64_t fresh = 0, hits = 0;
    for (unsigned i = 0; i < HEAP_SIZES; i++) {
        fresh += sizes[i].bytes_fresh;
        hits += sizes[i].n_tcache;
    }
    cr_assert_eq(fresh, stats.bytes_fresh);
    cr_assert_eq(hits, stats.n_tcache_hits);
}

static void *use(void *ignored) {
    for (int i = 0; i < 5; i++)
        fixture_put(&pool, fixture_get(&pool, 100 * KIB));
    return ignored;
}

Test(stats, what_an_exited_thread_did_stays) {
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, use, NULL), 0);
    pthread_join(thread, NULL);
    pool_stats_by_size(&pool, sizes);
    cr_assert_eq(served_in_all(), 5);
    cr_assert_eq(sizes[4].n_tcache, 4);
}

Test(stats, a_forked_child_begins_at_nothing) {
    void *held = fixture_get(&pool, 1 * MIB);
    use(NULL);
    pool_stats_fork_child(&pool);
    zp_stats stats;
    pool_stats(&pool, &stats);
    pool_stats_by_size(&pool, sizes);
    cr_assert_eq(served_in_all(), 0);
    cr_assert_eq(stats.n_gets, 0);
    cr_assert_eq(stats.bytes_fresh, 0);
    cr_assert_geq(stats.bytes_live, 1 * MIB);
    cr_assert_geq(stats.bytes_live_peak, 1 * MIB);
    fixture_put(&pool, held);
    cr_assert_null(pool_check(&pool));
}

/* Forked while a thread that ended handed its counts over. */
Test(stats, nobody_waits_for_counts_that_never_arrive) {
    cr_assert(helper_add_pool(&pool));
    fixture_put(&pool, fixture_get(&pool, 1 * MIB));
    atomic_fetch_add(&pool.gone.n_folds_begun, 1);
    zp_stats stats;
    pool_stats(&pool, &stats);
    cr_assert_eq(stats.n_gets, 1);
    pid_t child = fork();
    if (child == 0) {
        void *held = fixture_get(&pool, 8 * MIB);
        _exit(held && pool.gone.n_folds_begun == pool.gone.n_folds_ended ? 0 : 1);
    }
    int status = -1;
    cr_assert(child > 0 && waitpid(child, &status, 0) == child);
    cr_assert_eq(status, 0);
    helper_remove_pool(&pool);
}

Test(stats, zeroed_blocks_that_were_warm_are_told_apart) {
    void *p = fixture_get(&pool, 64 * KIB);
    fixture_put(&pool, p);
    fixture_put(&pool, zero_get(&pool, tcache_find(&pool.tcaches), 16));
    pool_stats_by_size(&pool, sizes);
    cr_assert_eq(sizes[4].bytes_cleared, 64 * KIB);
    cr_assert_eq(sizes[4].bytes_emptied, 0);
    cr_assert_eq(sizes[4].bytes_warm, 64 * KIB);
}

/* A cache may have gone over to another pool since it was found to be this one's, and that pool may be gone,
 * descriptors and all. */
Test(stats, reads_no_descriptors_but_the_pools_own) {
    fixture_put(&pool, fixture_get(&pool, 16 * KIB));
    fixture_put(&pool, fixture_get(&pool, MIB));
    struct tcache *tcache = tcache_find(&pool.tcaches);
    struct extent *small = tcache->small.extent, *big = tcache->big.extent;
    zp_stats stats;
    pool_stats(&pool, &stats);
    cr_assert_eq(stats.bytes_cached, 16 * KIB + MIB);
    tcache->small.extent = (struct extent *)PAGE_BYTES;
    tcache->big.extent = pool.heap.space.extents + pool.heap.space.n_extents_max;
    pool_stats(&pool, &stats);
    cr_assert_eq(stats.bytes_cached, 0);
    tcache->small.extent = small;
    tcache->big.extent = big;
}
