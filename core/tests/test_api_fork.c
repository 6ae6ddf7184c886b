/* SPDX-License-Identifier: MIT */
/* test_api_fork.c: what a forked child may do with its parent's pools, whatever was going on in them. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "support.h"
#include "zeropool.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

TestSuite(api_fork, .timeout = 60);

static int child_uses_everything(void *argument) {
    zp_pool *pool = argument;
    void *p[1000];
    for (int i = 0; i < 1000; i++)
        if (!(p[i] = zp_get(pool, (size_t)(i % 60 + 1) * 4 * KIB))) return 1;
    for (int i = 0; i < 1000; i++)
        zp_put(pool, p[i]);
    if (zp_validate(pool, NULL, 0)) return 2;
    zp_pool_trim(pool, 0);
    zp_pool_destroy(pool);
    return 0;
}

Test(api_fork, a_forked_child_can_do_everything) {
    zp_pool *pool = zp_pool_create(NULL);
    void *held = zp_get(pool, MIB);
    for (int i = 0; i < 50; i++) {
        struct child_result child = run_child(child_uses_everything, pool);
        cr_assert_eq(child.exit_status, 0, "status %d signal %d %s", child.exit_status, child.signal,
                     child.text);
    }
    zp_put(pool, held);
    char message[200] = "";
    cr_assert_eq(zp_validate(pool, message, sizeof message), 0, "%s", message);
    zp_pool_destroy(pool);
}

static volatile bool stop;
static void *churn(void *pool) {
    uint64_t rng = (uintptr_t)&rng;
    while (!stop) {
        void *p[8];
        for (int i = 0; i < 8; i++)
            p[i] = zp_get(pool, rng_range(&rng, 1, MIB));
        for (int i = 0; i < 8; i++)
            zp_put(pool, p[i]);
    }
    return NULL;
}

static int child_survives(void *argument) {
    zp_pool *pool = argument;
    /* The pool may have been caught with a lock held: then it refuses, but it never hangs or crashes. */
    for (int i = 0; i < 100; i++)
        zp_put(pool, zp_get(pool, (size_t)(i % 60 + 1) * 4 * KIB));
    zp_pool_trim(pool, 0);
    return 0;
}

Test(api_fork, forking_while_others_work_never_hangs_the_child) {
    zp_pool *pool = zp_pool_create(NULL);
    pthread_t threads[3];
    stop = false;
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, churn, pool);
    for (int i = 0; i < 300; i++) {
        struct child_result child = run_child(child_survives, pool);
        cr_assert_eq(child.exit_status, 0, "fork %d: status %d signal %d %s", i, child.exit_status,
                     child.signal, child.text);
    }
    stop = true;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    char message[200] = "";
    cr_assert_eq(zp_validate(pool, message, sizeof message), 0, "%s", message);
    zp_pool_destroy(pool);
}

/* A get may be refused while who holds a lock, or repairs, waits for a processor; a broken pool refuses for
 * ever. */
static void *get_in_the_end(zp_pool *pool, size_t n_bytes) {
    void *p = zp_get(pool, n_bytes);
    for (int i = 0; !p && i < 1000; i++) {
        usleep(10000);
        p = zp_get(pool, n_bytes);
    }
    return p;
}

static pthread_barrier_t barrier;

static void *first_use_in_child(void *pool) {
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 50; i++) {
        void *p = get_in_the_end(pool, (size_t)(i % 5 + 1) * 300 * KIB);
        if (!p) return (void *)1;
        zp_put(pool, p);
    }
    return NULL;
}

static int child_with_threads(void *pool) {
    /* The child's threads meet in the repair: its first slow path runs in all of them at once. */
    pthread_t threads[4];
    pthread_barrier_init(&barrier, NULL, 4);
    for (int i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, first_use_in_child, pool)) return 3;
    int n_refused = 0;
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        n_refused += bad != NULL;
    }
    if (zp_validate(pool, NULL, 0)) return 4;
    return n_refused ? 5 : 0;
}

Test(api_fork, a_child_that_starts_threads_first_is_repaired_once) {
    enum { N = 48 };
    zp_pool *pools[N]; /* many, so that the repair takes a while; the last one is used */
    for (int i = 0; i < N; i++) {
        pools[i] = zp_pool_create(NULL);
        zp_put(pools[i], zp_get(pools[i], MIB));
    }
    for (int i = 0; i < 200; i++) {
        struct child_result child = run_child(child_with_threads, pools[N - 1]);
        cr_assert_eq(child.exit_status, 0, "fork %d: status %d signal %d (4: pool broken, 5: gets refused)",
                     i, child.exit_status, child.signal);
    }
    for (int i = 0; i < N; i++)
        zp_pool_destroy(pools[i]);
}

static int child_destroys(void *pool) {
    zp_pool_destroy(pool);
    return 0;
}

Test(api_fork, a_child_can_destroy_at_once_whatever_the_background_thread_was_doing) {
    zp_config config;
    zp_config_init(&config);
    config.decay_ms = 1; /* the background thread is in this pool as often as can be */
    zp_pool *pool = zp_pool_create(&config);
    void *p[64];
    time_t end = time(NULL) + 15; /* fewer rounds where forks are slow */
    for (int i = 0; i < 400 && time(NULL) < end; i++) {
        for (int k = 0; k < 64; k++)
            memset(p[k] = get_in_the_end(pool, MIB), 1, 64 * KIB);
        for (int k = 0; k < 64; k++)
            zp_put(pool, p[k]);
        struct child_result child = run_child(child_destroys, pool);
        cr_assert_eq(child.exit_status, 0, "fork %d: status %d signal %d (14: it hung)", i, child.exit_status,
                     child.signal);
    }
    zp_pool_destroy(pool);
}
