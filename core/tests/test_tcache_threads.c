/* SPDX-License-Identifier: MIT */
/* test_tcache_threads.c: the ways in which others take from a thread cache, and what becomes of it when its
 * thread ends. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"
#include "pool/account.h"
#include "observe/stats.h"
#include "pool_fixture.h"
#include "zeropool.h"
#include "support.h"

static struct pool pool, other_pool;

static void set_up(void) {
    struct pool_setup setup = fixture_setup();
    memset(&pool, 0, sizeof pool);
    memset(&other_pool, 0, sizeof other_pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    cr_assert_eq(fixture_init(&other_pool, &setup), 0);
    fixture_trust(&pool, 16 * MIB);
    fixture_pin(0);
}
static void tear_down(void) {
    const char *broken = pool_check(&pool);
    cr_expect_null(broken, "%s", broken);
    pool_finish(&pool);
    pool_finish(&other_pool);
}
static size_t held(const struct tcache *tcache) {
    return account_tcache_bytes(tcache->caches == &pool.tcaches ? &pool : &other_pool, tcache);
}

TestSuite(tcache_threads, .init = set_up, .fini = tear_down, .timeout = 60);

struct sleeper {
    struct pool *pool;
    sem_t go, ready;
    unsigned n_blocks;
    size_t n_bytes;
    bool hold_busy; /* stay inside the critical section */
    bool only_get;  /* one block, and keep it */
    void *kept;
    struct tcache *tcache;
};

/* Fills its cache at each go, and sleeps in between; ends when n_blocks is 0. */
static void *sleeper_main(void *argument) {
    struct sleeper *s = argument;
    fixture_pin(0);
    for (;;) {
        sem_wait(&s->go);
        if (!s->n_blocks) break;
        if (s->only_get)
            s->kept = fixture_get(s->pool, s->n_bytes);
        else
            fixture_get_and_put(s->pool, s->n_blocks, s->n_bytes);
        s->tcache = tcache_find(&s->pool->tcaches);
        if (s->hold_busy) tcache_enter(s->tcache);
        sem_post(&s->ready);
    }
    if (s->hold_busy && s->tcache) tcache_leave(s->tcache);
    return NULL;
}

static pthread_t sleeper_start(struct sleeper *s) {
    pthread_t thread;
    sem_init(&s->go, 0, 0);
    sem_init(&s->ready, 0, 0);
    cr_assert_eq(pthread_create(&thread, NULL, sleeper_main, s), 0);
    return thread;
}
static void sleeper_work(struct sleeper *s) {
    sem_post(&s->go);
    sem_wait(&s->ready);
}
static void sleeper_end(struct sleeper *s, pthread_t thread) {
    s->n_blocks = 0;
    sem_post(&s->go);
    pthread_join(thread, NULL);
}

Test(tcache_threads, others_take_from_a_sleeping_thread) {
    struct sleeper s = {.pool = &pool, .n_blocks = 5, .n_bytes = 8 * KIB};
    pthread_t thread = sleeper_start(&s);
    sleeper_work(&s);
    s.n_blocks = 1;
    s.n_bytes = 16 * MIB;
    sleeper_work(&s);
    sleeper_work(&s);
    cr_assert_eq(held(s.tcache), 5 * 8 * KIB + 16 * MIB);
    cr_assert(s.tcache->big.extent);
    unsigned n = tcache_reclaim(&pool.tcaches, RECLAIM_ALL);
    if (n == 0) cr_skip_test("no membarrier here");
    cr_assert_eq(n, 1);
    cr_assert_eq(held(s.tcache), 0);
    cr_assert_null(s.tcache->big.extent);
    cr_assert_eq(pool.heap.dirty_bytes, 16 * MIB);
    cr_assert_eq(atomic_load(&s.tcache->claim), 0);
    /* And the sleeper goes on as if nothing had been. */
    s.n_blocks = 5;
    s.n_bytes = 8 * KIB;
    sleeper_work(&s);
    cr_assert_eq(held(s.tcache), 5 * 8 * KIB);
    sleeper_end(&s, thread);
}

