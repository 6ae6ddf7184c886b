// SPDX-License-Identifier: MIT
// Producers allocate and fill blocks, consumers read and free them: every free is another thread's than the
// malloc.
//
// Each pair of threads has a ring of its own that only the two touch, without a lock: a shared queue with a
// mutex would cost more than the calls that are measured. A thread that finds its ring full or empty gives
// the processor away.
#include <sched.h>
#include <stdatomic.h>

#include "../common/clock.h"
#include "../common/rng.h"
#include "common/args.h"
#include "common/line.h"
#include "common/team.h"
#include "common/touch.h"

enum { MOST_DEPTH = 8192 };

static uint64_t low = 64 << 10, high = 512 << 10, pairs = 1, depth = 256, blocks = 20000, seed = 1;
static const char *pin = "none";

static const struct args_entry table[] = {
    ARGS_BLOCKS(&low, &high),
    {"pairs", ARGS_COUNT, &pairs, "pairs of a producer and a consumer, 1 to 32", NULL},
    {"depth", ARGS_COUNT, &depth, "most blocks on their way, of all pairs together", NULL},
    {"blocks", ARGS_COUNT, &blocks, "blocks in all", NULL},
    TEAM_PIN(&pin),
    ARGS_SEED(&seed),
    ARGS_END,
};

struct block {
    void *p;
    size_t bytes;
};

struct ring {
    _Atomic uint64_t put __attribute__((aligned(64))); // written by the producer
    _Atomic uint64_t got __attribute__((aligned(64))); // written by the consumer
    struct block slot[MOST_DEPTH];
};

static struct ring *rings;
static uint64_t depth_each, blocks_each;
static struct team_time elapsed;
static struct memory_average average; // of the first consumer
static unsigned sums[TEAM_MOST];

static void produce(unsigned index) {
    struct ring *ring = &rings[index];
    struct rng rng;
    rng_seed(&rng, rng_combine(seed, index));
    for (uint64_t i = 0; i < blocks_each; i++) {
        size_t bytes = rng_between(&rng, low, high);
        void *p = touch_malloc(bytes);
        touch_pages(p, bytes);
        // acquire: the consumer has read the slot; release below: the block is filled before it is seen.
        while (i - atomic_load_explicit(&ring->got, memory_order_acquire) >= depth_each)
            sched_yield();
        ring->slot[i % depth_each] = (struct block){p, bytes};
        atomic_store_explicit(&ring->put, i + 1, memory_order_release);
    }
}

static void consume(unsigned index) {
    struct ring *ring = &rings[index];
    uint64_t interval = memory_interval(blocks_each);
    for (uint64_t i = 0; i < blocks_each; i++) {
        while (atomic_load_explicit(&ring->put, memory_order_acquire) == i)
            sched_yield();
        struct block block = ring->slot[i % depth_each];
        atomic_store_explicit(&ring->got, i + 1, memory_order_release);
        sums[index] += touch_read(block.p, block.bytes);
        free(block.p);
        if (index == 0 && i % interval == 0) memory_sample(&average, clock_monotonic_ns(), 0);
    }
}

static void work(unsigned index) {
    struct team_time begin = team_begin();
    if (index % 2 == 0)
        produce(index / 2);
    else
        consume(index / 2);
    struct team_time took = team_end(begin);
    if (index == 0) elapsed = took;
}

int main(int argc, char **argv) {
    args_parse("handoff", "Passes blocks from the threads that allocate them to threads that free them.",
               table, argc, argv);
    if (pairs < 1 || pairs > TEAM_MOST / 2) args_refuse("--pairs: 1 to 32");
    args_check_blocks(low, high);
    depth_each = depth / pairs > 0 ? depth / pairs : 1;
    if (depth_each > MOST_DEPTH) args_refuse("--depth: at most 8192 for each pair");
    blocks_each = blocks / pairs;
    rings = aligned_alloc(64, pairs * sizeof *rings);
    if (rings == NULL) fail_memory("aligned_alloc", pairs * sizeof *rings);
    for (uint64_t i = 0; i < pairs; i++)
        rings[i].put = rings[i].got = 0;
    memory_start();
    team_pin(pin);
    team_run((unsigned)pairs * 2, work);
    struct line_memory memory = line_gather();
    touch_escape(sums);
    uint64_t total = blocks_each * pairs;
    line_begin("handoff");
    line_count("low", low);
    line_count("high", high);
    line_count("pairs", pairs);
    line_text("pin", pin);
    line_count("depth", depth_each * pairs);
    line_count("operations", total);
    line_times(elapsed.ns, elapsed.cpu_ns);
    line_real("ns_per_operation", (double)elapsed.ns / (double)(total > 0 ? total : 1));
    line_average(&average);
    line_memory(&memory);
    return line_end();
}
