// SPDX-License-Identifier: MIT
// Threads that come and go: each allocates and fills blocks, frees half of them, hands the other half over,
// takes as many out of those that earlier threads left and frees them, and exits. What it cached must not be
// lost with it.
#include <errno.h>
#include <pthread.h>

#include "../common/clock.h"
#include "../common/rng.h"
#include "common/args.h"
#include "common/cpu.h"
#include "common/line.h"
#include "common/touch.h"

enum { MOST_AT_ONCE = 64, BLOCKS = 16, BOX = 128 };

static uint64_t low = 64 << 10, high = 2 << 20, threads = 400, at_once = 4, seed = 1;

static const struct args_entry table[] = {
    ARGS_BLOCKS(&low, &high),
    {"threads", ARGS_COUNT, &threads, "threads in all", NULL},
    {"at-once", ARGS_COUNT, &at_once, "threads at the same time, 1 to 64", NULL},
    ARGS_SEED(&seed),
    ARGS_END,
};

// Blocks that were handed over; the lock is held for a few instructions, never around a call of the
// allocator.
static pthread_mutex_t box_lock = PTHREAD_MUTEX_INITIALIZER;
static void *box[BOX];
static uint64_t box_count;
static struct memory_average average;

// Puts p into the box; what comes back (p itself when the box is full) the caller must free. NULL: nothing.
static void *exchange(void *p, struct rng *rng) {
    pthread_mutex_lock(&box_lock);
    void *out = NULL;
    if (box_count < BOX) {
        box[box_count++] = p;
    } else {
        uint64_t i = rng_below(rng, BOX);
        out = box[i];
        box[i] = p;
    }
    pthread_mutex_unlock(&box_lock);
    return out;
}

static void *live_and_die(void *index) {
    struct rng rng;
    rng_seed(&rng, rng_combine(seed, (uint64_t)(uintptr_t)index));
    void *mine[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) {
        size_t bytes = rng_between(&rng, low, high);
        mine[i] = touch_malloc(bytes);
        touch_pages(mine[i], bytes);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        free(i % 2 == 0 ? mine[i] : exchange(mine[i], &rng));
    return NULL;
}

int main(int argc, char **argv) {
    args_parse("churn", "Starts threads that allocate, hand over and exit.", table, argc, argv);
    if (at_once < 1 || at_once > MOST_AT_ONCE) args_refuse("--at-once: 1 to 64");
    args_check_blocks(low, high);
    memory_start();
    pthread_t running[MOST_AT_ONCE];
    uint64_t interval = memory_interval(threads), begin = clock_monotonic_ns(), cpu_begin = cpu_ns();
    for (uint64_t i = 0; i < threads; i++) {
        if (i >= at_once) pthread_join(running[i % at_once], NULL);
        errno = pthread_create(&running[i % at_once], NULL, live_and_die, (void *)(uintptr_t)i);
        if (errno != 0) fail_errno("cannot start a thread");
        if (i % interval == 0) memory_sample(&average, clock_monotonic_ns(), 0);
    }
    for (uint64_t i = threads > at_once ? threads - at_once : 0; i < threads; i++)
        pthread_join(running[i % at_once], NULL);
    uint64_t passed = clock_monotonic_ns() - begin, cpu_passed = cpu_ns() - cpu_begin;
    struct line_memory memory = line_gather();
    for (uint64_t i = 0; i < box_count; i++)
        free(box[i]);
    uint64_t after = memory_rss_bytes();
    line_begin("churn");
    line_count("threads", threads);
    line_count("at_once", at_once);
    line_times(passed, cpu_passed);
    line_real("ns_per_thread", (double)passed / (double)(threads > 0 ? threads : 1));
    line_count("rss_after_bytes", after);
    line_average(&average);
    line_memory(&memory);
    return line_end();
}
