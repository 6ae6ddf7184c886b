// SPDX-License-Identifier: MIT
// A cheap content pattern that tells whose bytes these are and where they belong.
//
// Word i of a block with base b is b + (first + i) * K, so a word copied from another block, or from another
// place of the same block, is wrong. Filling and checking are one addition per word, as fast as memory.
//
// `stride` trades coverage for time. At PATTERN_FULL every byte is covered. Above it, the first and last
// PATTERN_EDGE bytes are covered whole and the middle by one word every `stride` bytes. A foreign write of
// `stride` + 8 bytes is then seen wherever it goes. Two live blocks that overlap share the start of one and
// the end of one, and each of those is written densely: since PATTERN_EDGE is more than PATTERN_LINE + 8, an
// overlap of any length is seen at PATTERN_LINE. PATTERN_PAGE is for a second look at blocks that were filled
// densely.
#ifndef WORKLOADS_PATTERN_H
#define WORKLOADS_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rng.h"

enum {
    PATTERN_FULL = 8,
    PATTERN_LINE = 64,
    PATTERN_PAGE = 4096,
    PATTERN_EDGE = 128,
};

#define PATTERN_INTACT SIZE_MAX

// The same pattern, seen from the owner: what it takes to fill or to check a block.
struct pattern {
    uint64_t base;       // identity; take it from pattern_base
    uint64_t first_word; // index of the block's first word, for pieces of a longer stream
    size_t stride;       // multiple of 8, at least PATTERN_FULL; the same for fill and check
};

static inline uint64_t pattern_base(uint64_t tag) {
    return rng_mix(tag ^ 0x7a65726f706f6f6cu);
}

void pattern_fill(void *block, size_t bytes, struct pattern as);

// Offset of the first wrong word, or PATTERN_INTACT. Adds the words it read to *sum when sum is not NULL, so
// that a checksum reflects what memory really held.
size_t pattern_check(const void *block, size_t bytes, struct pattern as, uint64_t *sum);

// As pattern_check for a block filled at `bytes` of which only the first `kept` remain (a shrinking realloc).
size_t pattern_check_prefix(const void *block, size_t bytes, size_t kept, struct pattern as, uint64_t *sum);

// out[i] = in[i] + delta for whole words: turns the pattern of base b into that of base b + delta.
void pattern_shift(void *out, const void *in, size_t bytes, uint64_t delta);

// Offset of the first byte that is not zero, or PATTERN_INTACT: what calloc promised.
size_t pattern_find_nonzero(const void *block, size_t bytes);

// Overwrite about a page in the middle, as an overlapping owner would; what --inject-corruption does.
void pattern_damage(void *block, size_t bytes);

#endif
