// SPDX-License-Identifier: MIT
// A block that grows by realloc, step by step; every step touches what was added, and in the end all is
// checked.
//
// The first growth of a process is cold, the later ones find whatever the allocator kept; both are reported.
#include "../common/clock.h"
#include "common/args.h"
#include "common/batch.h"
#include "common/cpu.h"
#include "common/line.h"
#include "common/touch.h"

static uint64_t from = 64 << 10, to = 512 << 20, repeat = 3;
static double factor = 1.125;

static const struct args_entry table[] = {
    {"from", ARGS_BYTES, &from, "first size", NULL},
    {"to", ARGS_BYTES, &to, "last size", NULL},
    {"factor", ARGS_REAL, &factor, "each step multiplies the size by this", NULL},
    {"repeat", ARGS_COUNT, &repeat, "how often to grow a block; the first time counts as cold", NULL},
    ARGS_END,
};

static struct batch warm;
static uint64_t steps, moves;

// The byte that marks a page, so that pages that were lost or swapped on the way are noticed.
static char mark(size_t at) {
    return (char)(at / TOUCH_PAGE * 7 + 1);
}

static void grow(uint64_t ignored) {
    (void)ignored;
    size_t size = from, done = 0;
    volatile char *p = touch_malloc(size);
    for (;;) {
        for (; done < size; done += TOUCH_PAGE)
            p[done] = mark(done);
        if (size >= to) break;
        size_t next = (size_t)((double)size * factor);
        if (next > to) next = to;
        if (next <= size) next = size + 1;
        void *q = realloc((void *)p, next);
        if (q == NULL) fail_memory("realloc", next);
        touch_escape(q);
        steps++;
        moves += q != p;
        p = q;
        size = next;
    }
    for (size_t at = 0; at < size; at += TOUCH_PAGE)
        if (p[at] != mark(at)) fail_exit(FAIL_RUN, "realloc lost the contents at %zu", at);
    free((void *)p);
}

int main(int argc, char **argv) {
    args_parse("grow", "Grows a block by realloc and touches what was added.", table, argc, argv);
    if (factor <= 1) args_refuse("--factor must be above 1");
    if (from < 1 || from > to) args_refuse("--from must be at least 1 and at most --to");
    memory_start();
    uint64_t begin = clock_monotonic_ns();
    grow(1);
    double cold = (double)(clock_monotonic_ns() - begin) / 1e9;
    uint64_t cold_peak = memory_peak_bytes();
    uint64_t first_steps = steps, first_moves = moves;
    uint64_t cpu_begin = cpu_ns();
    for (uint64_t i = 1; i < repeat; i++)
        batch_add(&warm, 1, grow);
    double cpu = (double)(cpu_ns() - cpu_begin) / 1e9 / (warm.count > 0 ? warm.count : 1);
    struct line_memory memory = line_gather();
    line_begin("grow");
    line_real("factor", factor);
    line_count("final_bytes", to);
    line_count("steps", first_steps);
    line_count("moves", first_moves);
    line_real("cold_seconds", cold);
    line_real("seconds", batch_median(&warm) / 1e9);
    line_real("cpu_seconds", cpu);
    line_count("cold_peak_rss_bytes", cold_peak);
    line_real("peak_ratio", (double)memory.peak_rss_bytes / (double)to);
    line_memory(&memory);
    return line_end();
}
