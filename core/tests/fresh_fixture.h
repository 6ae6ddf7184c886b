/* SPDX-License-Identifier: MIT */
/* fresh_fixture.h: a pool that learns, and how to see which of its untouched memory is resident. */
#ifndef ZP_TESTS_FRESH_FIXTURE_H
#define ZP_TESTS_FRESH_FIXTURE_H

#include "pool_fixture.h"
#include "support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct pool pool;

static inline void set_up(void) {
    cr_assert_eq(fixture_init_learning(&pool), 0);
}
static inline void tear_down(void) {
    cr_expect_null(pool_check(&pool));
    pool_finish(&pool);
}

static inline size_t resident_pages(const void *p, size_t n_bytes) {
    size_t n = fixture_resident_pages(p, n_bytes);
    cr_assert_neq(n, SIZE_MAX);
    return n;
}

static inline void *get_filled(size_t n_bytes) {
    void *p = fixture_get(&pool, n_bytes);
    cr_assert(p);
    memset(p, 1, n_bytes);
    return p;
}

/* Of blocks that are expected to be filled one in eight is left as it is, at random: in so many, not all
 * are. */
#define TRIES 100

/* A block that was made resident beforehand; NULL if none is. */
static inline char *get_resident(size_t n_bytes) {
    for (int i = 0; i < TRIES; i++) {
        char *p = fixture_get(&pool, n_bytes);
        if (resident_pages(p, n_bytes) == n_bytes >> PAGE_SHIFT) return p;
        memset(p, 1, n_bytes);
    }
    return NULL;
}

/* Whatever filling takes on this machine today. */
static inline void let_huge_pages_be(uint32_t huge_ns, uint32_t small_ns) {
    pool.heap.fill_ns[1] = huge_ns;
    pool.heap.fill_ns[0] = small_ns;
    pool.heap.one_kind_pages = 0;
}

/* VMAs of the space, how many of them ask for huge pages, and how many bytes are in such. */
static inline unsigned look_at_vmas(unsigned *n_advised, size_t *huge_bytes) {
    FILE *file = fopen("/proc/self/smaps", "r");
    cr_assert(file);
    char line[512];
    unsigned n = 0;
    bool ours = false;
    *n_advised = 0;
    *huge_bytes = 0;
    while (fgets(line, sizeof line, file)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && strchr(line, '-') < strchr(line, ' ')) {
            ours = from < pool.heap.frontier && to > pool.heap.space.base;
            n += ours;
        }
        unsigned long huge_kib;
        if (ours && strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " hg")) ++*n_advised;
        if (ours && sscanf(line, "AnonHugePages: %lu kB", &huge_kib) == 1) *huge_bytes += huge_kib * KIB;
    }
    fclose(file);
    return n;
}

#endif
