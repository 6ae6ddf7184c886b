// SPDX-License-Identifier: MIT
// Zipf-distributed ranks: rank r is drawn with probability proportional to 1 / r^s, as packet and object
// sizes are.
#ifndef WORKLOADS_ZIPF_H
#define WORKLOADS_ZIPF_H

#include "rng.h"

enum { ZIPF_RANKS = 1024 };

struct zipf {
    uint64_t below[ZIPF_RANKS]; // cumulative probability, scaled to 2^64 - 1
};

void zipf_init(struct zipf *z, double exponent);

// A rank from 1 (the most frequent) to ZIPF_RANKS. Read-only on z: threads may share it.
unsigned zipf_next(const struct zipf *z, struct rng *r);

#endif
