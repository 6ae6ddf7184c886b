// SPDX-License-Identifier: MIT
// malloc, touch every page, free; against touching the pages of a buffer that is always there.
//
// The second is what the hardware asks for the touching alone. Both are measured in turns in the same
// process, so that neither a slow moment of the machine nor the physical pages of one run favour one of them
// for long. A third way says what no allocator behind a call can beat: two functions that keep one block in a
// thread-local slot, and check nothing.
#include "common/args.h"
#include "common/batch.h"
#include "common/line.h"
#include "common/touch.h"

enum { MOST_BYTES = 1 << 30 };

static uint64_t size = 1 << 20;
static double seconds = 0.2;

static const struct args_entry table[] = {
    {"size", ARGS_BYTES, &size, "size of the block, at most 1G", NULL},
    ARGS_SECONDS(&seconds),
    ARGS_END,
};

static char fixed[MOST_BYTES] __attribute__((aligned(4096)));
static struct batch allocated, slotted, resident;

static _Thread_local void *slot;

static __attribute__((noinline)) void *slot_get(uint64_t bytes) {
    void *p = slot;
    if (!p || bytes > MOST_BYTES) return NULL;
    slot = NULL;
    return p;
}

static __attribute__((noinline)) void slot_put(void *p) {
    if (!slot) slot = p;
}

static void run_allocated(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        void *p = touch_malloc(size);
        touch_pages(p, size);
        free(p);
    }
}

static void run_slotted(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        void *p = slot_get(size);
        touch_escape(p);
        touch_pages(p, size);
        slot_put(p);
    }
}

static void run_resident(uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        touch_escape(fixed);
        touch_pages(fixed, size);
    }
}

int main(int argc, char **argv) {
    args_parse("touch", "Times malloc, touching every page, and free.", table, argc, argv);
    if (size < 1 || size > MOST_BYTES) args_refuse("--size: at most 1G");
    memory_start();
    uint64_t n_resident = batch_size(run_resident);
    uint64_t n_allocated = batch_size(run_allocated);
    slot = fixed;
    uint64_t n_slotted = batch_size(run_slotted);
    uint64_t before = memory_minor_faults(), begin = clock_monotonic_ns();
    while (batch_goes_on(&allocated, begin, seconds)) {
        batch_add(&allocated, n_allocated, run_allocated);
        batch_add(&slotted, n_slotted, run_slotted);
        batch_add(&resident, n_resident, run_resident);
    }
    uint64_t blocks = n_allocated * allocated.count;
    uint64_t faults = memory_minor_faults() - before;
    struct line_memory memory = line_gather();
    double with = batch_median(&allocated), without = batch_median(&resident);
    line_begin("touch");
    line_count("size", size);
    line_real("ns", with);
    line_real("ns_least", batch_smallest(&allocated));
    line_real("ns_static", without);
    line_real("ns_static_least", batch_smallest(&resident));
    line_real("ratio", with / without);
    line_real("ratio_slot", batch_median(&slotted) / without);
    line_real("ratio_least", batch_smallest(&allocated) / batch_smallest(&resident));
    line_count("blocks", blocks);
    line_real("faults_per_block", (double)faults / (double)blocks);
    line_memory(&memory);
    return line_end();
}
