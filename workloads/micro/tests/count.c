// SPDX-License-Identifier: MIT
// Preloaded by check.sh: counts what reaches the allocator, to show that the compiler left the measured calls
// in.
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

void *malloc(size_t size);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t size);
void *aligned_alloc(size_t alignment, size_t size);
void free(void *p);

// The programs' own small needs (stdio, threads) must not be taken for measured blocks.
enum { LARGE = 4096 };

static _Atomic unsigned long taken, freed, resized;

void *malloc(size_t size) {
    taken += size >= LARGE;
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size) {
    taken += n * size >= LARGE;
    return __libc_calloc(n, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    taken += size >= LARGE;
    return __libc_memalign(alignment, size);
}

void *realloc(void *p, size_t size) {
    resized += size >= LARGE;
    return __libc_realloc(p, size);
}

void free(void *p) {
    freed += p != NULL;
    __libc_free(p);
}

__attribute__((destructor)) static void report(void) {
    dprintf(2, "taken %lu freed %lu resized %lu\n", taken, freed, resized);
}
