// SPDX-License-Identifier: MIT
// The hot pair: malloc and free of one block that nobody touches, over and over. What the calls themselves
// cost.
#include "common/args.h"
#include "common/batch.h"
#include "common/line.h"
#include "common/touch.h"

static uint64_t size = 65536, alignment = 0;
static double seconds = 0.04;

static const struct args_entry table[] = {
    ARGS_SIZE(&size),
    {"align", ARGS_BYTES, &alignment, "use aligned_alloc with this alignment; 0: malloc", NULL},
    ARGS_SECONDS(&seconds),
    ARGS_END,
};

static struct batch pairs;

static void run_malloc(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        void *p = malloc(size);
        touch_escape(p);
        free(p);
    }
}

static void run_aligned(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        void *p = aligned_alloc(alignment, size);
        touch_escape(p);
        free(p);
    }
}

int main(int argc, char **argv) {
    args_parse("pair", "Times malloc and free of one untouched block.", table, argc, argv);
    if (alignment > 0 && (alignment & (alignment - 1)) != 0) args_refuse("--align: 0 or a power of two");
    void (*run)(uint64_t) = alignment > 0 ? run_aligned : run_malloc;
    void *p = alignment > 0 ? aligned_alloc(alignment, size) : malloc(size);
    if (p == NULL) fail_memory(alignment > 0 ? "aligned_alloc" : "malloc", size);
    if (alignment > 0 && (uintptr_t)p % alignment != 0)
        fail_exit(FAIL_RUN, "aligned_alloc: %p is not aligned", p);
    free(p);
    memory_start();
    uint64_t n = batch_size(run), begin = clock_monotonic_ns();
    while (batch_goes_on(&pairs, begin, seconds))
        batch_add(&pairs, n, run);
    struct line_memory memory = line_gather();
    line_begin("pair");
    line_count("size", size);
    line_count("align", alignment);
    line_real("ns", batch_median(&pairs));
    line_real("ns_least", batch_smallest(&pairs));
    line_count("batches", pairs.count);
    line_count("pairs_per_batch", n);
    line_memory(&memory);
    return line_end();
}
