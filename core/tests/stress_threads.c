/* SPDX-License-Identifier: MIT */
/* stress_threads.c: concurrency stress with a plain main, so that it runs under ThreadSanitizer as well.
 *
 * Rounds of half a second. In each, worker threads get, put, resize and zero buffers of two pools, hand some
 * of them to each other through exchange slots, end and are replaced; one thread trims and asks for
 * statistics; one makes, uses and destroys pools of its own. Every buffer carries its size and a pattern,
 * checked whenever it changes hands. At the end of a round nobody works: then the pools are validated and
 * must be empty.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"
#include "zeropool.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define N_POOLS 2
#define N_SLOTS 48
#define N_HELD 12
#define THREADS_MAX 64
#define ROUND_MS 500

struct header {
    uint64_t tag, size;
};

static zp_pool *pools[N_POOLS];
static _Atomic(void *) slots[N_POOLS][N_SLOTS];
static _Atomic bool stop;
static _Atomic uint64_t n_operations, n_refused, n_threads_started;
static unsigned n_threads = 4;

_Noreturn static void fail(const char *what, const void *buffer) {
    fprintf(stderr, "stress_threads: %s (buffer %p)\n", what, buffer);
    _exit(1);
}

/* --- buffers that know what they hold --- */

static void fill(void *buffer, size_t size, uint64_t tag) {
    struct header header = {tag, size};
    memcpy(buffer, &header, sizeof header);
    pattern_fill((char *)buffer + sizeof header, size - sizeof header, tag);
}

static struct header check(const void *buffer) {
    struct header header;
    memcpy(&header, buffer, sizeof header);
    size_t n = header.size - sizeof header;
    if (header.size < sizeof header || header.size > 64 * MIB) fail("header destroyed", buffer);
    if (pattern_check((const char *)buffer + sizeof header, n, header.tag) != n)
        fail("contents destroyed", buffer);
    return header;
}

static size_t random_size(uint64_t *rng) {
    /* Mostly what caches and shards hold, some blocks for the heap, few large ones. */
    unsigned dice = (unsigned)rng_range(rng, 0, 99);
    size_t top = dice < 70 ? 64 * KIB : dice < 92 ? 256 * KIB : dice < 99 ? 2 * MIB : 8 * MIB;
    return rng_range(rng, sizeof(struct header) + 8, top);
}

static void *obtain(zp_pool *pool, uint64_t *rng) {
    size_t size = random_size(rng);
    unsigned dice = (unsigned)rng_range(rng, 0, 9);
    void *p;
    if (dice == 0) {
        p = zp_get_zeroed(pool, size);
        if (p && first_nonzero(p, size) != size) fail("a zeroed buffer is not zero", p);
    } else if (dice == 1) {
        size_t alignment = (size_t)1 << rng_range(rng, 12, 21);
        p = zp_get_aligned(pool, alignment, size);
        if (p && (uintptr_t)p % alignment) fail("misaligned", p);
    } else {
        p = zp_get(pool, size);
    }
    if (!p) {
        atomic_fetch_add_explicit(&n_refused, 1, memory_order_relaxed);
        return NULL;
    }
    if (zp_usable_size(pool, p) < size) fail("smaller than asked for", p);
    fill(p, size, rng_next(rng));
    return p;
}

static void *resize(zp_pool *pool, void *buffer, uint64_t *rng) {
    struct header before = check(buffer);
    size_t size = random_size(rng);
    void *p = zp_resize(pool, buffer, size);
    if (!p) return buffer;
    size_t kept = (before.size < size ? before.size : size) - sizeof before;
    if (pattern_check_front((char *)p + sizeof before, kept, before.size - sizeof before, before.tag) != kept)
        fail("contents lost in resize", p);
    fill(p, size, rng_next(rng));
    return p;
}

/* --- threads --- */

struct held {
    unsigned pool;
    void *buffer;
};

