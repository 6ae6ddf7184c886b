/* SPDX-License-Identifier: MIT */
/* fill.h: what is learned about sizes of blocks: are they filled by who gets them?
 *
 * A small saturating counter for each power of two of size. Who looks at blocks votes (pool/zero.h, watch.h);
 * one sparse block takes the trust away that several filled ones have earned, and makes the next ones earn it
 * longer.
 */
#ifndef ZP_LEARN_FILL_H
#define ZP_LEARN_FILL_H

#include "base/size_class.h"
#include "heap/heap.h"

/* What is learned about one power of two of block sizes. Plain relaxed fields: a lost update is
 * harmless. */
struct learned {
    /* malloc'ed fresh blocks: > 0 they are filled, < 0 they are touched sparsely */
    _Atomic int8_t filled;
    _Atomic int8_t calloc_filled; /* the same for zeroed blocks */
    _Atomic uint16_t n_cleared;   /* zeroed blocks cleared by memset since the last look */
    _Atomic uint16_t n_fresh;     /* blocks of untouched memory handed out */
    /* the last that was left as it was: page number in the space << LAST_FRESH_SHIFT | pages, or 0 */
    _Atomic uint64_t last_fresh;
    _Atomic uint16_t last_number; /* n_fresh at that time */
    _Atomic int8_t tail_sparse;   /* blocks that have grown: > 0 what they grew by last is left untouched */
    uint8_t n_warm_filled;        /* warm blocks seen filled since one was not, at most FILL_WARM_TRUST */
    /* so many filled blocks in a row, and one more, are wanted after a sparse one */
    uint8_t penalty;
    /* made resident beforehand since a block was last seen filled by the program */
    _Atomic uint32_t ahead_pages;
};
#define LAST_FRESH_SHIFT 27
_Static_assert(CLASS_MAX_PAGES_LOG2 < LAST_FRESH_SHIFT, "a block fits");

struct learned_sizes {
    struct learned size[HEAP_SIZES];
};

/* Bounds of the counters. */
#define VOTE_MAX 3
#define VOTE_SPARSE (-4)

static inline struct learned *fill_of(struct learned_sizes *sizes, size_t n_pages) {
    return &sizes->size[log2_floor(n_pages)];
}

/* A block of such a size has been seen filled, or not. */
void fill_learn(struct learned *learned, bool filled);

/* Are blocks of this size, not zeroed ones, filled by who gets them? > 0 yes, < 0 no, 0 not known. */
int fill_habit(const struct learned_sizes *sizes, size_t n_pages);

/* A block that was handed out warm has been seen filled, or not; and have enough such blocks been filled? */
void fill_learn_warm(struct learned_sizes *sizes, size_t n_pages, bool filled);
#define FILL_WARM_TRUST 4
bool fill_trusts_warm(const struct learned_sizes *sizes, size_t n_pages);

#endif
