// SPDX-License-Identifier: MIT
// Starting and merging meters.
#include "meter.h"

#include <pthread.h>
#include <string.h>

#include "options.h"

void meter_start(struct meter *m) {
    memset(m, 0, sizeof *m);
    // Counting down from the largest number never reaches the next sample: that is --sample 0.
    m->sample_every = options_common.sample != 0 ? options_common.sample : UINT64_MAX;
    m->until_sample = m->sample_every;
}

void meter_merge(struct meter *total, const struct meter *from) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    for (unsigned c = 0; c < METER_CALLS; c++) {
        histogram_merge(&total->latency[c], &from->latency[c]);
        total->calls[c] += from->calls[c];
    }
    histogram_merge(&total->unit, &from->unit);
    total->bytes += from->bytes;
    total->units += from->units;
    total->checksum += from->checksum;
    pthread_mutex_unlock(&lock);
}