static void one_operation(struct held *held, uint64_t *rng) {
    if (!held->buffer) {
        held->pool = (unsigned)rng_range(rng, 0, N_POOLS - 1);
        held->buffer = obtain(pools[held->pool], rng);
        return;
    }
    unsigned dice = (unsigned)rng_range(rng, 0, 99);
    if (dice < 55) {
        check(held->buffer);
        zp_put(pools[held->pool], held->buffer);
        held->buffer = NULL;
    } else if (dice < 85) {
        /* acq_rel: whoever takes the buffer must see what was written to it. */
        held->buffer = atomic_exchange_explicit(&slots[held->pool][rng_range(rng, 0, N_SLOTS - 1)],
                                                held->buffer, memory_order_acq_rel);
        if (held->buffer) check(held->buffer);
    } else {
        held->buffer = resize(pools[held->pool], held->buffer, rng);
    }
}

/* A worker lives for a few thousand operations; what it holds then goes to the slots or back. */
static void *worker(void *argument) {
    uint64_t rng = (uintptr_t)argument;
    struct held held[N_HELD];
    memset(held, 0, sizeof held);
    uint64_t n = 0, life = rng_range(&rng, 50, 2000);
    for (; n < life && !atomic_load_explicit(&stop, memory_order_relaxed); n++)
        one_operation(&held[rng_range(&rng, 0, N_HELD - 1)], &rng);
    for (unsigned i = 0; i < N_HELD; i++) {
        if (!held[i].buffer) continue;
        zp_pool *pool = pools[held[i].pool];
        void *old = held[i].buffer;
        if (i % 2) old = atomic_exchange_explicit(&slots[held[i].pool][i], old, memory_order_acq_rel);
        if (!old) continue;
        check(old);
        zp_put(pool, old);
    }
    atomic_fetch_add_explicit(&n_operations, n, memory_order_relaxed);
    return NULL;
}

/* Keeps one worker after the other running until the round ends. */
static void *worker_chain(void *argument) {
    uint64_t rng = (uintptr_t)argument;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, (void *)(uintptr_t)(rng_next(&rng) >> 8)))
            fail("pthread_create", NULL);
        atomic_fetch_add_explicit(&n_threads_started, 1, memory_order_relaxed);
        pthread_join(thread, NULL);
    }
    return NULL;
}

static void *disturber(void *argument) {
    uint64_t rng = (uintptr_t)argument;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        zp_pool *pool = pools[rng_range(&rng, 0, N_POOLS - 1)];
        zp_stats stats;
        switch (rng_range(&rng, 0, 4)) {
        /* empties sleeping threads' caches as well */
        case 0:
            zp_pool_trim(pool, rng_range(&rng, 0, 32 * MIB));
            break;
        case 1:
            zp_pool_stats(pool, &stats);
            break;
        case 2:
            zp_pool_length(pool);
            break;
        case 3:
            zp_preallocate(pool, rng_range(&rng, 1, 128 * KIB), 3);
            break;
        default:
            zp_owns(pool, &stats);
            break;
        }
        usleep((useconds_t)rng_range(&rng, 0, 2000));
    }
    return NULL;
}

static void *pool_maker(void *argument) {
    uint64_t rng = (uintptr_t)argument;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        zp_pool *pool = zp_pool_create(NULL);
        if (!pool) fail("zp_pool_create", NULL);
        void *buffers[8];
        for (unsigned i = 0; i < 8; i++)
            buffers[i] = obtain(pool, &rng);
        for (unsigned i = 0; i < 8; i++) {
            if (buffers[i]) check(buffers[i]);
            zp_put(pool, buffers[i]);
        }
        zp_pool_destroy(pool);
        usleep(1000);
    }
    return NULL;
}

/* --- rounds --- */

