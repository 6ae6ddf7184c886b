/* SPDX-License-Identifier: MIT */
/* own_interface.c: a program that gives blocks to functions of its allocator's own interface. Built once for
 * each. usage: own_interface; prints whether its blocks came from the pool. */
#include "check.h"

#include <stdio.h>

#if defined(JEMALLOC)
size_t sallocx(const void *, int);
size_t xallocx(void *, size_t, size_t, int);
void *rallocx(void *, size_t, int);
void dallocx(void *, int);
void sdallocx(void *, size_t, int);
void *mallocx(size_t, int);

static void use(size_t n) {
    void *p = get(n);
    CHECK(sallocx(p, 0) >= n && xallocx(p, n, 0, 0) >= n);
    p = rallocx(p, 2 * n, 0);
    CHECK(p);
    dallocx(p, 0);
    sdallocx(get(n), n, 0);
    free(mallocx(n, 0));
}
#elif defined(MIMALLOC)
size_t mi_usable_size(const void *);
void mi_free(void *);
void *mi_realloc(void *, size_t);

static void use(size_t n) {
    void *p = get(n);
    CHECK(mi_usable_size(p) >= n);
    mi_free(mi_realloc(p, 2 * n));
}
#else
size_t tc_malloc_size(void *);
void tc_free(void *);
void *tc_realloc(void *, size_t);

static void use(size_t n) {
    void *p = get(n);
    CHECK(tc_malloc_size(p) >= n);
    tc_free(tc_realloc(p, 2 * n));
}
#endif

int main(void) {
    for (size_t n = 100; n < 32 * MIB; n *= 8)
        use(n);
    void *p = get(MIB);
    puts(in_pool(p) ? "pool" : "no pool");
    free(p);
    return 0;
}
