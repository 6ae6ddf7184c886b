// SPDX-License-Identifier: MIT
// Zipf ranks by binary search in the cumulative distribution.
#include "zipf.h"

#include <math.h>

void zipf_init(struct zipf *z, double exponent) {
    double total = 0, sum = 0;
    for (unsigned rank = 1; rank <= ZIPF_RANKS; rank++)
        total += pow(rank, -exponent);
    for (unsigned rank = 1; rank <= ZIPF_RANKS; rank++) {
        sum += pow(rank, -exponent);
        // 2^63 * 2 without leaving the range of uint64_t when rounding makes the quotient 1.
        double scaled = ldexp(sum / total, 64);
        z->below[rank - 1] = scaled >= 0x1p64 ? UINT64_MAX : (uint64_t)scaled;
    }
    z->below[ZIPF_RANKS - 1] = UINT64_MAX;
}

unsigned zipf_next(const struct zipf *z, struct rng *r) {
    uint64_t at = rng_next(r);
    unsigned low = 0, high = ZIPF_RANKS - 1;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (z->below[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low + 1;
}
