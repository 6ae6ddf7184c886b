/* SPDX-License-Identifier: MIT */
/* test_account.c: what lies in caches is idle, whoever's it is, and is taken from there where it would bring
 * the sum over the budget. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>

#include "os/os.h"
#include "pool/account.h"
#include "heap/budget.h"
#include "observe/stats.h"
#include "pool/zero.h"
#include "pool_fixture.h"
#include "support.h"

static struct pool pool;

static void set_up(void) {
    struct pool_setup setup = fixture_setup();
    setup.span_max = 4 * GIB;
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    /* Sizes of this test are known to be filled: they may stay in slots, and count as used at once. */
    for (size_t n = MIB; n <= 512 * MIB; n *= 2)
        fixture_trust(&pool, n);
}
static void tear_down(void) {
    const char *broken = pool_check(&pool);
    cr_expect_null(broken, "%s", broken);
    pool_finish(&pool);
}
TestSuite(account, .init = set_up, .fini = tear_down, .timeout = 60);

/* A thread that gets, fills and puts blocks of its size when it is told to. */
struct worker {
    pthread_t thread;
    sem_t go, ready;
    size_t n_bytes;
    unsigned n_rounds; /* 0: end */
    bool ending;
};

static void *work(void *argument) {
    struct worker *w = argument;
    for (;;) {
        sem_wait(&w->go);
        if (!w->n_rounds) return NULL;
        for (unsigned i = 0; i < w->n_rounds; i++) {
            void *p = fixture_get(&pool, w->n_bytes);
            if (p) memset(p, 1, w->n_bytes), fixture_put(&pool, p);
        }
        sem_post(&w->ready);
    }
}

static void start(struct worker *w, size_t n_bytes) {
    *w = (struct worker){.n_bytes = n_bytes};
    sem_init(&w->go, 0, 0);
    sem_init(&w->ready, 0, 0);
    cr_assert_eq(pthread_create(&w->thread, NULL, work, w), 0);
}

static void take_turn(struct worker *w, unsigned n_rounds) {
    w->n_rounds = n_rounds;
    sem_post(&w->go);
    sem_wait(&w->ready);
}

static void end(struct worker *w) {
    w->n_rounds = 0;
    sem_post(&w->go);
    pthread_join(w->thread, NULL);
}

static size_t live_and_idle(void) {
    return pool.heap.active_bytes + pool.heap.dirty_bytes;
}

/* What the budget allows with such a peak, and what the peak may have risen unseen. */
static size_t allowed(size_t peak) {
    return peak + max_size(BUDGET_SLOP_BYTES, peak >> BUDGET_SLOP_SHIFT) + peak / 32 * 7 + BUDGET_FLOOR_BYTES;
}

static void need_membarrier(void) {
    tcache_reclaim(&pool.tcaches, RECLAIM_ALL);
    if (!tcache_can_reclaim()) cr_skip_test("no membarrier here");
}

Test(account, counts_what_others_have_in_their_caches) {
    struct worker w;
    start(&w, 16 * MIB);
    size_t before = account_cached_bytes(&pool, NULL);
    take_turn(&w, 1);
    cr_assert_eq(account_cached_bytes(&pool, NULL) - before, 16 * MIB);
    account_settle(&pool, 0, true);
    cr_assert_eq(pool.heap.active_bytes, 16 * MIB);
    cr_assert_eq(budget_live(&pool.heap), 0, "nothing of it is live");
    end(&w);
}

Test(account, untouched_pages_in_a_slot_are_not_taken_off_twice) {
    void *held = fixture_get(&pool, 40 * MIB);
    fill_learn(fill_of(&pool.learned, pages_of(16 * MIB)), false);
    void *p = fixture_get(&pool, 16 * MIB); /* nothing is known of those */
    cr_assert_eq(fixture_extent(&pool, p)->unproven_pages, pages_of(16 * MIB));
    fixture_put(&pool, p);
    size_t unproven;
    size_t cached = account_cached_bytes(&pool, &unproven);
    cr_assert_eq(cached, 16 * MIB);
    cr_assert_eq(unproven, 16 * MIB);
    account_settle(&pool, 0, true);
    cr_assert_eq(budget_live(&pool.heap), 40 * MIB);
    (void)held;
}

Test(account, the_slot_of_a_thread_that_sleeps_serves_others) {
    need_membarrier();
    struct worker w;
    start(&w, 64 * MIB);
    take_turn(&w, 2);
    tcache_reclaim(&pool.tcaches, RECLAIM_IDLE); /* somebody has looked; it sleeps since */
    uintptr_t frontier = pool.heap.frontier;
    pool.last_reclaim_ms = os_clock_ms(); /* this is not what looks into other caches */
    void *p = fixture_get(&pool, 64 * MIB);
    cr_assert(p);
    cr_assert_not(account_slots_closed(&pool), "nobody's work was disturbed");
    cr_assert_eq(pool.heap.frontier, frontier, "no untouched memory was taken");
    cr_assert_leq(live_and_idle(), allowed(64 * MIB));
    fixture_put(&pool, p);
    end(&w);
}

Test(account, threads_that_take_turns_hold_no_more_than_one_of_them) {
    need_membarrier();
    enum { N = 12 };
    static struct worker w[N];
    size_t most = 0;
    for (int i = 0; i < N; i++)
        start(&w[i], 32 * MIB);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < N; i++) {
            take_turn(&w[i], 1 + (unsigned)round);
            most = max_size(most, live_and_idle());
        }
    cr_assert_leq(most, allowed(32 * MIB), "%zu MiB", most >> 20);
    for (int i = 0; i < N; i++)
        end(&w[i]);
}

