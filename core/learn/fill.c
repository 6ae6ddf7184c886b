/* SPDX-License-Identifier: MIT */
/* fill.c: see fill.h. */
#include "learn/fill.h"

void fill_learn(struct learned *learned, bool filled) {
    if (filled) fill_used(learned);
    habit_learn(&learned->malloced, filled, LEAST_PENALTY);
}

int fill_habit(const struct learned_sizes *sizes, size_t n_pages) {
    return habit_filled(&sizes->size[log2_floor(n_pages)].malloced);
}

void fill_learn_warm(struct learned_sizes *sizes, size_t n_pages, bool filled) {
    struct learned *learned = fill_of(sizes, n_pages);
    fill_learn(learned, filled);
    WRITE_RELAXED(learned->n_warm_filled,
                  filled ? (uint8_t)min_size(READ_RELAXED(learned->n_warm_filled) + 1u, FILL_WARM_TRUST) : 0);
}

void fill_doubt_warm(struct learned_sizes *sizes, size_t n_pages) {
    WRITE_RELAXED(fill_of(sizes, n_pages)->n_warm_filled, 0);
}

bool fill_trusts_warm(const struct learned_sizes *sizes, size_t n_pages) {
    return READ_RELAXED(sizes->size[log2_floor(n_pages)].n_warm_filled) >= FILL_WARM_TRUST;
}

void fill_learn_empty(struct learned *learned, bool empty) {
    WRITE_RELAXED(learned->n_empty,
                  empty ? (uint8_t)min_size(READ_RELAXED(learned->n_empty) + 1u, FILL_EMPTY_TRUST) : 0);
}

bool fill_left_empty(const struct learned_sizes *sizes, size_t n_pages) {
    return n_pages <= FILL_EMPTY_MAX_PAGES &&
           READ_RELAXED(sizes->size[log2_floor(n_pages)].n_empty) >= FILL_EMPTY_TRUST;
}
