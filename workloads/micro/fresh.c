// SPDX-License-Identifier: MIT
// The first touch of a large block that no recycled memory can serve, in a program that has filled such
// blocks before.
//
// --shown blocks are filled and freed, one after the other. Then one is filled and kept: whatever an
// allocator retained has gone into it. The next one is what is timed.
#include "../common/clock.h"
#include "common/args.h"
#include "common/cpu.h"
#include "common/line.h"
#include "common/touch.h"

static uint64_t size = 1 << 30, shown = 3;

static const struct args_entry table[] = {
    {"size", ARGS_BYTES, &size, "size of the blocks", NULL},
    {"shown", ARGS_COUNT, &shown, "blocks filled and freed before", NULL},
    ARGS_END,
};

int main(int argc, char **argv) {
    args_parse("fresh", "Times malloc and the first touch of every page of a block.", table, argc, argv);
    memory_start();
    for (uint64_t i = 0; i < shown; i++) {
        void *p = touch_malloc(size);
        touch_pages(p, size);
        free(p);
    }
    void *kept = touch_malloc(size);
    touch_pages(kept, size);
    uint64_t before = memory_minor_faults(), rss_before = memory_rss_bytes(), begin = clock_monotonic_ns();
    uint64_t cpu_begin = cpu_ns();
    void *p = touch_malloc(size);
    touch_pages(p, size);
    uint64_t passed = clock_monotonic_ns() - begin, cpu_passed = cpu_ns() - cpu_begin;
    uint64_t faults = memory_minor_faults() - before, rss = memory_rss_bytes() - rss_before;
    struct line_memory memory = line_gather();
    free(p);
    free(kept);
    line_begin("fresh");
    line_count("size", size);
    line_times(passed, cpu_passed);
    line_count("faults", faults);
    // Less than `size` here means that the block was not fresh, and the time says nothing.
    line_count("rss_grown_bytes", rss);
    line_memory(&memory);
    return line_end();
}