Test(tcache_threads, a_thread_inside_its_cache_is_left_alone) {
    struct sleeper s = {.pool = &pool, .n_blocks = 5, .n_bytes = 8 * KIB, .hold_busy = true};
    pthread_t thread = sleeper_start(&s);
    sleeper_work(&s);
    cr_assert_eq(tcache_reclaim(&pool.tcaches, RECLAIM_ALL), 0);
    cr_assert_eq(held(s.tcache), 5 * 8 * KIB);
    cr_assert_eq(atomic_load(&s.tcache->claim), 0, "the reclaimer gives up its claim");
    sleeper_end(&s, thread);
}

Test(tcache_threads, only_idle_spares_threads_that_have_worked_since) {
    struct sleeper s = {.pool = &pool, .n_blocks = 5, .n_bytes = 8 * KIB};
    pthread_t thread = sleeper_start(&s);
    sleeper_work(&s);
    cr_assert_eq(tcache_reclaim(&pool.tcaches, RECLAIM_IDLE), 0, "first seen");
    sleeper_work(&s);
    cr_assert_eq(tcache_reclaim(&pool.tcaches, RECLAIM_IDLE), 0, "has worked since");
    if (tcache_reclaim(&pool.tcaches, RECLAIM_IDLE) == 0) cr_skip_test("no membarrier here");
    cr_assert_eq(held(s.tcache), 0, "has slept since");
    sleeper_end(&s, thread);
}

/* From the slot: one hit more, one block there less. */
Test(tcache_threads, a_single_get_is_work) {
    struct sleeper s = {.pool = &pool, .n_blocks = 5, .n_bytes = 8 * KIB};
    pthread_t thread = sleeper_start(&s);
    sleeper_work(&s);
    cr_assert(s.tcache->small.extent);
    cr_assert_eq(tcache_reclaim(&pool.tcaches, RECLAIM_IDLE), 0, "first seen");
    s.only_get = true;
    sleeper_work(&s);
    cr_assert_null(s.tcache->small.extent);
    cr_assert_eq(tcache_reclaim(&pool.tcaches, RECLAIM_IDLE), 0, "has worked since");
    cr_assert_eq(held(s.tcache), 4 * 8 * KIB);
    fixture_put(&pool, s.kept);
    sleeper_end(&s, thread);
}

/* --- a storm: without the barrier, or without either half of the protocol, a block is soon in two hands
 * --- */

static _Atomic bool storm_over;
static _Atomic unsigned n_in_two_hands;

static void *storm_owner(void *argument) {
    fixture_pin((unsigned)(uintptr_t)argument);
    while (!atomic_load_explicit(&storm_over, memory_order_relaxed)) {
        volatile uintptr_t *p[3];
        for (int i = 0; i < 3; i++)
            if ((p[i] = fixture_get(&pool, 4 * KIB))) *p[i] = (uintptr_t)&p;
        for (int i = 0; i < 3; i++) {
            if (!p[i]) continue;
            /* &p differs from thread to thread. */
            if (*p[i] != (uintptr_t)&p) atomic_fetch_add(&n_in_two_hands, 1);
            *p[i] = 0;
            fixture_put(&pool, (void *)p[i]);
        }
    }
    return NULL;
}

