// SPDX-License-Identifier: MIT
// calloc, touch, free: sparse programs touch two pages of a block, dense ones all. Every byte touched must
// have been 0.
#include "common/args.h"
#include "common/batch.h"
#include "common/line.h"
#include "common/touch.h"

static uint64_t size = 1 << 20;
static double seconds = 0.2;
static const char *use = "dense";

static const struct args_entry table[] = {
    {"size", ARGS_BYTES, &size, "size of the block", NULL},
    {"use", ARGS_WORD, &use, "touch two pages or all", "sparse dense"},
    {"seconds", ARGS_REAL, &seconds, "how long to measure", NULL},
    {NULL, ARGS_COUNT, NULL, NULL, NULL},
};

static struct batch blocks;

// Adds 1 in one instruction: a load first would map the kernel's zero page, and the store fault a second
// time.
static inline void mark(char *p, size_t at) {
    __asm__ volatile("addb $1, %0" : "+m"(p[at]));
    if (p[at] != 1) fail_exit(FAIL_RUN, "calloc: byte %zu of %llu is not zero", at, (unsigned long long)size);
}

static char *zeroed(void) {
    char *p = calloc(1, size);
    if (p == NULL) fail_memory("calloc", size);
    touch_escape(p);
    return p;
}

static void run_sparse(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        char *p = zeroed();
        mark(p, size / 3);
        mark(p, size - size / 3);
        free(p);
    }
}

static void run_dense(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        char *p = zeroed();
        for (size_t at = 0; at < size; at += TOUCH_PAGE)
            mark(p, at);
        free(p);
    }
}

int main(int argc, char **argv) {
    args_parse("zeroed", "Times calloc, touching, and free.", table, argc, argv);
    if (size < 3) args_refuse("--size: at least 3");
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
