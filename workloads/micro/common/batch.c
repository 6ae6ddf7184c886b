// SPDX-License-Identifier: MIT
// Median and minimum of batches.
#include "batch.h"

#include <stdlib.h>

static int batch_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double batch_median(struct batch *b) {
    if (b->count == 0) return 0;
    qsort(b->ns, b->count, sizeof b->ns[0], batch_order);
    unsigned middle = b->count / 2;
    return b->count % 2 ? b->ns[middle] : (b->ns[middle - 1] + b->ns[middle]) / 2;
}

double batch_smallest(struct batch *b) {
    if (b->count == 0) return 0;
    qsort(b->ns, b->count, sizeof b->ns[0], batch_order);
    return b->ns[0];
}