Test(tcache_threads, owners_and_a_reclaimer_in_a_storm) {
    pthread_t owners[2];
    for (uintptr_t i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&owners[i], NULL, storm_owner, (void *)(1 - i)), 0);
    unsigned n_emptied = 0;
    /* As long as it takes to come in often enough, on a machine with much else to do, too. */
    uint64_t start = os_clock_ns(), at_least = 1500000000u, at_most = 30000000000u;
    for (uint64_t ns = 0; ns < at_least || (n_emptied <= 100 && n_emptied > 0 && ns < at_most);
         ns = os_clock_ns() - start)
        n_emptied += tcache_reclaim(&pool.tcaches, RECLAIM_ALL);
    storm_over = true;
    for (int i = 0; i < 2; i++)
        pthread_join(owners[i], NULL);
    cr_assert_eq(n_in_two_hands, 0);
    cr_assert_null(pool_check(&pool), "%s", pool_check(&pool));
    pool_trim(&pool, 0);
    cr_assert_eq(pool.heap.active_bytes, 0, "blocks were lost");
    if (n_emptied == 0) cr_skip_test("no membarrier here");
    cr_assert_gt(n_emptied, 100, "the reclaimer came in only %u times", n_emptied);
}

Test(tcache_threads, pools_do_not_reclaim_from_each_other) {
    struct sleeper s = {.pool = &other_pool, .n_blocks = 5, .n_bytes = 8 * KIB};
    pthread_t thread = sleeper_start(&s);
    sleeper_work(&s);
    cr_assert_eq(tcache_reclaim(&pool.tcaches, RECLAIM_ALL), 0);
    cr_assert_eq(held(s.tcache), 5 * 8 * KIB);
    sleeper_end(&s, thread);
}

Test(tcache_threads, an_exiting_thread_leaves_nothing_behind) {
    struct sleeper s = {.pool = &pool, .n_blocks = 5, .n_bytes = 8 * KIB};
    pthread_t thread = sleeper_start(&s);
    sleeper_work(&s);
    sleeper_end(&s, thread);
    cr_assert_eq(pool.shards.shard[0].n_blocks, 5, "its blocks are in the shard");
    cr_assert_eq(held(s.tcache), 0);
    struct tcache *first = s.tcache;
    s.n_blocks = 3;
    thread = sleeper_start(&s);
    sleeper_work(&s);
    cr_assert_eq(s.tcache, first, "the cache itself is used again");
    sleeper_end(&s, thread);
}

Test(tcache_threads, a_cache_that_passes_to_another_pool_does_not_take_its_counts_along) {
    struct sleeper s = {.pool = &pool, .n_blocks = 5, .n_bytes = 8 * KIB};
    pthread_t thread = sleeper_start(&s);
    for (int i = 0; i < 10; i++)
        sleeper_work(&s);
    struct tcache *first = s.tcache;
    sleeper_end(&s, thread);
    s = (struct sleeper){.pool = &other_pool, .n_blocks = 1, .n_bytes = 8 * KIB};
    thread = sleeper_start(&s);
    sleeper_work(&s);
    cr_assert_eq(s.tcache, first);
    uint64_t hits = 0;
    for (unsigned cls = 0; cls < N_CLASSES; cls++)
        hits += tcache_hits(s.tcache, cls);
    cr_assert_leq(hits + s.tcache->n_slow_gets, 1, "the other pool is credited with %lu gets it never served",
                  (unsigned long)(hits + s.tcache->n_slow_gets - 1));
    sleeper_end(&s, thread);
}

/* A thread has ended while a reclaimer, long preempted, held the claim of its cache, which it still does;
 * five blocks are in it. */
static struct tcache *left_under_a_claim(void) {
    struct sleeper s = {.pool = &pool, .n_blocks = 5, .n_bytes = 8 * KIB};
    pthread_t thread = sleeper_start(&s);
    sleeper_work(&s);
    atomic_store(&s.tcache->claim, TCACHE_CLAIMED);
    sleeper_end(&s, thread);
    return s.tcache;
}

Test(tcache_threads, an_adopted_cache_respects_a_claim) {
    /* The next thread must not touch the lists. */
    struct tcache *first = left_under_a_claim();
    size_t bytes = held(first);
    struct sleeper s = {.pool = &pool, .n_blocks = 1, .n_bytes = 8 * KIB};
    pthread_t thread = sleeper_start(&s);
    sleeper_work(&s);
    cr_assert(held(first) == bytes, "the lists were changed under a claim (%zu, %zu bytes)", bytes,
              held(first));
    atomic_store(&first->claim, 0);
    sleeper_end(&s, thread);
}

