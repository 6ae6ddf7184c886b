// SPDX-License-Identifier: MIT
// Filling and checking blocks with the position-dependent pattern.
#include "pattern.h"

#include <string.h>

// Odd, with its bits spread: neighbouring words differ in many bits and no two words of a block are equal.
static const uint64_t pattern_step = 0x9e3779b97f4a7c15u;

static uint64_t pattern_load(const unsigned char *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

// A block is covered in three runs: a full head, a strided middle, a full tail.
struct pattern_run {
    size_t begin, end, stride;
};

static unsigned pattern_runs(size_t bytes, size_t stride, struct pattern_run run[3]) {
    if (stride <= PATTERN_FULL || bytes <= 3 * PATTERN_EDGE) {
        run[0] = (struct pattern_run){0, bytes, PATTERN_FULL};
        return 1;
    }
    size_t tail = (bytes - PATTERN_EDGE) & ~(size_t)7;
    run[0] = (struct pattern_run){0, PATTERN_EDGE, PATTERN_FULL};
    run[1] = (struct pattern_run){PATTERN_EDGE, tail, stride};
    run[2] = (struct pattern_run){tail, bytes, PATTERN_FULL};
    return 3;
}

// The dense loops carry the expected word along instead of computing it: compilers vectorise that.
static void pattern_fill_dense(unsigned char *at, size_t words, uint64_t word) {
    for (size_t i = 0; i < words; i++, word += pattern_step)
        memcpy(at + i * 8, &word, 8);
}

static uint64_t pattern_differs_dense(const unsigned char *at, size_t words, uint64_t word, uint64_t *sum) {
    uint64_t differs = 0, total = 0;
    for (size_t i = 0; i < words; i++, word += pattern_step) {
        uint64_t found = pattern_load(at + i * 8);
        differs |= found ^ word;
        total += found;
    }
    *sum += total;
    return differs;
}

static uint64_t pattern_word(struct pattern as, size_t offset) {
    return as.base + (as.first_word + offset / 8) * pattern_step;
}

void pattern_fill(void *block, size_t bytes, struct pattern as) {
    unsigned char *at = block;
    struct pattern_run run[3];
    unsigned runs = pattern_runs(bytes, as.stride, run);
    for (unsigned r = 0; r < runs; r++) {
        size_t offset = run[r].begin;
        if (run[r].stride == PATTERN_FULL) {
            size_t words = (run[r].end - offset) / 8;
            pattern_fill_dense(at + offset, words, pattern_word(as, offset));
            offset += words * 8;
        } else {
            for (; offset < run[r].end; offset += run[r].stride) {
                uint64_t word = pattern_word(as, offset);
                memcpy(at + offset, &word, 8);
            }
            continue;
        }
        if (offset < run[r].end) {
            uint64_t word = pattern_word(as, offset);
            memcpy(at + offset, &word, run[r].end - offset);
        }
    }
}

// After a mismatch: where exactly. Slow and simple, it runs once per lifetime of a process.
static size_t pattern_locate(const unsigned char *at, size_t begin, size_t end, struct pattern as) {
    for (size_t offset = begin; offset < end; offset++) {
        uint64_t word = pattern_word(as, offset);
        if (at[offset] != (unsigned char)(word >> (offset % 8 * 8))) return offset;
    }
    return begin;
}

size_t pattern_check_prefix(const void *block, size_t bytes, size_t kept, struct pattern as, uint64_t *sum) {
    const unsigned char *at = block;
    struct pattern_run run[3];
    unsigned runs = pattern_runs(bytes, as.stride, run);
    uint64_t total = 0;
    for (unsigned r = 0; r < runs; r++) {
        size_t offset = run[r].begin;
        size_t end = run[r].end < kept ? run[r].end : kept;
        if (offset >= end) break;
        if (run[r].stride != PATTERN_FULL) {
            for (; offset + 8 <= end; offset += run[r].stride) {
                uint64_t found = pattern_load(at + offset);
                if (found != pattern_word(as, offset)) return pattern_locate(at, offset, offset + 8, as);
                total += found;
            }
            continue;
        }
        size_t words = (end - offset) / 8;
        if (pattern_differs_dense(at + offset, words, pattern_word(as, offset), &total) != 0)
            return pattern_locate(at, offset, end, as);
        offset += words * 8;
        if (offset < end) {
            uint64_t found = 0, word = pattern_word(as, offset);
            memcpy(&found, at + offset, end - offset);
            if (memcmp(&found, &word, end - offset) != 0) return pattern_locate(at, offset, end, as);
            total += found;
        }
    }
    if (sum != NULL) *sum += total;
    return PATTERN_INTACT;
}

size_t pattern_check(const void *block, size_t bytes, struct pattern as, uint64_t *sum) {
    return pattern_check_prefix(block, bytes, bytes, as, sum);
}

void pattern_shift(void *out, const void *in, size_t bytes, uint64_t delta) {
    unsigned char *to = out;
    const unsigned char *from = in;
    for (size_t offset = 0; offset + 8 <= bytes; offset += 8) {
        uint64_t word = pattern_load(from + offset) + delta;
        memcpy(to + offset, &word, 8);
    }
}

size_t pattern_find_nonzero(const void *block, size_t bytes) {
    const unsigned char *at = block;
    size_t words = bytes / 8;
    uint64_t seen = 0;
    for (size_t i = 0; i < words; i++)
        seen |= pattern_load(at + i * 8);
    for (size_t offset = words * 8; offset < bytes; offset++)
        seen |= at[offset];
    if (seen == 0) return PATTERN_INTACT;
    size_t offset = 0;
    while (at[offset] == 0)
        offset++;
    return offset;
}

void pattern_damage(void *block, size_t bytes) {
    size_t length = bytes < PATTERN_PAGE + 8 ? bytes : PATTERN_PAGE + 8;
    memset((unsigned char *)block + (bytes - length) / 2, 0x5a, length);
}