/* With other sizes each time, so that slots do not simply pass on. */
Test(account, threads_that_take_turns_with_growing_blocks_are_bounded_by_the_peak) {
    need_membarrier();
    enum { N = 10 };
    static struct worker w[N];
    for (int i = 0; i < N; i++)
        start(&w[i], (size_t)(i + 4) * 4 * MIB);
    for (int i = 0; i < N; i++) {
        take_turn(&w[i], 2);
        size_t peak = w[i].n_bytes;
        cr_assert_leq(live_and_idle(), allowed(peak), "%d: %zu MiB of %zu", i, live_and_idle() >> 20,
                      peak >> 20);
    }
    for (int i = 0; i < N; i++)
        end(&w[i]);
}

Test(account, slots_of_threads_at_work_close_for_a_while) {
    need_membarrier();
    enum { N = 6 };
    static struct worker w[N];
    for (int i = 0; i < N; i++)
        start(&w[i], 32 * MIB);
    for (int i = 0; i < N; i++)
        take_turn(&w[i], 1); /* all of them are at work, as far as anybody knows */
    cr_assert(account_slots_closed(&pool));
    void *p = fixture_get(&pool, 32 * MIB);
    memset(p, 1, 32 * MIB);
    fixture_put(&pool, p);
    cr_assert_null(tcache_find(&pool.tcaches)->big.extent, "big blocks pass through the heap");
    cr_assert_geq(pool.heap.dirty_bytes, 32 * MIB);
    pool.slots_closed_ms -= 101;
    cr_assert_not(account_slots_closed(&pool));
    fixture_put(&pool, fixture_get(&pool, 32 * MIB));
    fixture_put(&pool, fixture_get(&pool, 32 * MIB));
    cr_assert_not_null(tcache_find(&pool.tcaches)->big.extent, "it opens again");
    for (int i = 0; i < N; i++)
        end(&w[i]);
}

/* Blocks side by side in the cache, and pieces in the heap that fit nothing: what is cached is merged for a
 * request that would otherwise have the pieces purged. */
Test(account, a_thread_returns_its_cache_before_anything_is_purged) {
    enum { N = 6, PIECES = 10 };
    char *cached[N], *pieces[PIECES], *fences[PIECES];
    for (int i = 0; i < N; i++)
        memset(cached[i] = fixture_get(&pool, 128 * KIB), 1, 128 * KIB);
    for (int i = 0; i < PIECES; i++) {
        memset(pieces[i] = fixture_get(&pool, 300 * KIB), 1, 300 * KIB);
        fences[i] = fixture_get(&pool, 300 * KIB);
    }
    for (int i = 0; i < PIECES; i++)
        fixture_put(&pool, pieces[i]);
    for (int i = 0; i < N; i++)
        fixture_put(&pool, cached[i]);
    struct tcache *tcache = tcache_find(&pool.tcaches);
    cr_assert_geq(tcache->n_pages, (N - 1) * pages_of(128 * KIB));
    pool.heap.window_start_ms -= 10 * BUDGET_WINDOW_MS; /* what was in use is long ago */
    size_t n_purged = pool.heap.counters.bytes_purged;
    char *p = fixture_get(&pool, 700 * KIB);
    cr_assert(p >= cached[0] && p < cached[0] + N * 128 * KIB, "%p of %p", (void *)p, (void *)cached[0]);
    cr_assert_eq(pool.heap.counters.bytes_purged, n_purged);
    cr_assert_eq(tcache->n_pages, 0);
    (void)fences;
}

/* What lies in its own stacks and in the shards is no reason: nothing could be taken from any slot. */
Test(account, a_thread_alone_keeps_its_slot) {
    fixture_get_and_put(&pool, 64, 128 * KIB);
    account_settle(&pool, 0, true);
    pool.heap.window_start_ms -= 10 * BUDGET_WINDOW_MS; /* long ago: far more is idle than was in use since */
    for (size_t n = 300 * KIB; n < 8 * MIB; n += 200 * KIB) {
        void *p = fixture_get(&pool, n);
        fixture_put(&pool, p);
        cr_assert_not(account_slots_closed(&pool));
        p = fixture_get(&pool, n);
        fixture_put(&pool, p);
        cr_assert_eq(tcache_find(&pool.tcaches)->big.extent, fixture_extent(&pool, p), "%zu bytes", n);
    }
}

/* Pools of the API keep large blocks in shards, too. */
Test(account, untouched_pages_in_a_shard_are_not_taken_off_twice) {
    static struct pool large;
    struct pool_setup setup = fixture_setup();
    setup.shard_max_block_bytes = 8 * MIB;
    setup.shard_limit_bytes = 64 * MIB;
    cr_assert_eq(fixture_init(&large, &setup), 0);
    struct heap_request request = {.n_pages = pages_of(4 * MIB), .align_pages = 1};
    struct extent *extent = heap_alloc(&large.heap, &request);
    cr_assert_eq(large.heap.unproven_bytes, 4 * MIB);
    extent_set_state(extent, EXTENT_CACHED);
    extent->next = NULL;
    shard_put_at(&large.shards, &large.shards.shard[0], extent);
    cr_assert_eq(large.shards.shard[0].bytes, 4 * MIB);
    cr_assert_eq(large.heap.unproven_bytes, 0);
    pool_finish(&large);
}
