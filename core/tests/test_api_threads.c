/* SPDX-License-Identifier: MIT */
/* test_api_threads.c: several pools, several threads, threads that outlive a pool, and signal handlers. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "support.h"
#include "zeropool.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

TestSuite(api_threads, .timeout = 60);

static void assert_valid(zp_pool *pool) {
    char message[200] = "";
    cr_assert_eq(zp_validate(pool, message, sizeof message), 0, "%s", message);
}

Test(api_threads, pools_do_not_mix) {
    enum { N = 8 };
    zp_pool *pools[N];
    void *p[N];
    for (int i = 0; i < N; i++)
        cr_assert(pools[i] = zp_pool_create(NULL));
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < N; i++) {
            cr_assert(p[i] = zp_get(pools[i], 32 * KIB));
            pattern_fill(p[i], 32 * KIB, (uint64_t)i);
            for (int j = 0; j < N; j++)
                cr_assert_eq(zp_owns(pools[j], p[i]), i == j);
        }
        for (int i = 0; i < N; i++) {
            cr_assert_eq(pattern_check(p[i], 32 * KIB, (uint64_t)i), 32 * KIB);
            zp_put(pools[i], p[i]);
        }
    }
    for (int i = 0; i < N; i++) {
        zp_stats s;
        zp_pool_stats(pools[i], &s);
        cr_assert_eq(s.n_gets, 200);
        cr_assert_eq(s.bytes_live, 0);
        assert_valid(pools[i]);
    }
    for (int i = 0; i < N; i += 2)
        zp_pool_destroy(pools[i]);
    for (int i = 1; i < N; i += 2) {
        zp_put(pools[i], zp_get(pools[i], MIB));
        assert_valid(pools[i]);
        zp_pool_destroy(pools[i]);
    }
}

struct handoff {
    zp_pool *pool;
    void *volatile slots[16];
    int n_rounds;
    unsigned n_refused; /* a lock that cannot be had in time, on a busy machine, is a refusal */
};

static void *producer(void *argument) {
    struct handoff *h = argument;
    for (int i = 0; i < h->n_rounds; i++) {
        char *p = zp_get(h->pool, (size_t)(i % 40 + 1) * 8 * KIB);
        if (!p) {
            __atomic_fetch_add(&h->n_refused, 1, __ATOMIC_RELAXED);
            continue;
        }
        pattern_fill(p, 8 * KIB, (uintptr_t)p);
        void *old = __atomic_exchange_n(&h->slots[i % 16], p, __ATOMIC_ACQ_REL);
        if (!old) continue;
        if (pattern_check(old, 8 * KIB, (uintptr_t)old) != 8 * KIB) return (void *)1;
        zp_put(h->pool, old);
    }
    return NULL;
}

Test(api_threads, buffers_pass_from_thread_to_thread) {
    struct handoff h = {.pool = zp_pool_create(NULL), .n_rounds = 30000};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, producer, &h);
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        cr_assert_null(bad, "contents were lost on the way");
    }
    assert_valid(h.pool);
    for (int i = 0; i < 16; i++)
        zp_put(h.pool, h.slots[i]);
    zp_pool_trim(h.pool, 0);
    zp_stats s;
    zp_pool_stats(h.pool, &s);
    /* Each try counts, and one that the pool refuses is made again. */
    cr_assert(s.n_gets <= 120000 + s.n_refused && s.n_gets + h.n_refused >= 120000,
              "%lu gets, %lu refused, %u of them for good", (unsigned long)s.n_gets,
              (unsigned long)s.n_refused, h.n_refused);
    cr_assert_eq(s.bytes_live + s.bytes_cached + s.bytes_dirty, 0);
    zp_pool_destroy(h.pool);
}

/* --- threads that outlive pools --- */

static pthread_barrier_t barrier;
static zp_pool *shared_pool;
enum { N_ROUNDS = 300 };

static void *long_lived(void *ignored) {
    (void)ignored;
    for (int i = 0; i < N_ROUNDS; i++) {
        pthread_barrier_wait(&barrier); /* the pool of this round is there */
        void *p = zp_get(shared_pool, 16 * KIB), *q = zp_get(shared_pool, MIB);
        if (!p || !q) return (void *)1;
        zp_put(shared_pool, p);
        zp_put(shared_pool, q);
        pthread_barrier_wait(&barrier); /* nobody uses it any more */
    }
    return NULL;
}

Test(api_threads, threads_live_on_after_destroy) {
    pthread_t threads[3];
    pthread_barrier_init(&barrier, NULL, 4);
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, long_lived, NULL);
    for (int i = 0; i < N_ROUNDS; i++) {
        cr_assert(shared_pool = zp_pool_create(NULL));
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        zp_stats s;
        zp_pool_stats(shared_pool, &s);
        cr_assert_eq(s.n_gets, 6, "round %d: %lu gets; counts of a destroyed pool live on", i,
                     (unsigned long)s.n_gets);
        assert_valid(shared_pool);
        zp_pool_destroy(shared_pool);
    }
    for (int i = 0; i < 3; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        cr_assert_null(bad);
    }
}

