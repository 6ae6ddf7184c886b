/* SPDX-License-Identifier: MIT */
/* fill.h: what is learned about sizes of blocks: are they filled by who gets them?
 *
 * A habit (habit.h) for each power of two of size. Who looks at blocks tells (pool/zero.h, watch.h).
 */
#ifndef ZP_LEARN_FILL_H
#define ZP_LEARN_FILL_H

#include "base/size_class.h"
#include "heap/heap.h"
#include "learn/habit.h"

#define LOOK_BACK_BLOCKS 3

/* What is learned about one power of two of block sizes. Plain relaxed fields: a lost update is
 * harmless. */
struct learned {
    struct habit malloced, zeroed; /* zeroed ones of all callers together */
    _Atomic uint16_t n_fresh;      /* blocks of untouched memory handed out */
    /* of the last ones, by n_fresh, those that were left as they were: page number in the space <<
     * LAST_FRESH_SHIFT | pages, with LEFT_HUGE for those with huge pages, or 0. The flags of a block are its
     * owner's, so who looks does not ask them */
    _Atomic uint64_t left[LOOK_BACK_BLOCKS];
    _Atomic uint64_t last_ahead; /* the last that was made resident beforehand */
    _Atomic uint16_t last_ahead_number;
    /* by whom these blocks were asked for (tcache_thread_mark) */
    _Atomic uint16_t left_by[LOOK_BACK_BLOCKS], last_ahead_by;
    _Atomic uint16_t n_looked;  /* n_fresh when these two were last looked at */
    _Atomic int8_t tail_sparse; /* blocks that have grown: > 0 what they grew by last is left untouched */
    uint8_t n_warm_filled;      /* warm blocks seen filled since one was not, at most FILL_WARM_TRUST */
    uint8_t n_empty;            /* seen without a touched page since one had any, at most FILL_EMPTY_TRUST */
    /* made resident beforehand since a block was last seen filled by the program */
    _Atomic uint32_t ahead_pages;
};
#define LAST_FRESH_SHIFT 27
#define LEFT_HUGE ((uint64_t)1 << 63)
_Static_assert(CLASS_MAX_PAGES_LOG2 < LAST_FRESH_SHIFT, "a block fits");

struct learned_sizes {
    struct learned size[HEAP_SIZES];
};

/* After a sparse block so many filled ones, and one more, are wanted in a row at least. One filled block is
 * enough for a caller to have its blocks cleared: a purge that was wrong costs twenty times as much as a
 * memset that was. Not for what makes memory resident. */
#define LEAST_PENALTY 1
#define LEAST_PENALTY_CALLER 0

static inline struct learned *fill_of(struct learned_sizes *sizes, size_t n_pages) {
    return &sizes->size[log2_floor(n_pages)];
}

/* A block of this size has been seen in use. */
static inline void fill_used(struct learned *learned) {
    atomic_store_explicit(&learned->ahead_pages, 0, memory_order_relaxed);
}

/* A block of such a size has been seen filled, or not. */
void fill_learn(struct learned *learned, bool filled);

/* Are blocks of this size, not zeroed ones, filled by who gets them? > 0 yes, < 0 no, 0 not known. */
int fill_habit(const struct learned_sizes *sizes, size_t n_pages);

/* A block that was handed out warm has been seen filled, or not; and have enough such blocks been filled? */
void fill_learn_warm(struct learned_sizes *sizes, size_t n_pages, bool filled);
#define FILL_WARM_TRUST 4
/* One was not filled yet when the next was asked for: so many have to be seen anew. */
void fill_doubt_warm(struct learned_sizes *sizes, size_t n_pages);
bool fill_trusts_warm(const struct learned_sizes *sizes, size_t n_pages);

/* A block came back without a single touched page, or with one. Does the program leave blocks of this size
 * alone? Then nothing need be given back before they are handed out or asked for: it is not there. Only up to
 * FILL_EMPTY_MAX_PAGES, since one in FILL_EMPTY_ONE_IN is looked at from then on. */
void fill_learn_empty(struct learned *learned, bool empty);
#define FILL_EMPTY_TRUST 8
#define FILL_EMPTY_ONE_IN 16
#define FILL_EMPTY_MAX_PAGES (4 * MIB >> PAGE_SHIFT)
bool fill_left_empty(const struct learned_sizes *sizes, size_t n_pages);

#endif
