// SPDX-License-Identifier: MIT
// calloc, touch, free: sparse programs touch two pages of a block, dense ones all. Every byte touched must
// have been 0. Programs that change their habit do one for some blocks, then the other, at the same call; in
// turns two calls each have their own.
#include "common/args.h"
#include "common/batch.h"
#include "common/line.h"
#include "common/touch.h"

static uint64_t size = 1 << 20;
static double seconds = 0.2;
static uint64_t phase = 32, cycles = 8;
static const char *use = "dense";

static const struct args_entry table[] = {
    ARGS_SIZE(&size),
    {"use", ARGS_WORD, &use, "touch two pages, all, one then the other, or in turns",
     "sparse dense habit turns"},
    {"phase", ARGS_COUNT, &phase, "habit, turns: blocks before the other use begins", NULL},
    {"cycles", ARGS_COUNT, &cycles, "habit, turns: how often both", NULL},
    ARGS_SECONDS(&seconds),
    ARGS_END,
};

static struct batch blocks;

// Adds 1 in one instruction: a load first would map the kernel's zero page, and the store fault a second
// time.
static inline void mark(char *p, size_t at) {
    __asm__ volatile("addb $1, %0" : "+m"(p[at]));
    if (p[at] != 1) fail_exit(FAIL_RUN, "calloc: byte %zu of %llu is not zero", at, (unsigned long long)size);
}

// Inline, so that each of our callers is a place of its own.
static inline __attribute__((always_inline)) char *zeroed(void) {
    char *p = calloc(1, size);
    if (p == NULL) fail_memory("calloc", size);
    touch_escape(p);
    return p;
}

static void mark_few(char *p) {
    mark(p, size / 3);
    mark(p, size - size / 3);
}

static void mark_all(char *p) {
    for (size_t at = 0; at < size; at += TOUCH_PAGE)
        mark(p, at);
}

static __attribute__((noinline)) void run_sparse(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        char *p = zeroed();
        mark_few(p);
        free(p);
    }
}

static __attribute__((noinline)) void run_dense(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        char *p = zeroed();
        mark_all(p);
        free(p);
    }
}

static __attribute__((noinline)) void run_either(uint64_t n, bool dense) {
    for (uint64_t i = 0; i < n; i++) {
        char *p = zeroed();
        dense ? mark_all(p) : mark_few(p);
        free(p);
    }
}

static struct batch sparse_blocks, dense_blocks;

static void phase_sparse(uint64_t n) {
    run_either(n, false);
}

static void phase_dense(uint64_t n) {
    run_either(n, true);
}

// Blocks for one call and for the other, one after the other.
static void run_turns(void) {
    uint64_t ns[2] = {0};
    for (uint64_t i = 0; i < phase; i++) {
        uint64_t begin = clock_monotonic_ns();
        run_sparse(1);
        uint64_t middle = clock_monotonic_ns();
        run_dense(1);
        ns[0] += middle - begin;
        ns[1] += clock_monotonic_ns() - middle;
    }
    sparse_blocks.ns[sparse_blocks.count++] = (double)ns[0] / (double)phase;
    dense_blocks.ns[dense_blocks.count++] = (double)ns[1] / (double)phase;
}

// The habit changes with every phase. A phase is a batch; the first cycle is not counted.
static int measure_changes(void) {
    bool turns = args_is(use, "turns");
    uint64_t faults = 0, rss[2] = {0};
    for (uint64_t i = 0; i <= cycles; i++) {
        if (i == 1) faults = memory_minor_faults();
        if (i == 1) sparse_blocks.count = dense_blocks.count = 0;
        if (turns) run_turns();
        if (!turns) batch_add(&sparse_blocks, phase, phase_sparse);
        rss[0] = memory_rss_bytes();
        if (!turns) batch_add(&dense_blocks, phase, phase_dense);
        rss[1] = memory_rss_bytes();
    }
    faults = memory_minor_faults() - faults;
    struct line_memory memory = line_gather();
    line_begin("zeroed");
    line_count("size", size);
    line_text("use", use);
    line_count("phase", phase);
    line_real("ns_sparse", batch_median(&sparse_blocks));
    line_real("ns_dense", batch_median(&dense_blocks));
    line_real("faults_per_block", (double)faults / (double)(2 * phase * cycles));
    line_count("rss_sparse_bytes", rss[0]);
    line_count("rss_dense_bytes", rss[1]);
    line_memory(&memory);
    return line_end();
}

int main(int argc, char **argv) {
    args_parse("zeroed", "Times calloc, touching, and free.", table, argc, argv);
    if (size < 3) args_refuse("--size: at least 3");
    if (phase < 1 || cycles < 1 || cycles >= BATCH_MOST)
        args_refuse("--phase and --cycles: at least 1, cycles at most 4095");
    if (args_is(use, "habit") || args_is(use, "turns")) {
        memory_start();
        return measure_changes();
    }
    void (*run)(uint64_t) = args_is(use, "dense") ? run_dense : run_sparse;
    memory_start();
    // A few blocks before anything counts: allocators that learn from use may learn.
    run(4);
    uint64_t n = batch_size(run), before = memory_minor_faults(), begin = clock_monotonic_ns();
    while (batch_goes_on(&blocks, begin, seconds))
        batch_add(&blocks, n, run);
    uint64_t faults = memory_minor_faults() - before, count = n * blocks.count;
    struct line_memory memory = line_gather();
    line_begin("zeroed");
    line_count("size", size);
    line_text("use", use);
    line_real("ns", batch_median(&blocks));
    line_real("ns_least", batch_smallest(&blocks));
    line_count("blocks", count);
    line_real("faults_per_block", (double)faults / (double)count);
    line_memory(&memory);
    return line_end();
}
