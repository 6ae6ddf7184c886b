/* SPDX-License-Identifier: MIT */
/* test_api_stats.c: the statistics say what happened, and the documented limits hold. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "support.h"
#include "zeropool.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

TestSuite(api_stats, .timeout = 60);

static zp_stats stats_of(zp_pool *pool) {
    zp_stats stats;
    zp_pool_stats(pool, &stats);
    return stats;
}

static zp_pool *make(size_t max_retained, unsigned decay_ms) {
    zp_config config;
    zp_config_init(&config);
    config.n_shards = 1;
    config.max_retained_bytes = max_retained;
    config.decay_ms = decay_ms;
    zp_pool *pool = zp_pool_create(&config);
    cr_assert(pool);
    return pool;
}

static size_t idle(const zp_stats *stats) {
    return stats->bytes_cached + stats->bytes_dirty;
}

Test(api_stats, a_new_pool_has_done_nothing) {
    zp_pool *pool = make(0, 0);
    zp_stats stats = stats_of(pool), zero;
    memset(&zero, 0, sizeof zero);
    cr_assert_eq(memcmp(&stats, &zero, sizeof stats), 0);
    zp_pool_destroy(pool);
}

Test(api_stats, every_get_is_counted_once_with_its_source) {
    zp_pool *pool = make(0, 0);
    uint64_t rng = 2, n_gets = 0;
    void *live[50] = {NULL};
    size_t sizes[50], bytes = 0;
    for (int i = 0; i < 20000; i++) {
        size_t slot = rng_range(&rng, 0, 49);
        if (live[slot]) {
            bytes -= sizes[slot];
            zp_put(pool, live[slot]);
            live[slot] = NULL;
        } else {
            cr_assert(live[slot] = zp_get(pool, rng_range(&rng, 1, (size_t)1 << rng_range(&rng, 12, 22))));
            bytes += sizes[slot] = zp_usable_size(pool, live[slot]);
            n_gets++;
        }
        if (i % 1000) continue;
        zp_stats s = stats_of(pool);
        cr_assert_eq(s.n_gets, n_gets, "%lu gets, counted %lu", (unsigned long)n_gets,
                     (unsigned long)s.n_gets);
        cr_assert_eq(s.n_tcache_hits + s.n_shard_hits + s.n_heap_dirty + s.n_heap_fresh, n_gets,
                     "%lu gets: %lu tcache + %lu shard + %lu dirty + %lu fresh", (unsigned long)n_gets,
                     (unsigned long)s.n_tcache_hits, (unsigned long)s.n_shard_hits,
                     (unsigned long)s.n_heap_dirty, (unsigned long)s.n_heap_fresh);
        cr_assert_eq(s.bytes_live, bytes, "live %zu, counted %zu", bytes, s.bytes_live);
        cr_assert_leq(s.bytes_live + idle(&s), s.bytes_mapped);
        cr_assert_leq(s.bytes_live + s.bytes_cached, s.bytes_live_peak);
        cr_assert_eq(s.n_refused, 0);
    }
    zp_pool_destroy(pool);
}

Test(api_stats, refusals_are_counted) {
    zp_pool *pool = make(0, 0);
    cr_assert_null(zp_get(pool, (size_t)1 << 45));
    cr_assert_eq(stats_of(pool).n_refused, 1, "too large");
    cr_assert_null(zp_get_zeroed(pool, SIZE_MAX));
    cr_assert_null(zp_get_aligned(pool, 8192, SIZE_MAX));
    cr_assert_eq(stats_of(pool).n_refused, 3);
    cr_assert_eq(stats_of(pool).n_gets, 0, "a refusal is not a request served");
    zp_pool_destroy(pool);
}

static void *work_in_thread(void *pool) {
    for (int i = 0; i < 100; i++)
        zp_put(pool, zp_get(pool, 64 * KIB));
    return NULL;
}

Test(api_stats, counts_of_ended_threads_stay) {
    zp_pool *pool = make(0, 0);
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, work_in_thread, pool);
        pthread_join(thread, NULL);
        cr_assert_eq(stats_of(pool).n_gets, 100u * ((unsigned)i + 1));
    }
    zp_pool_destroy(pool);
}

Test(api_stats, counts_never_go_back_when_caches_pass_between_pools) {
    zp_pool *a = make(0, 0), *b = make(0, 0);
    for (int i = 0; i < 6; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, work_in_thread, i % 2 ? b : a);
        pthread_join(thread, NULL);
        cr_assert_eq(stats_of(a).n_gets, 100u * ((unsigned)i / 2 + 1), "after %d threads", i + 1);
        cr_assert_eq(stats_of(b).n_gets, 100u * (((unsigned)i + 1) / 2), "after %d threads", i + 1);
    }
    zp_pool_destroy(a);
    zp_pool_destroy(b);
}

Test(api_stats, fresh_and_purged_bytes) {
    zp_pool *pool = make(0, 0);
    char *p = zp_get(pool, 8 * MIB);
    memset(p, 1, 8 * MIB);
    zp_stats s = stats_of(pool);
    cr_assert_eq(s.n_heap_fresh, 1);
    cr_assert_eq(s.bytes_fresh, 8 * MIB);
    zp_put(pool, p);
    zp_pool_trim(pool, 0);
    s = stats_of(pool);
    cr_assert_eq(s.bytes_purged, 8 * MIB);
    cr_assert_geq(s.n_purges, 1);
    cr_assert_eq(idle(&s), 0);
    zp_pool_destroy(pool);
}

Test(api_stats, idle_bytes_never_exceed_max_retained) {
    size_t limits[] = {64 * KIB, 4 * MIB, 32 * MIB};
    for (size_t l = 0; l < 3; l++) {
        zp_pool *pool = make(limits[l], 0);
        uint64_t rng = 4;
        void *live[40] = {NULL};
        for (int i = 0; i < 4000; i++) {
            size_t slot = rng_range(&rng, 0, 39);
            if (live[slot])
                zp_put(pool, live[slot]), live[slot] = NULL;
            else
                live[slot] = zp_get(pool, rng_range(&rng, 1, (size_t)1 << rng_range(&rng, 12, 24)));
            zp_stats s = stats_of(pool);
            cr_assert_leq(idle(&s), limits[l], "%zu bytes idle (%zu cached, %zu dirty) where %zu are allowed",
                          idle(&s), s.bytes_cached, s.bytes_dirty, limits[l]);
        }
        zp_pool_destroy(pool);
    }
}

Test(api_stats, memory_decays_also_below_max_retained) {
    /* decay_ms: "idle memory goes back to the kernel within about this time"; the limit is a cap, not a
     * floor. */
    zp_pool *pool = make(256 * MIB, 200);
    char *p = zp_get(pool, 64 * MIB);
    memset(p, 1, 64 * MIB);
    zp_put(pool, p);
    for (int i = 0; i < 50; i++) {
        zp_stats s = stats_of(pool);
        if (idle(&s) < 4 * MIB) break;
        usleep(100000);
    }
    zp_stats s = stats_of(pool);
    cr_assert_lt(idle(&s), 4 * MIB, "%zu bytes idle after 5 s of a decay of 0.2 s", idle(&s));
    zp_pool_destroy(pool);
}

