// SPDX-License-Identifier: MIT
// The allocator's calls with a stop-watch around them: one meter per thread, merged at the end.
//
// The recorded latency is that of the call alone. First touches are not part of it: an allocator that hands
// out cold pages looks fast here and pays in elapsed_seconds and minor_faults, so read them together. Timing
// costs about 20-40 ns per call (see clock.h); --sample N times every Nth call only, --sample 0 none.
#ifndef WORKLOADS_METER_H
#define WORKLOADS_METER_H

#include <stdbool.h>
#include <stdlib.h>

#include "clock.h"
#include "fail.h"
#include "histogram.h"

enum meter_call { METER_MALLOC, METER_CALLOC, METER_REALLOC, METER_FREE, METER_CALLS };

// About 27 KB: keep it on the thread's own stack, so that measuring allocates nothing.
struct meter {
    struct histogram latency[METER_CALLS]; // ticks, see clock.h
    struct histogram unit;                 // ticks per unit of work (request, tensor, chunk, block)
    uint64_t calls[METER_CALLS];
    uint64_t bytes;    // asked for by malloc, calloc and realloc
    uint64_t units;    // units of work done
    uint64_t checksum; // order-independent sum over everything verified
    uint64_t sample_every, until_sample;
};

void meter_start(struct meter *m);

// Add a finished thread's meter to the total. Any thread, locked inside.
void meter_merge(struct meter *total, const struct meter *from);

static inline bool meter_is_due(struct meter *m) {
    if (--m->until_sample != 0) return false;
    m->until_sample = m->sample_every;
    return true;
}

// One unit of work that started at `begin` (clock_begin) is done.
static inline void meter_unit(struct meter *m, uint64_t begin) {
    histogram_record(&m->unit, clock_ticks_since(begin));
    m->units++;
}

static inline void *meter_malloc(struct meter *m, size_t bytes) {
    void *block;
    if (meter_is_due(m)) {
        uint64_t begin = clock_begin();
        block = malloc(bytes);
        histogram_record(&m->latency[METER_MALLOC], clock_ticks_since(begin));
    } else {
        block = malloc(bytes);
    }
    if (block == NULL) fail_memory("malloc", bytes);
    m->calls[METER_MALLOC]++;
    m->bytes += bytes;
    return block;
}

static inline void *meter_calloc(struct meter *m, size_t bytes) {
    void *block;
    if (meter_is_due(m)) {
        uint64_t begin = clock_begin();
        block = calloc(1, bytes);
        histogram_record(&m->latency[METER_CALLOC], clock_ticks_since(begin));
    } else {
        block = calloc(1, bytes);
    }
    if (block == NULL) fail_memory("calloc", bytes);
    m->calls[METER_CALLOC]++;
    m->bytes += bytes;
    return block;
}

static inline void *meter_realloc(struct meter *m, void *old, size_t bytes) {
    void *block;
    if (meter_is_due(m)) {
        uint64_t begin = clock_begin();
        block = realloc(old, bytes);
        histogram_record(&m->latency[METER_REALLOC], clock_ticks_since(begin));
    } else {
        block = realloc(old, bytes);
    }
    if (block == NULL) fail_memory("realloc", bytes);
    m->calls[METER_REALLOC]++;
    m->bytes += bytes;
    return block;
}

static inline void meter_free(struct meter *m, void *block) {
    if (meter_is_due(m)) {
        uint64_t begin = clock_begin();
        free(block);
        histogram_record(&m->latency[METER_FREE], clock_ticks_since(begin));
    } else {
        free(block);
    }
    m->calls[METER_FREE]++;
}

#endif
