/* SPDX-License-Identifier: MIT */
/* size_class.h: the mapping between block sizes in pages and size classes.
 *
 * Classes 1..16 are 1..16 pages; from there on 16 classes a doubling, so a block is at most 1/16 larger than
 * asked for and 1/32 on average. The figure is a trade: with 8 classes a doubling thread caches hit a little
 * more often, but recycled (dirty) tails cost about 4.5 % of resident memory instead of 2.3 %. Class 0 is
 * unused, so that a zeroed descriptor belongs to no class.
 */
#ifndef ZP_BASE_SIZE_CLASS_H
#define ZP_BASE_SIZE_CLASS_H

#include "base/bits.h"

#define CLASS_STEPS_LOG2 4
#define CLASS_STEPS (1u << CLASS_STEPS_LOG2)
/* The largest class is 2^26 pages = 256 GiB: (26 - 4) doublings of 16 steps after the first 16. */
#define CLASS_MAX_PAGES_LOG2 26
#define N_CLASSES (CLASS_STEPS + (CLASS_MAX_PAGES_LOG2 - CLASS_STEPS_LOG2) * CLASS_STEPS + 1)
#define CLASS_MAX_PAGES ((size_t)1 << CLASS_MAX_PAGES_LOG2)

/* The smallest class whose blocks hold n_pages. 1 <= n_pages <= CLASS_MAX_PAGES. */
static inline unsigned class_of_pages(size_t n_pages) {
    if (n_pages <= CLASS_STEPS) return (unsigned)n_pages;
    size_t last = n_pages - 1;
    unsigned shift = log2_floor(last) - CLASS_STEPS_LOG2;
    return (shift << CLASS_STEPS_LOG2) + (unsigned)(last >> shift) + 1;
}

/* The same from a table of one cache line, for the sizes that are asked for most. 1 <= n_pages <=
 * CLASS_TABLE_PAGES. */
#define CLASS_TABLE_PAGES 64
extern const uint8_t class_table[CLASS_TABLE_PAGES]
    __attribute__((visibility("hidden"), aligned(CACHE_LINE)));
static inline unsigned class_of_few_pages(size_t n_pages) {
    return class_table[n_pages - 1];
}

/* The size in pages of the blocks of a class. */
static inline size_t class_pages(unsigned cls) {
    if (cls <= CLASS_STEPS) return cls;
    unsigned shift = (cls - 1) / CLASS_STEPS - 1;
    unsigned step = (cls - 1) % CLASS_STEPS;
    return (size_t)(CLASS_STEPS + step + 1) << shift;
}

/* The largest class whose size is at most n_pages: where a free extent of that size is filed, so that
 * everything in a bin fits every request of the bin's class. */
static inline unsigned class_floor(size_t n_pages) {
    if (n_pages >= CLASS_MAX_PAGES) return N_CLASSES - 1;
    unsigned cls = class_of_pages(n_pages);
    return class_pages(cls) > n_pages ? cls - 1 : cls;
}

#endif
