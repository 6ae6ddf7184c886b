// SPDX-License-Identifier: MIT
// Preloaded by check.sh: counts what reaches the allocator, to show that the compiler left the measured calls
// in; and where threads are pinned.
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/syscall.h>
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

static _Atomic unsigned long taken, freed, resized, pinned;
static _Atomic unsigned long cpus; // a bit for each of the first 64 that somebody was pinned to

int sched_setaffinity(pid_t pid, size_t bytes, const cpu_set_t *set) {
    pinned++;
    for (unsigned i = 0; i < 64; i++)
        if (CPU_COUNT(set) == 1 && CPU_ISSET(i, set)) cpus |= 1ul << i;
    return (int)syscall(SYS_sched_setaffinity, pid, bytes, set);
}

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
    dprintf(2, "taken %lu freed %lu resized %lu pinned %lu cpus %d\n", taken, freed, resized, pinned,
            __builtin_popcountl(cpus));
}
