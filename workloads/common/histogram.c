// SPDX-License-Identifier: MIT
// Merging and reading log-bucketed histograms.
#include "histogram.h"

void histogram_merge(struct histogram *into, const struct histogram *from) {
    into->count += from->count;
    if (from->max > into->max) into->max = from->max;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->bucket[i] += from->bucket[i];
}

static uint64_t histogram_middle(unsigned index) {
    if (index < HISTOGRAM_SUB) return index;
    unsigned shift = index / HISTOGRAM_SUB - 1;
    uint64_t low = (uint64_t)(HISTOGRAM_SUB + index % HISTOGRAM_SUB) << shift;
    return low + (((uint64_t)1 << shift) >> 1);
}

uint64_t histogram_percentile(const struct histogram *h, double fraction) {
    if (h->count == 0) return 0;
    // Rank of the wanted record, counted from 1 and rounded up.
    double wanted = fraction * (double)h->count;
    uint64_t rank = (uint64_t)wanted;
    if ((double)rank < wanted) rank++;
    if (rank < 1) rank = 1;

    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen < rank) continue;
        // The last bucket is open-ended, and a bucket's middle may lie above the largest record.
        uint64_t middle = i == HISTOGRAM_BUCKETS - 1 ? h->max : histogram_middle(i);
        return middle < h->max ? middle : h->max;
    }
    return h->max;
}
