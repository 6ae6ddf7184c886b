/* SPDX-License-Identifier: MIT */
/* test_faults_heap.c: an open heap that marks, unmaps and maps anew, where kernel calls fail and locks cannot
 * be had. Whatever fails, contents stay, what is passed for zero is zero, nothing is lost, and the invariants
 * hold. Linked with a build of the pool that has -DZP_FAULT. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"
#include "heap/heap.h"
#include "support.h"

#define N_BLOCKS 40

static struct heap heap;
static struct {
    struct extent *extent;
    uint64_t tag;
} blocks[N_BLOCKS];
static uint64_t rng;
static char where[120];
static long n_calls;

static void get(unsigned i) {
    struct heap_request request = {.n_pages = rng_range(&rng, 1, (size_t)1 << rng_range(&rng, 0, 9)),
                                   .align_pages = 1};
    if (rng_next(&rng) % 4 == 0) request.headroom_pages = request.n_pages;
    struct extent *e = heap_alloc(&heap, &request);
    if (!e) return;
    size_t n = extent_active_bytes(e);
    if (e->flags & EXTENT_ZERO)
        cr_assert_eq(first_nonzero(e->address, n), n, "%s: memory that was written is passed for zero",
                     where);
    extent_set_state(e, EXTENT_LIVE);
    e->flags &= (uint16_t)~EXTENT_ZERO;
    memset(e->address, 0x5a, n);
    pattern_fill(e->address, n, blocks[i].tag = rng_next(&rng));
    blocks[i].extent = e;
}

static void put(unsigned i) {
    struct extent *e = blocks[i].extent;
    size_t n = extent_active_bytes(e);
    cr_assert_eq(pattern_check(e->address, n, blocks[i].tag), n, "%s: contents changed", where);
    extent_set_state(e, EXTENT_CACHED);
    heap_free(&heap, e);
    blocks[i].extent = NULL;
}

static void grow(unsigned i) {
    struct extent *e = blocks[i].extent;
    size_t n = extent_active_bytes(e);
    heap_extend(&heap, e, e->used_pages + rng_range(&rng, 1, 200), NULL);
    cr_assert_eq(pattern_check_front(e->address, n, n, blocks[i].tag), n, "%s: contents changed in growing",
                 where);
    pattern_fill(e->address, extent_active_bytes(e), blocks[i].tag);
}

static void scenario(uint64_t seed) {
    rng = seed;
    memset(&heap, 0, sizeof heap);
    memset(blocks, 0, sizeof blocks);
    if (heap_init(&heap, 64 * MIB, false)) return;
    for (int i = 0; i < 300; i++) {
        unsigned k = (unsigned)rng_range(&rng, 0, N_BLOCKS - 1);
        if (!blocks[k].extent)
            get(k);
        else if (rng_next(&rng) % 4)
            put(k);
        else
            grow(k);
        if (i % 15 == 5) heap_mark(&heap, rng_range(&rng, 0, heap.dirty_bytes), os_clock_ms());
        if (i % 40 == 20) heap_trim(&heap, rng_range(&rng, 0, heap.dirty_bytes));
        if (i % 25 == 10) heap_release(&heap, rng_range(&rng, 0, 2 * MIB));
        if (i % 60 == 50) heap_release_top(&heap);
    }
    for (unsigned k = 0; k < N_BLOCKS; k++)
        if (blocks[k].extent) put(k);
    n_calls = os_fault_count();
    os_fault_configure(-1, 0, 0, 0);
    os_fault_locks(0, 0);
    const char *broken = heap_check(&heap);
    cr_assert_null(broken, "%s: %s", where, broken);
    cr_assert_eq(heap.active_bytes, 0, "%s: %zu bytes are lost", where, heap.active_bytes);
    cr_assert_eq(heap.unproven_bytes, 0, "%s", where);
    cr_assert_leq(heap.n_holes, HEAP_HOLES_MAX);
    heap_trim(&heap, 0);
    cr_assert_null(heap_check(&heap), "%s", where);
    cr_assert_eq(heap.dirty_bytes, 0);
    space_destroy(&heap.space);
}

static unsigned few_or(unsigned all) {
    return getenv("ZP_LONG") ? all : all / 8;
}

TestSuite(faults_heap, .timeout = 120);

Test(faults_heap, every_call_fails_once) {
    static const int errors[] = {ENOMEM, EINVAL, EAGAIN, EPERM};
    os_fault_configure(-1, 0, 0, 0);
    snprintf(where, sizeof where, "without faults");
    scenario(1);
    long n = n_calls;
    cr_assert_gt(n, 60);
    for (long k = 0; k < n; k += getenv("ZP_LONG") ? 1 : 2) {
        snprintf(where, sizeof where, "call %ld fails", k);
        os_fault_configure(k, errors[k / 2 % 4], 0, 0);
        scenario(1);
    }
}

Test(faults_heap, calls_that_fail_at_random) {
    for (unsigned one_in = 2; one_in <= 20; one_in += 6)
        for (unsigned seed = 1; seed <= few_or(80); seed++) {
            snprintf(where, sizeof where, "one call in %u, seed %u", one_in, seed);
            os_fault_configure(-1, seed % 2 ? ENOMEM : EINVAL, one_in, seed);
            scenario(seed);
        }
}

Test(faults_heap, locks_that_cannot_be_had) {
    for (unsigned one_in = 2; one_in <= 30; one_in += 7)
        for (unsigned seed = 1; seed <= few_or(80); seed++) {
            snprintf(where, sizeof where, "one lock in %u, seed %u", one_in, seed);
            os_fault_configure(-1, ENOMEM, seed % 2 ? 0 : 15, seed);
            os_fault_locks(one_in, seed);
            scenario(seed);
        }
}
