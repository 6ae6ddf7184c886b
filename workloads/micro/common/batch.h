// SPDX-License-Identifier: MIT
// Timing of something that takes nanoseconds to milliseconds: batches, and the median and the smallest of
// them.
//
// A batch is about BATCH_NS long, so the clock's 50 ns do not show, and short against a time slice: when
// somebody else gets the processor, one batch is spoiled and the median does not move.
#ifndef MICRO_BATCH_H
#define MICRO_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../common/clock.h"

enum { BATCH_NS = 100000, BATCH_MOST = 4096, BATCH_LEAST = 3 };

struct batch {
    double ns[BATCH_MOST]; // per call
    unsigned count;
};

// Calls `body` n times between two looks at the clock and notes nanoseconds per call.
static inline void batch_add(struct batch *b, uint64_t n, void (*body)(uint64_t n)) {
    uint64_t begin = clock_monotonic_ns();
    body(n);
    double ns = (double)(clock_monotonic_ns() - begin) / (double)n;
    if (b->count < BATCH_MOST) b->ns[b->count++] = ns;
}

// How many calls make one batch; a warm-up at the same time. Each size is tried twice, because the first time
// may fault.
static inline uint64_t batch_size(void (*body)(uint64_t n)) {
    uint64_t n = 1;
    for (;;) {
        uint64_t passed = UINT64_MAX;
        for (unsigned i = 0; i < 2; i++) {
            uint64_t begin = clock_monotonic_ns();
            body(n);
            uint64_t this_time = clock_monotonic_ns() - begin;
            if (this_time < passed) passed = this_time;
        }
        if (passed >= BATCH_NS / 2 || n >= 1u << 20) return n;
        n = passed < BATCH_NS / 16 ? n * 8 : n * 2;
    }
}

// Enough measured? At least BATCH_LEAST batches, and `seconds` in all.
static inline bool batch_goes_on(const struct batch *b, uint64_t begin_ns, double seconds) {
    if (b->count < BATCH_LEAST) return true;
    return b->count < BATCH_MOST && (double)(clock_monotonic_ns() - begin_ns) < seconds * 1e9;
}

// Sorts the batches.
double batch_median(struct batch *b);
double batch_smallest(struct batch *b);

#endif