Test(api_stats, decay_works_without_further_calls) {
    zp_pool *pool = make(0, 500);
    char *p = zp_get(pool, 128 * MIB);
    memset(p, 1, 128 * MIB);
    size_t full = resident_bytes();
    zp_put(pool, p);
    for (int i = 0; i < 60 && resident_bytes() + 120 * MIB > full; i++)
        usleep(100000);
    cr_assert_lt(resident_bytes() + 120 * MIB, full, "still resident after 6 s");
    zp_pool_destroy(pool);
}

Test(api_stats, the_last_megabytes_decay_too) {
    /* Less than what keeps the background thread: it may leave when that is idle, not before it is given
     * back. */
    zp_pool *pool = make(0, 2000);
    void *started_by[2] = {zp_get(pool, 16 * MIB), zp_get(pool, 16 * MIB)};
    for (int i = 0; i < 2; i++)
        zp_put(pool, started_by[i]);
    zp_pool_trim(pool, 0);
    char *p = zp_get(pool, 3 * MIB);
    memset(p, 1, 3 * MIB);
    zp_put(pool, p);
    zp_stats s = stats_of(pool);
    cr_assert_geq(idle(&s), 3 * MIB);
    for (int i = 0; i < 80 && idle(&s); i++)
        usleep(100000), s = stats_of(pool);
    cr_assert_eq(idle(&s), 0, "%zu bytes idle after 8 s of a decay of 2 s", idle(&s));
    zp_pool_destroy(pool);
}