static void make_pools(uint64_t *rng) {
    for (unsigned i = 0; i < N_POOLS; i++) {
        zp_config config;
        zp_config_preset(&config, (zp_preset)rng_range(rng, 0, 3));
        config.n_shards = (unsigned)rng_range(rng, 0, 4);
        config.tcache_depth = (unsigned)rng_range(rng, 0, 20);
        config.eviction = rng_next(rng) % 2 ? ZP_EVICT_CLOCKPRO : ZP_EVICT_LIFO;
        config.max_retained_bytes = rng_next(rng) % 2 ? rng_range(rng, 1, 64) * MIB : 0;
        config.decay_ms = rng_next(rng) % 2 ? 50 : 0;
        pools[i] = zp_pool_create(&config);
        if (!pools[i]) fail("zp_pool_create", NULL);
    }
}

/* Nobody works: everything must add up. */
static void check_and_destroy_pools(void) {
    for (unsigned i = 0; i < N_POOLS; i++) {
        char message[200] = "";
        if (zp_validate(pools[i], message, sizeof message)) fail(message, pools[i]);
        for (unsigned s = 0; s < N_SLOTS; s++) {
            void *buffer = atomic_exchange(&slots[i][s], NULL);
            if (!buffer) continue;
            check(buffer);
            zp_put(pools[i], buffer);
        }
        zp_pool_trim(pools[i], 0);
        if (zp_validate(pools[i], message, sizeof message)) fail(message, pools[i]);
        zp_stats stats;
        zp_pool_stats(pools[i], &stats);
        if (stats.bytes_live + stats.bytes_cached + stats.bytes_dirty) {
            fprintf(stderr, "live %zu, cached %zu, dirty %zu\n", stats.bytes_live, stats.bytes_cached,
                    stats.bytes_dirty);
            fail("blocks were lost", pools[i]);
        }
        zp_pool_destroy(pools[i]);
    }
}

static void run_round(uint64_t *rng, uint64_t until_ms) {
    pthread_t threads[THREADS_MAX + 2];
    make_pools(rng);
    atomic_store(&stop, false);
    for (unsigned i = 0; i < n_threads + 2; i++) {
        void *(*entry)(void *) = i < n_threads ? worker_chain : i == n_threads ? disturber : pool_maker;
        if (pthread_create(&threads[i], NULL, entry, (void *)(uintptr_t)(rng_next(rng) >> 8)))
            fail("pthread_create", NULL);
    }
    while (now_ms() < until_ms)
        usleep(10000);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < n_threads + 2; i++)
        pthread_join(threads[i], NULL);
    check_and_destroy_pools();
}

static uint64_t number(const char *name, const char *text) {
    char *end;
    unsigned long long value = text ? strtoull(text, &end, 10) : 0;
    if (!text || !*text || *end) {
        fprintf(stderr,
                "usage: stress_threads [--threads N] [--seconds N] [--seed N]   (%s wants a number)\n", name);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv) {
    uint64_t seconds = 3, seed = 1;
    for (int i = 1; i < argc; i += 2) {
        uint64_t value = number(argv[i], argv[i + 1]);
        if (strcmp(argv[i], "--threads") == 0 && value >= 1 && value <= THREADS_MAX)
            n_threads = (unsigned)value;
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = value;
        else if (strcmp(argv[i], "--seed") == 0)
            seed = value;
        else
            number(argv[i], NULL);
    }
    uint64_t rng = seed, start = now_ms(), end = start + seconds * 1000;
    unsigned n_rounds = 0;
    do {
        uint64_t until = now_ms() + ROUND_MS;
        run_round(&rng, until < end ? until : end);
        n_rounds++;
    } while (now_ms() < end);
    printf("seed %lu: %u rounds, %lu operations, %lu threads, %lu refused, no fault\n", (unsigned long)seed,
           n_rounds, (unsigned long)atomic_load(&n_operations),
           (unsigned long)atomic_load(&n_threads_started), (unsigned long)atomic_load(&n_refused));
    return 0;
}
