/* SPDX-License-Identifier: MIT */
/* fill.c: see fill.h. */
#include "learn/fill.h"

/* Filled blocks in a row are wanted before anything is believed again, twice as many each time a belief was
 * wrong: where one block in eight is filled, two of them in a row come soon, eight never do. */
#define PENALTY_MAX 15

void fill_learn(struct learned *learned, bool filled) {
    int8_t value = atomic_load_explicit(&learned->filled, memory_order_relaxed);
    uint8_t penalty = READ_RELAXED(learned->penalty);
    if (filled) {
        value = (int8_t)(value < VOTE_MAX ? value + 1 : VOTE_MAX);
        atomic_store_explicit(&learned->ahead_pages, 0, memory_order_relaxed);
    } else {
        penalty = (uint8_t)(value > 0 ? min_size(2 * penalty + 1u, PENALTY_MAX) : max_size(penalty, 1));
        WRITE_RELAXED(learned->penalty, penalty);
        value = (int8_t)-penalty;
    }
    atomic_store_explicit(&learned->filled, value, memory_order_relaxed);
}

int fill_habit(const struct learned_sizes *sizes, size_t n_pages) {
    return atomic_load_explicit(&sizes->size[log2_floor(n_pages)].filled, memory_order_relaxed);
}

void fill_learn_warm(struct learned_sizes *sizes, size_t n_pages, bool filled) {
    struct learned *learned = fill_of(sizes, n_pages);
    fill_learn(learned, filled);
    WRITE_RELAXED(learned->n_warm_filled,
                  filled ? (uint8_t)min_size(READ_RELAXED(learned->n_warm_filled) + 1u, FILL_WARM_TRUST) : 0);
}

bool fill_trusts_warm(const struct learned_sizes *sizes, size_t n_pages) {
    return READ_RELAXED(sizes->size[log2_floor(n_pages)].n_warm_filled) >= FILL_WARM_TRUST;
}