Test(api_stats, many_pools_decay_all) {
    enum { N = 80 };
    zp_pool *pools[N];
    for (int i = 0; i < N; i++) {
        pools[i] = make(0, 200);
        void *p = zp_get(pools[i], 10 * MIB);
        memset(p, 1, MIB);
        zp_put(pools[i], p);
    }
    for (int wait = 0; wait < 60; wait++) {
        usleep(100000);
        int n_left = 0;
        for (int i = 0; i < N; i++) {
            zp_stats s = stats_of(pools[i]);
            n_left += idle(&s) > 0;
        }
        if (!n_left) break;
    }
    for (int i = 0; i < N; i++) {
        zp_stats s = stats_of(pools[i]);
        cr_expect_eq(idle(&s), 0, "pool %d of %d never decays", i + 1, N);
    }
    for (int i = 0; i < N; i++)
        zp_pool_destroy(pools[i]);
}

/* --- pinned --- */

static zp_pool *pinned_pool(size_t memlock_bytes) {
    struct rlimit limit = {memlock_bytes, memlock_bytes};
    setrlimit(RLIMIT_MEMLOCK, &limit);
    /* Root may lock without limit. */
    if (geteuid() == 0 && (setgid(65534) || setuid(65534))) return NULL;
    zp_config config;
    zp_config_init(&config);
    config.pinned = true;
    return zp_pool_create(&config);
}

static size_t locked_kib(void) {
    char line[200];
    size_t kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "VmLck:", 6) == 0) kib = strtoul(line + 6, NULL, 10);
    if (file) fclose(file);
    return kib;
}

Test(api_stats, pinned_memory_is_locked, .disabled = UNDER_ASAN) {
    zp_pool *pool = pinned_pool(8 * MIB);
    if (!pool) cr_skip_test("cannot drop privileges");
    void *p = zp_get(pool, 2 * MIB);
    cr_assert(p);
    zp_stats s = stats_of(pool);
    cr_assert_eq(s.bytes_pinned, 2 * MIB);
    cr_assert_eq(s.n_pin_failures, 0);
    cr_assert_eq(locked_kib(), 2048);
    zp_put(pool, p);
    zp_pool_trim(pool, 0);
    cr_assert_eq(stats_of(pool).bytes_pinned, 0);
    cr_assert_eq(locked_kib(), 0);
    zp_pool_destroy(pool);
}

Test(api_stats, pinning_beyond_the_limit_goes_on_unpinned, .disabled = UNDER_ASAN) {
    zp_pool *pool = pinned_pool(64 * KIB);
    if (!pool) cr_skip_test("cannot drop privileges");
    char *p[6];
    for (int i = 0; i < 6; i++) {
        cr_assert(p[i] = zp_get(pool, (size_t)(i + 1) * 20 * KIB),
                  "a refused mlock is no reason to refuse the buffer");
        memset(p[i], i, 20 * KIB);
    }
    zp_stats s = stats_of(pool);
    cr_assert_gt(s.n_pin_failures, 0);
    cr_assert_leq(s.bytes_pinned, 64 * KIB);
    cr_assert_eq(s.bytes_pinned, locked_kib() * KIB);
    for (int i = 0; i < 6; i++)
        zp_put(pool, p[i]);
    zp_pool_trim(pool, 0);
    s = stats_of(pool);
    cr_assert_eq(s.bytes_pinned, 0, "%zu bytes pinned in an empty pool", s.bytes_pinned);
    cr_assert_eq(locked_kib(), 0);
    zp_pool_destroy(pool);
}

Test(api_stats, pinned_zeroed_buffers_are_zero) {
    zp_pool *pool = pinned_pool(1 * MIB);
    if (!pool) cr_skip_test("cannot drop privileges");
    for (int i = 0; i < 20; i++) {
        size_t n = (size_t)(i + 1) * 100 * KIB;
        char *p = zp_get_zeroed(pool, n);
        cr_assert_eq(first_nonzero(p, n), n);
        memset(p, 0xff, n);
        zp_put(pool, p);
        if (i % 5 == 0) zp_pool_trim(pool, 0);
    }
    cr_assert_eq(zp_validate(pool, NULL, 0), 0);
    zp_pool_destroy(pool);
}