static void *uses_twice(void *pool) {
    for (int i = 0; i < 2; i++)
        zp_put(pool, zp_get(pool, 16 * KIB));
    return NULL;
}

struct starter {
    zp_pool *pool;
    _Atomic bool done;
};

static void *starts_short_threads(void *argument) {
    struct starter *starter = argument;
    for (int i = 0; i < 500; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, uses_twice, starter->pool)) return (void *)1;
        pthread_join(thread, NULL);
    }
    starter->done = true;
    return NULL;
}

/* What a thread counted goes to the pool's totals as it ends. */
Test(api_threads, sums_never_fall_while_threads_end) {
    struct starter starter = {.pool = zp_pool_create(NULL)};
    pthread_t thread;
    cr_assert(!pthread_create(&thread, NULL, starts_short_threads, &starter));
    zp_stats s;
    uint64_t before = 0;
    unsigned n_fallen = 0;
    while (!starter.done) {
        uint64_t begun_ms = now_ms();
        zp_pool_stats(starter.pool, &s);
        /* nobody waits for a preempted thread for longer than 20 ms */
        if (now_ms() - begun_ms > 10) continue;
        n_fallen += s.n_gets < before;
        before = s.n_gets;
    }
    void *bad;
    pthread_join(thread, &bad);
    cr_assert_null(bad);
    cr_assert_eq(n_fallen, 0, "%u sums were smaller than the one before", n_fallen);
    zp_pool_stats(starter.pool, &s);
    cr_assert_eq(s.n_gets, 1000, "%lu gets", (unsigned long)s.n_gets);
    zp_pool_destroy(starter.pool);
}

static void *uses_then_ends(void *pool) {
    void *p[20];
    for (int i = 0; i < 20; i++)
        p[i] = zp_get(pool, 16 * KIB);
    for (int i = 0; i < 20; i++)
        zp_put(pool, p[i]);
    pthread_barrier_wait(&barrier);
    return NULL; /* its cache is emptied on the way out, while the pool is being destroyed */
}

Test(api_threads, threads_may_end_while_the_pool_is_destroyed) {
    pthread_barrier_init(&barrier, NULL, 4);
    for (int i = 0; i < 500; i++) {
        zp_pool *pool = zp_pool_create(NULL);
        cr_assert(pool);
        pthread_t threads[3];
        for (int t = 0; t < 3; t++)
            pthread_create(&threads[t], NULL, uses_then_ends, pool);
        pthread_barrier_wait(&barrier);
        zp_pool_destroy(pool);
        for (int t = 0; t < 3; t++)
            pthread_join(threads[t], NULL);
    }
}

/* --- signal handlers --- */

static zp_pool *handler_pool;
static volatile unsigned n_handled, n_handler_failures;

static void on_signal(int number) {
    (void)number;
    int saved = errno;
    n_handled++;
    char *p = zp_get(handler_pool, (n_handled % 100 + 1) * 8 * KIB);
    if (p) { /* inside a slow path it may be refused */
        p[0] = 1;
        zp_put(handler_pool, p);
    } else if (errno != ENOMEM) {
        n_handler_failures++;
    }
    if (n_handled < 20000) signal_after_us(50);
    errno = saved;
}

Test(api_threads, get_and_put_in_signal_handlers) {
    handler_pool = zp_pool_create(NULL);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    signal_after_us(50);
    uint64_t rng = 8;
    void *live[32] = {NULL};
    while (n_handled < 20000) {
        size_t slot = rng_range(&rng, 0, 31);
        if (live[slot]) {
            cr_assert_eq(pattern_check(live[slot], 4 * KIB, slot), 4 * KIB);
            zp_put(handler_pool, live[slot]);
            live[slot] = NULL;
        } else if ((live[slot] = zp_get(handler_pool, rng_range(&rng, 4 * KIB, MIB)))) {
            pattern_fill(live[slot], 4 * KIB, slot);
        }
    }
    cr_assert_eq(n_handler_failures, 0);
    for (int i = 0; i < 32; i++)
        zp_put(handler_pool, live[i]);
    assert_valid(handler_pool);
    zp_pool_trim(handler_pool, 0);
    zp_stats s;
    zp_pool_stats(handler_pool, &s);
    cr_assert_eq(s.bytes_live + s.bytes_cached + s.bytes_dirty, 0, "blocks were lost to handlers");
    zp_pool_destroy(handler_pool);
}
