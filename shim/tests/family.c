/* SPDX-License-Identifier: MIT */
/* family.c: the rules of the malloc family that programs rely on, at sizes on both sides of the threshold.
 * usage: family CASE */
#include "check.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>

void *__libc_malloc(size_t);
void __libc_free(void *);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static const size_t sizes[] = {1, 24, 4096, 30000, 32768, 40000, 131072, 300000, 1 << 20, 5 << 20, 40 << 20};
#define N_SIZES (sizeof sizes / sizeof sizes[0])
#define AT_LEAST_8(n) ((n) < 8 ? 8 : (n))

static int large_blocks_are_ours(void) {
    for (size_t n = 64 * KIB; n <= 256 * MIB; n *= 2) {
        void *p = get(n), *q = calloc(1, n), *r = aligned_alloc(64, n);
        CHECK(in_pool(p) && in_pool(q) && in_pool(r));
        free(p);
        free(q);
        free(r);
    }
    void *small = get(1000);
    CHECK(getenv("ZEROPOOL_THRESHOLD") || !in_pool(small));
    free(small);
    return 0;
}

static int usable_size_is_writable_and_stable(void) {
    uint64_t rng = 1;
    for (int i = 0; i < 3000; i++) {
        size_t n = rng_range(&rng, 0, (size_t)1 << rng_range(&rng, 3, 22));
        char *p = get(n);
        size_t usable = malloc_usable_size(p);
        CHECK(usable >= n);
        memset(p, 0x55, usable);
        CHECK(malloc_usable_size(p) == usable);
        if (n && in_pool(p)) {
            uintptr_t before = (uintptr_t)p;
            p = realloc(p, usable); /* growing to the usable size must not move */
            CHECK((uintptr_t)p == before && malloc_usable_size(p) == usable);
        }
        char *neighbour = get(n);
        CHECK(malloc_usable_size(p) == usable);
        for (size_t at = 0; at < usable; at += 512)
            CHECK(p[at] == 0x55);
        free(neighbour);
        free(p);
    }
    CHECK(malloc_usable_size(NULL) == 0);
    return 0;
}

static int realloc_rules(void) {
    for (size_t i = 0; i < N_SIZES; i++) {
        void *p = realloc(NULL, sizes[i]);
        CHECK(p);
        p = realloc(p, 0); /* frees */
        CHECK(p == NULL);
        for (size_t j = 0; j < N_SIZES; j++) {
            size_t from = AT_LEAST_8(sizes[i]), to = AT_LEAST_8(sizes[j]);
            p = get(from);
            CHECK(p);
            stamp(p, from, i);
            p = realloc(p, to);
            CHECK(p && malloc_usable_size(p) >= to);
            CHECK(stamped(p, from < to ? from : to, from, i));
            stamp(p, to, j);
            p = reallocarray(p, 2, to);
            CHECK(p && stamped(p, to, to, j));
            free(p);
        }
    }
    return 0;
}

