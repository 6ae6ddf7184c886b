// SPDX-License-Identifier: MIT
// A long run whose sizes change: does memory stay in proportion, or do the holes of one phase not fit the
// next?
//
// Live bytes are held just below --live. In each phase random blocks are freed and blocks of the phase's
// range take their place until --turnover times the live bytes have been allocated; all phases make one
// cycle. Compared are the mean RSS of the first cycle and of the last.
#include "../common/clock.h"
#include "../common/rng.h"
#include "common/args.h"
#include "common/cpu.h"
#include "common/line.h"
#include "common/touch.h"

enum { MOST_BLOCKS = 1 << 16, SAMPLES_PER_PHASE = 32, MOST_CYCLES = 64 };

static uint64_t live_limit = 200 << 20, cycles = 4, seed = 1;
static double turnover = 1.5;

static const struct args_entry table[] = {
    {"live", ARGS_BYTES, &live_limit, "live bytes", NULL},
    {"cycles", ARGS_COUNT, &cycles, "how often all phases are gone through, 1 to 64", NULL},
    {"turnover", ARGS_REAL, &turnover, "a phase allocates this many times the live bytes", NULL},
    {"seed", ARGS_COUNT, &seed, "same seed, same sequence", NULL},
    ARGS_END,
};

static const struct {
    uint64_t low, high;
} phases[] = {
    {16 << 10, 64 << 10}, {1 << 20, 8 << 20},   {64 << 10, 512 << 10},
    {5 << 20, 25 << 20},  {16 << 10, 32 << 20},
};
enum { PHASES = sizeof phases / sizeof phases[0] };

struct block {
    void *p;
    size_t bytes;
};

static struct block blocks[MOST_BLOCKS];
static uint64_t n_blocks, live, operations;
static struct memory_average cycle_average[MOST_CYCLES], whole;

static void drop_one(struct rng *rng) {
    uint64_t i = rng_below(rng, n_blocks);
    live -= blocks[i].bytes;
    free(blocks[i].p);
    blocks[i] = blocks[--n_blocks];
}

static void run_phase(unsigned phase, uint64_t cycle, struct rng *rng) {
    uint64_t todo = (uint64_t)(turnover * (double)live_limit), step = todo / SAMPLES_PER_PHASE, next = step;
    for (uint64_t done = 0; done < todo; operations++) {
        // The last phase takes all doublings alike, the others are uniform.
        size_t bytes = phase == PHASES - 1 ? rng_octaves(rng, phases[phase].low, phases[phase].high)
                                           : rng_between(rng, phases[phase].low, phases[phase].high);
        while (n_blocks > 0 && (live + bytes > live_limit || n_blocks == MOST_BLOCKS))
            drop_one(rng);
        struct block *b = &blocks[n_blocks++];
        b->bytes = bytes;
        b->p = touch_malloc(bytes);
        touch_pages(b->p, bytes);
        live += bytes;
        done += bytes;
        if (done < next) continue;
        next = done + step;
        uint64_t now = clock_monotonic_ns();
        memory_sample(&cycle_average[cycle], now, live);
        memory_sample(&whole, now, live);
    }
}

int main(int argc, char **argv) {
    args_parse("shift", "Replaces live blocks by blocks of other sizes, phase by phase.", table, argc, argv);
    if (cycles < 1 || cycles > MOST_CYCLES) args_refuse("--cycles: 1 to 64");
    memory_start();
    struct rng rng;
    rng_seed(&rng, seed);
    uint64_t begin = clock_monotonic_ns(), cpu_begin = cpu_ns();
    for (uint64_t cycle = 0; cycle < cycles; cycle++)
        for (unsigned phase = 0; phase < PHASES; phase++)
            run_phase(phase, cycle, &rng);
    uint64_t passed = clock_monotonic_ns() - begin, cpu_passed = cpu_ns() - cpu_begin;
    struct line_memory memory = line_gather();
    line_begin("shift");
    line_count("live", live_limit);
    line_count("cycles", cycles);
    line_count("operations", operations);
    line_times(passed, cpu_passed);
    line_real("overhead", memory_mean_rss(&whole) / memory_mean_live(&whole));
    line_real("first_cycle_rss_bytes", memory_mean_rss(&cycle_average[0]));
    line_real("last_cycle_rss_bytes", memory_mean_rss(&cycle_average[cycles - 1]));
    line_real("drift", memory_mean_rss(&cycle_average[cycles - 1]) / memory_mean_rss(&cycle_average[0]));
    line_average(&whole);
    line_memory(&memory);
    return line_end();
}
