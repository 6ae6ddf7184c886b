// SPDX-License-Identifier: MIT
// Tasks that hop between threads, as goroutines do that call malloc through cgo: a task takes a block on one
// thread, leaves it untouched and may return it on another.
//
// There are eight tasks a thread, each with two blocks. A thread picks a task, one of its own three times of
// four and else any, and claims it; a task that another thread has just then is passed by. What is done with
// it is one step: the block it has held longest is returned and another taken. Sizes are spread evenly over
// the octaves.
#include <stdatomic.h>

#include "../common/clock.h"
#include "../common/rng.h"
#include "common/args.h"
#include "common/line.h"
#include "common/team.h"
#include "common/touch.h"

enum { TASKS_EACH = 8, BLOCKS = 2, HOP_EVERY = 4 };

static uint64_t low = 40 << 10, high = 4 << 20, threads = 8, steps = 200000, seed = 1;
static const char *pin = "none";

static const struct args_entry table[] = {
    ARGS_BLOCKS(&low, &high),
    {"threads", ARGS_COUNT, &threads, "threads, 1 to 64", NULL},
    {"steps", ARGS_COUNT, &steps, "steps of all threads together", NULL},
    TEAM_PIN(&pin),
    ARGS_SEED(&seed),
    ARGS_END,
};

static struct task {
    _Atomic bool claimed __attribute__((aligned(64)));
    unsigned next, thread;
    void *block[BLOCKS];
} tasks[TEAM_MOST * TASKS_EACH];

static uint64_t steps_each, hops[TEAM_MOST];
static struct team_time elapsed;
static struct memory_average average; // of thread 0

static struct task *claim(unsigned index, struct rng *rng) {
    for (;;) {
        uint64_t pick = rng_below(rng, HOP_EVERY) != 0 ? index * TASKS_EACH + rng_below(rng, TASKS_EACH)
                                                       : rng_below(rng, threads * TASKS_EACH);
        // acquire: what the last thread did with the task is seen; release at its end.
        if (!atomic_exchange_explicit(&tasks[pick].claimed, true, memory_order_acquire)) return &tasks[pick];
    }
}

static void step(struct task *task, struct rng *rng) {
    void **block = &task->block[task->next++ % BLOCKS];
    free(*block);
    *block = touch_malloc(rng_octaves(rng, low, high));
}

static void work(unsigned index) {
    struct rng rng;
    rng_seed(&rng, rng_combine(seed, index));
    uint64_t interval = memory_interval(steps_each), hopped = 0;
    for (unsigned i = 0; i < TASKS_EACH; i++)
        tasks[index * TASKS_EACH + i].thread = index;
    struct team_time begin = team_begin();
    for (uint64_t i = 0; i < steps_each; i++) {
        struct task *task = claim(index, &rng);
        hopped += task->thread != index;
        task->thread = index;
        step(task, &rng);
        atomic_store_explicit(&task->claimed, false, memory_order_release);
        if (index == 0 && i % interval == 0) memory_sample(&average, clock_monotonic_ns(), 0);
    }
    hops[index] = hopped;
    struct team_time took = team_end(begin);
    if (index == 0) elapsed = took;
}

int main(int argc, char **argv) {
    args_parse("hop", "Lets tasks that hold blocks hop between threads.", table, argc, argv);
    team_check(threads);
    args_check_blocks(low, high);
    steps_each = steps / threads;
    memory_start();
    team_pin(pin);
    team_run((unsigned)threads, work);
    struct line_memory memory = line_gather();
    uint64_t hopped = 0, total = steps_each * threads;
    for (unsigned i = 0; i < threads; i++)
        hopped += hops[i];
    line_begin("hop");
    line_count("low", low);
    line_count("high", high);
    line_count("threads", threads);
    line_text("pin", pin);
    line_count("operations", total);
    line_count("hops", hopped);
    line_times(elapsed.ns, elapsed.cpu_ns);
    line_real("ns_per_operation", (double)elapsed.ns / (double)(total > 0 ? total : 1));
    line_average(&average);
    line_memory(&memory);
    return line_end();
}