static uint64_t gets_of(struct pool *of) {
    zp_stats stats;
    pool_stats(of, &stats);
    return stats.n_gets;
}

Test(tcache_threads, an_adopted_cache_leaves_its_counts_where_they_were_made) {
    /* The claim is given up before the next thread comes, which works with another pool. */
    struct tcache *first = left_under_a_claim();
    atomic_store(&first->claim, 0);
    uint64_t n_gets = gets_of(&pool), n_others = gets_of(&other_pool);
    unsigned n_tcaches = atomic_load(&pool.tcaches.n);
    cr_assert_geq(n_gets, 5);
    struct sleeper s = {.pool = &other_pool, .n_blocks = 1, .n_bytes = 8 * KIB};
    pthread_t thread = sleeper_start(&s);
    sleeper_work(&s);
    cr_assert_eq(s.tcache, first, "else this tests nothing");
    cr_assert_eq(gets_of(&pool), n_gets);
    cr_assert_eq(gets_of(&other_pool), n_others + 1);
    cr_assert_eq(atomic_load(&pool.tcaches.n), n_tcaches - 1);
    sleeper_end(&s, thread);
    cr_assert_eq(atomic_load(&other_pool.tcaches.n), 0);
}

Test(tcache_threads, a_big_block_that_rests_with_a_working_thread_is_taken) {
    struct sleeper s = {.pool = &pool, .n_blocks = 1, .n_bytes = 16 * MIB};
    pthread_t thread = sleeper_start(&s);
    sleeper_work(&s);
    sleeper_work(&s);
    fixture_get_and_put(&pool, 2, MIB); /* idle memory, or small requests would take the block apart */
    cr_assert(s.tcache->big.extent);
    s.n_blocks = 3;
    s.n_bytes = 8 * KIB;
    unsigned n = 0;
    for (int i = 0; i < 3; i++) {
        sleeper_work(&s);
        n += tcache_reclaim(&pool.tcaches, RECLAIM_IDLE);
    }
    if (n == 0 && tcache_reclaim(&pool.tcaches, RECLAIM_ALL) == 0) cr_skip_test("no membarrier here");
    cr_assert_null(s.tcache->big.extent, "it works, but not with that");
    cr_assert_eq(held(s.tcache), 3 * 8 * KIB, "what it works with stays");
    sleeper_end(&s, thread);
}

Test(tcache_threads, a_big_block_that_is_used_stays) {
    struct sleeper s = {.pool = &pool, .n_blocks = 1, .n_bytes = 16 * MIB};
    pthread_t thread = sleeper_start(&s);
    for (int i = 0; i < 4; i++) {
        sleeper_work(&s);
        sleeper_work(&s);
        tcache_reclaim(&pool.tcaches, RECLAIM_IDLE);
        cr_assert(s.tcache->big.extent);
    }
    sleeper_end(&s, thread);
}

Test(tcache_threads, a_pool_can_be_destroyed_in_a_child_of_a_fork_in_mid_call) {
    struct sleeper s = {.pool = &other_pool, .n_blocks = 5, .n_bytes = 8 * KIB, .hold_busy = true};
    pthread_t thread = sleeper_start(&s);
    sleeper_work(&s);
    pid_t child = fork();
    if (child == 0) {
        alarm(10);
        tcache_fork_child(true);
        pool_finish(&other_pool); /* waits for a thread that does not exist here */
        _exit(0);
    }
    int status = -1;
    cr_assert(child > 0 && waitpid(child, &status, 0) == child);
    cr_assert_eq(status, 0);
    sleeper_end(&s, thread);
}
