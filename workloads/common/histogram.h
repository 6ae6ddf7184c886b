// SPDX-License-Identifier: MIT
// Log-bucketed histogram: 16 buckets per octave, so a percentile is off by at most about 3 %.
//
// Each thread owns one and records without any synchronisation; histogram_merge adds it to a total after the
// thread is done. Recording is a count-leading-zeros, a shift and two increments, about 2 ns.
#ifndef WORKLOADS_HISTOGRAM_H
#define WORKLOADS_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_SUB_BITS = 4,
    HISTOGRAM_SUB = 1 << HISTOGRAM_SUB_BITS,
    HISTOGRAM_TOP_BIT = 43, // larger values share the last bucket: 2^43 ticks are about an hour
    HISTOGRAM_BUCKETS = (HISTOGRAM_TOP_BIT - HISTOGRAM_SUB_BITS + 2) * HISTOGRAM_SUB,
};

struct histogram {
    uint64_t count;
    uint64_t max; // exact
    uint64_t bucket[HISTOGRAM_BUCKETS];
};

// Values below 16 have a bucket each; above, the bucket is the exponent and the next four bits.
static inline unsigned histogram_index(uint64_t value) {
    if (value < HISTOGRAM_SUB) return (unsigned)value;
    unsigned top = 63u - (unsigned)__builtin_clzll(value);
    if (top > HISTOGRAM_TOP_BIT) return HISTOGRAM_BUCKETS - 1;
    unsigned sub = (unsigned)(value >> (top - HISTOGRAM_SUB_BITS)) & (HISTOGRAM_SUB - 1);
    return (top - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB + sub;
}

static inline void histogram_record(struct histogram *h, uint64_t value) {
    h->count++;
    h->bucket[histogram_index(value)]++;
    if (value > h->max) h->max = value;
}

void histogram_merge(struct histogram *into, const struct histogram *from);

// The value below which `fraction` (0 to 1) of the records lie; the middle of its bucket; 0 when empty.
uint64_t histogram_percentile(const struct histogram *h, double fraction);

#endif
