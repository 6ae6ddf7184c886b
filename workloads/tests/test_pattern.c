// SPDX-License-Identifier: MIT
// Unit test: the pattern is found intact where it is, and every kind of damage is found.
#include "../common/pattern.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

static const size_t sizes[] = {1, 7, 8, 9, 63, 64, 65, 191, 192, 193, 1000, 4096, 4099, 20000};
static const size_t strides[] = {PATTERN_FULL, PATTERN_LINE, PATTERN_PAGE};
enum { SIZES = sizeof sizes / sizeof *sizes, STRIDES = sizeof strides / sizeof *strides };

static struct pattern owner(uint64_t tag, size_t stride) {
    return (struct pattern){pattern_base(tag), 0, stride};
}

static void test_intact(size_t bytes, size_t stride) {
    unsigned char *block = malloc(bytes + 1);
    uint64_t sum = 5;
    block[bytes] = 0xee;
    pattern_fill(block, bytes, owner(1, stride));
    CHECK(block[bytes] == 0xee); // not a byte too far
    CHECK(pattern_check(block, bytes, owner(1, stride), &sum) == PATTERN_INTACT);
    CHECK(sum != 5);
    CHECK(pattern_check(block, bytes, owner(2, stride), NULL) != PATTERN_INTACT);
    free(block);
}

// With full coverage each single byte counts, and its offset is named exactly.
static void test_every_byte(size_t bytes) {
    unsigned char *block = malloc(bytes);
    unsigned missed = 0;
    pattern_fill(block, bytes, owner(3, PATTERN_FULL));
    for (size_t i = 0; i < bytes; i++) {
        block[i] ^= 1;
        if (pattern_check(block, bytes, owner(3, PATTERN_FULL), NULL) != i) missed++;
        block[i] ^= 1;
    }
    CHECK(missed == 0);
    free(block);
}

// At any stride: the edges byte by byte, and any foreign write of stride + 8 bytes anywhere.
static void test_promise(size_t bytes, size_t stride) {
    unsigned char *block = malloc(bytes);
    unsigned missed = 0;
    pattern_fill(block, bytes, owner(4, stride));
    for (size_t i = 0; i < bytes; i++) {
        if (i >= PATTERN_EDGE && i < bytes - PATTERN_EDGE) continue;
        block[i] ^= 0x80;
        if (pattern_check(block, bytes, owner(4, stride), NULL) != i) missed++;
        block[i] ^= 0x80;
    }
    CHECK(missed == 0);
    for (size_t i = 0; bytes >= stride + 8 && i <= bytes - stride - 8; i += 61) {
        pattern_fill(block, bytes, owner(4, stride));
        memset(block + i, 0x5a, stride + 8);
        if (pattern_check(block, bytes, owner(4, stride), NULL) == PATTERN_INTACT) missed++;
    }
    CHECK(missed == 0);
    free(block);
}

// Two blocks that share memory, however little: at least one of them notices, whoever wrote last.
static void test_overlap(size_t first_bytes, size_t second_bytes, size_t shared, size_t stride) {
    unsigned char *memory = malloc(first_bytes + second_bytes);
    unsigned char *second = memory + first_bytes - shared;
    pattern_fill(memory, first_bytes, owner(5, stride));
    pattern_fill(second, second_bytes, owner(6, stride));
    CHECK(pattern_check(memory, first_bytes, owner(5, stride), NULL) != PATTERN_INTACT);
    pattern_fill(memory, first_bytes, owner(5, stride));
    CHECK(pattern_check(second, second_bytes, owner(6, stride), NULL) != PATTERN_INTACT);
    free(memory);
}

static void test_realloc(size_t stride) {
    unsigned char *block = malloc(10000);
    pattern_fill(block, 10000, owner(7, stride));
    memset(block + 5003, 0, 4997); // what a shrinking realloc may lose
    CHECK(pattern_check_prefix(block, 10000, 5003, owner(7, stride), NULL) == PATTERN_INTACT);
    CHECK(pattern_check_prefix(block, 10000, 10000, owner(7, stride), NULL) != PATTERN_INTACT);
    CHECK(pattern_check_prefix(block, 10000, 0, owner(7, stride), NULL) == PATTERN_INTACT);
    free(block);
}

// Pieces of one stream, and a stream shifted by a constant, are patterns again.
static void test_stream(void) {
    unsigned char whole[4096], pieces[4096], shifted[4096];
    struct pattern as = owner(8, PATTERN_FULL);
    pattern_fill(whole, sizeof whole, as);
    for (size_t at = 0; at < sizeof pieces; at += 512)
        pattern_fill(pieces + at, 512, (struct pattern){as.base, at / 8, PATTERN_FULL});
    CHECK(memcmp(whole, pieces, sizeof whole) == 0);
    pattern_shift(shifted, whole, sizeof whole, 77);
    as.base += 77;
    CHECK(pattern_check(shifted, sizeof shifted, as, NULL) == PATTERN_INTACT);
}

static void test_zero_and_damage(void) {
    unsigned char *block = calloc(1, 9001);
    CHECK(pattern_find_nonzero(block, 9001) == PATTERN_INTACT);
    block[9000] = 1;
    CHECK(pattern_find_nonzero(block, 9001) == 9000);
    block[17] = 1;
    CHECK(pattern_find_nonzero(block, 9001) == 17);
    for (unsigned i = 0; i < SIZES; i++) {
        for (unsigned j = 0; j < STRIDES; j++) {
            unsigned char *damaged = malloc(sizes[i]);
            pattern_fill(damaged, sizes[i], owner(9, strides[j]));
            pattern_damage(damaged, sizes[i]);
            CHECK(pattern_check(damaged, sizes[i], owner(9, strides[j]), NULL) != PATTERN_INTACT);
            free(damaged);
        }
    }
    free(block);
}

int main(void) {
    for (unsigned i = 0; i < SIZES; i++) {
        test_every_byte(sizes[i] < 5000 ? sizes[i] : 5000);
        for (unsigned j = 0; j < STRIDES; j++) {
            test_intact(sizes[i], strides[j]);
            if (sizes[i] > 3 * PATTERN_EDGE) test_promise(sizes[i], strides[j]);
        }
    }
    for (unsigned j = 0; j < STRIDES; j++) {
        for (size_t shared = 1; shared <= 9000 && strides[j] <= PATTERN_LINE;
             shared += shared < 400 ? 1 : 131)
            test_overlap(12000, 30000, shared, strides[j]);
        test_realloc(strides[j]);
    }
    test_stream();
    test_zero_and_damage();
    return CHECK_RESULT();
}