static int sizes_that_cannot_be(void) {
    size_t bad[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX / 2 + 4096, SIZE_MAX - 4096,
                    SIZE_MAX - 4095,         SIZE_MAX - 1,        SIZE_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t n = bad[i];
        KEEP(n);
        errno = 0;
        CHECK(get(n) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(1, n) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(n, 2) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(aligned_alloc(4096, n) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(memalign(1 << 20, n) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(valloc(n) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(pvalloc(n) == NULL && errno == ENOMEM);
        void *untouched = (void *)0x1234;
        CHECK(posix_memalign(&untouched, 4096, n) == ENOMEM && untouched == (void *)0x1234);
        for (size_t s = 0; s < N_SIZES; s++) {
            void *p = get(AT_LEAST_8(sizes[s]));
            stamp(p, AT_LEAST_8(sizes[s]), s);
            errno = 0;
            void *q = realloc(p, n);
            CHECK(q == NULL && errno == ENOMEM);
            errno = 0;
            q = reallocarray(p, n, 2);
            CHECK(q == NULL && errno == ENOMEM);
            CHECK(stamped(p, AT_LEAST_8(sizes[s]), AT_LEAST_8(sizes[s]), s)); /* untouched and still ours */
            free(p);
        }
    }
    return 0;
}

static int alignments(void) {
    for (size_t align = 1; align <= 64 * MIB; align *= 2)
        for (size_t i = 0; i < N_SIZES - 1; i++) {
            void *p = memalign(align, sizes[i]), *q = NULL;
            CHECK(p && (uintptr_t)p % align == 0);
            stamp(p, AT_LEAST_8(malloc_usable_size(p)), 1);
            free(p);
            int error = posix_memalign(&q, align, sizes[i]);
            CHECK(align >= sizeof(void *) ? !error && (uintptr_t)q % align == 0 : error == EINVAL && !q);
            free(q);
            p = aligned_alloc(align, sizes[i]);
            CHECK(p && (uintptr_t)p % align == 0);
            p = realloc(p, sizes[i] + 100);
            CHECK(p);
            free(p);
        }
    size_t odd[] = {0, 3, 12, 24, 4095, 4097, SIZE_MAX};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        for (size_t s = 0; s < N_SIZES; s++) {
            void *q = (void *)0x1234;
            KEEP(odd[i]);
            CHECK(posix_memalign(&q, odd[i], sizes[s]) == EINVAL && q == (void *)0x1234);
        }
    for (size_t i = 0; i < N_SIZES; i++) {
        void *p = valloc(sizes[i]), *q = pvalloc(sizes[i]);
        CHECK((uintptr_t)p % 4096 == 0 && (uintptr_t)q % 4096 == 0);
        CHECK(malloc_usable_size(q) >= ((sizes[i] + 4095) & ~(size_t)4095));
        free(p);
        free(q);
    }
    return 0;
}

static int errno_is_kept(void) {
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < N_SIZES; i++) {
            void *p = get(sizes[i]);
            memset(p, 1, sizes[i]);
            errno = 4711;
            free(p);
            CHECK(errno == 4711);
            p = get(sizes[i]);
            errno = 4711;
            p = realloc(p, 0);
            CHECK(errno == 4711);
            free(NULL);
            CHECK(errno == 4711);
        }
    return 0;
}

static int calloc_is_zero(void) {
    uint64_t rng = 3;
    void *live[32] = {NULL};
    for (int i = 0; i < 1500; i++) {
        size_t slot = rng_range(&rng, 0, 31), n = rng_range(&rng, 1, (size_t)1 << rng_range(&rng, 5, 23));
        free(live[slot]);
        char *p = rng_next(&rng) % 4 ? calloc(1, n) : calloc(n, 1);
        CHECK(p && all_zero(p, malloc_usable_size(p))); /* some programs take more than they have asked for */
        memset(p, 0xff, malloc_usable_size(p));
        live[slot] = p;
        if (i % 7 == 0) live[slot] = realloc(p, n / 3 + 1);
    }
    return 0;
}

/* glibc 2.36 has neither of these to link with: one is gone from its headers, two are too new. */
static int other_names(void) {
    void (*old_free)(void *) = dlsym(RTLD_DEFAULT, "cfree");
    void (*sized)(void *, size_t) = dlsym(RTLD_DEFAULT, "free_sized");
    void (*aligned_sized)(void *, size_t, size_t) = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    CHECK(old_free && sized && aligned_sized);
    for (size_t i = 0; i < N_SIZES; i++) {
        size_t n = AT_LEAST_8(sizes[i]);
        void *p = __libc_malloc(n);
        stamp(p, n, 1);
        p = realloc(p, 2 * n);
        CHECK(stamped(p, n, n, 1));
        __libc_free(p);
        free(__libc_calloc(1, n));
        free(__libc_memalign(4096, n));
        p = __libc_realloc(NULL, n);
        old_free(p);
        sized(malloc(n), n);
        aligned_sized(aligned_alloc(64, n), 64, n);
    }
    return 0;
}

static int info_functions(void) {
    void *p = get(100 * MIB);
    memset(p, 1, 100 * MIB);
    struct mallinfo2 info = mallinfo2();
    CHECK(info.hblkhd >= 100 * MIB);
    free(p);
    info = mallinfo2();
    CHECK(info.hblkhd < 100 * MIB);
    /* Something was given back; the hardened mode has nothing left to give. */
    CHECK(malloc_trim(0) == 1 || getenv("ZEROPOOL_HARDENED"));
    mallopt(M_ARENA_MAX, 2);
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    CHECK(malloc_info(0, file) == 0);
    fclose(file);
    CHECK(strstr(text, "<malloc"));
    free(text);
    return 0;
}

MAIN_OF_CASES(family, {"large-blocks-are-ours", large_blocks_are_ours},
              {"usable-size", usable_size_is_writable_and_stable}, {"realloc", realloc_rules},
              {"sizes-that-cannot-be", sizes_that_cannot_be}, {"alignments", alignments},
              {"errno", errno_is_kept}, {"calloc", calloc_is_zero}, {"other-names", other_names},
              {"info", info_functions})
