// SPDX-License-Identifier: MIT
// Random live sets: a number of live blocks of random size, of which a random one is replaced over and over.
//
// Every thread has its own share of the slots. First all slots are filled, then each is replaced --turnover
// times on average; the sequence of sizes and slots depends on the options alone, so every allocator does the
// same work and has the same live bytes at every moment. Times are those of the second part; peak RSS is that
// of the whole process.
#include <stdatomic.h>

#include "../common/clock.h"
#include "../common/rng.h"
#include "common/args.h"
#include "common/cpu.h"
#include "common/line.h"
#include "common/team.h"
#include "common/touch.h"

static uint64_t low = 1 << 20, high = 8 << 20, live = 50, threads = 1, seed = 1;
static double turnover = 20;
static const char *fill = "pages", *pin = "none";

static const struct args_entry table[] = {
    ARGS_BLOCKS(&low, &high),
    {"live", ARGS_COUNT, &live, "live blocks of all threads together", NULL},
    {"threads", ARGS_COUNT, &threads, "threads, 1 to 64", NULL},
    {"turnover", ARGS_REAL, &turnover, "how often each block is replaced on average", NULL},
    {"fill", ARGS_WORD, &fill, "what is done with a new block", "pages all none"},
    TEAM_PIN(&pin),
    ARGS_SEED(&seed),
    ARGS_END,
};

struct slot {
    void *p;
    size_t bytes;
};

static struct slot *slots;
static uint64_t ops_per_thread, slots_per_thread;
static bool fill_pages, fill_all;
static uint64_t fill_ns, replace_ns, replace_cpu_ns;
static struct memory_average average; // of thread 0
static _Atomic uint64_t all_live;     // bytes, brought up to date once per sample
static _Atomic uint64_t live_most;

static void place(struct slot *slot, size_t bytes) {
    slot->bytes = bytes;
    slot->p = touch_malloc(bytes);
    if (fill_pages) touch_pages(slot->p, bytes);
    if (fill_all) touch_all(slot->p, bytes);
}

// One counter for all threads would be a cache line that all of them fight for; once per interval it is not.
static void publish(int64_t *change) {
    uint64_t step = (uint64_t)*change;
    uint64_t now = atomic_fetch_add_explicit(&all_live, step, memory_order_relaxed) + step;
    *change = 0;
    uint64_t most = atomic_load_explicit(&live_most, memory_order_relaxed);
    while (now > most && !atomic_compare_exchange_weak(&live_most, &most, now)) {
    }
}

static void replace_all(unsigned index, struct slot *mine, struct rng *rng) {
    uint64_t interval = memory_interval(ops_per_thread);
    int64_t change = 0;
    for (uint64_t i = 0; i < ops_per_thread; i++) {
        struct slot *slot = &mine[rng_below(rng, slots_per_thread)];
        change -= (int64_t)slot->bytes;
        free(slot->p);
        place(slot, rng_between(rng, low, high));
        change += (int64_t)slot->bytes;
        if (i % interval != 0) continue;
        publish(&change);
        if (index == 0) memory_sample(&average, clock_monotonic_ns(), atomic_load(&all_live));
    }
    publish(&change);
}

static void work(unsigned index) {
    struct slot *mine = slots + index * slots_per_thread;
    struct rng rng;
    rng_seed(&rng, rng_combine(seed, index));
    int64_t change = 0;
    team_meet();
    uint64_t begin = clock_monotonic_ns();
    for (uint64_t i = 0; i < slots_per_thread; i++) {
        place(&mine[i], rng_between(&rng, low, high));
        change += (int64_t)mine[i].bytes;
    }
    publish(&change);
    team_meet();
    uint64_t middle = clock_monotonic_ns(), cpu_middle = cpu_ns();
    replace_all(index, mine, &rng);
    team_meet();
    if (index == 0) {
        fill_ns = middle - begin;
        replace_ns = clock_monotonic_ns() - middle;
        replace_cpu_ns = cpu_ns() - cpu_middle;
    }
}

int main(int argc, char **argv) {
    args_parse("liveset", "Replaces random blocks of random size in a set of live blocks.", table, argc,
               argv);
    team_check(threads);
    args_check_blocks(low, high);
    slots_per_thread = live / threads > 0 ? live / threads : 1;
    live = slots_per_thread * threads;
    ops_per_thread = (uint64_t)(turnover * (double)slots_per_thread);
    fill_pages = args_is(fill, "pages");
    fill_all = args_is(fill, "all");
    slots = calloc(live, sizeof *slots);
    if (slots == NULL) fail_memory("calloc", live * sizeof *slots);
    memory_start();
    uint64_t faults_before = memory_minor_faults();
    team_pin(pin);
    team_run((unsigned)threads, work);
    struct line_memory memory = line_gather();

    uint64_t ops = ops_per_thread * threads;
    line_begin("liveset");
    line_count("low", low);
    line_count("high", high);
    line_count("live", live);
    line_count("threads", threads);
    line_text("fill", fill);
    line_text("pin", pin);
    line_count("operations", ops);
    line_real("fill_seconds", (double)fill_ns / 1e9);
    line_times(replace_ns, replace_cpu_ns);
    line_real("ns_per_operation", (double)replace_ns / (double)(ops > 0 ? ops : 1));
    line_count("live_most_bytes", live_most);
    line_count("faults", memory.minor_faults - faults_before);
    line_average(&average);
    line_memory(&memory);
    return line_end();
}
