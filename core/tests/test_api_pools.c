/* SPDX-License-Identifier: MIT */
/* test_api_pools.c: thousands of pools in one process, and threads that use them in turn. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "support.h"
#include "zeropool.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

TestSuite(api_pools, .timeout = 80);

/* Each takes six VMAs. */
static size_t pools_that_fit(size_t wanted) {
    size_t n_vmas = 65530;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    if (!file || fscanf(file, "%zu", &n_vmas) != 1) n_vmas = 65530;
    if (file) fclose(file);
    return n_vmas / 6 - 900 < wanted ? n_vmas / 6 - 900 : wanted;
}

Test(api_pools, ten_thousand_live) {
    enum { N = 10000 };
    static zp_pool *pools[N];
    static void *held[N];
    size_t n = pools_that_fit(N);
    for (size_t i = 0; i < n; i++) {
        cr_assert(pools[i] = zp_pool_create(NULL), "%zu pools", i);
        cr_assert(held[i] = zp_get(pools[i], 64 * KIB), "from pool %zu", i);
        *(size_t *)held[i] = i;
    }
    /* The first are as large as ever, the last large enough. */
    zp_put(pools[0], zp_get(pools[0], 512 * MIB));
    void *large = zp_get(pools[n - 1], 512 * MIB);
    cr_assert(large);
    zp_put(pools[n - 1], large);
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(*(size_t *)held[i], i);
        zp_put(pools[i], held[i]);
    }
    /* Each from this thread's cache for that pool. */
    for (size_t i = 0; i < n; i += 7) {
        cr_assert_eq(zp_get(pools[i], 64 * KIB), held[i]);
        zp_put(pools[i], held[i]);
        zp_stats stats;
        zp_pool_stats(pools[i], &stats);
        cr_assert_eq(stats.n_tcache_hits, 1);
    }
    for (size_t i = 0; i < n; i++)
        zp_pool_destroy(pools[i]);
}

struct plan {
    zp_pool **pools;
    int n_pools;
};

static void *uses_all(void *argument) {
    struct plan *plan = argument;
    for (int round = 0; round < 20; round++)
        for (int i = 0; i < plan->n_pools; i++) {
            char *p = zp_get(plan->pools[i], 100 * KIB);
            if (!p || !zp_owns(plan->pools[i], p)) return "not a block of the pool";
            p[0] = 1;
            zp_put(plan->pools[i], p);
        }
    return NULL;
}

/* Pools come and go, also under numbers that others had, while threads hold caches of all. */
Test(api_pools, come_and_go) {
    enum { N = 40 };
    static zp_pool *pools[N];
    struct plan plan = {pools, N};
    uint64_t rng = 1;
    for (int i = 0; i < N; i++)
        cr_assert(pools[i] = zp_pool_create(NULL));
    for (int round = 0; round < 50; round++) {
        pthread_t threads[3];
        for (int i = 0; i < 3; i++)
            cr_assert_eq(pthread_create(&threads[i], NULL, uses_all, &plan), 0);
        cr_assert_null(uses_all(&plan));
        for (int i = 0; i < 3; i++) {
            void *fault;
            pthread_join(threads[i], &fault);
            cr_assert_null(fault);
        }
        for (int i = 0; i < N; i++) {
            if (rng_next(&rng) % 2) continue;
            char message[200] = "";
            cr_assert_eq(zp_validate(pools[i], message, sizeof message), 0, "%s", message);
            zp_pool_destroy(pools[i]);
            pools[i] = NULL;
        }
        for (int i = N; i-- > 0;)
            if (!pools[i]) cr_assert(pools[i] = zp_pool_create(NULL));
    }
    for (int i = 0; i < N; i++)
        zp_pool_destroy(pools[i]);
}
