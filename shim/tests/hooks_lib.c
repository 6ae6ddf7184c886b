/* SPDX-License-Identifier: MIT */
/* hooks_lib.c: a library that watches mappings, as those do that register memory with a device: it must hear
 * of every page that goes. */
#include "hooks_lib.h"

#include <dlfcn.h>
#include <stdint.h>
#include <sys/mman.h>

#define SEES(name)                                                                                           \
    __typeof__(&name) real;                                                                                  \
    *(void **)&real = dlsym(RTLD_NEXT, #name);                                                               \
    hooks_seen.name[(uintptr_t)start >> 40 >= 22 && (uintptr_t)start >> 40 < 42]++

struct hooks_seen hooks_seen;
/* A library loaded at start has it in every thread's block; the model that such libraries are compiled with
 * asks __tls_get_addr. */
static __thread unsigned depth;

struct hooks_seen *hooks(void) {
    return &hooks_seen;
}

int madvise(void *start, size_t length, int advice) {
    SEES(madvise);
    depth++;
    int result = real(start, length, advice);
    depth--;
    return result;
}

int munmap(void *start, size_t length) {
    SEES(munmap);
    return real(start, length);
}

void *mmap(void *start, size_t length, int protection, int flags, int fd, off_t offset) {
    SEES(mmap);
    return real(start, length, protection, flags, fd, offset);
}

int pkey_mprotect(void *start, size_t length, int protection, int key) {
    SEES(pkey_mprotect);
    return real(start, length, protection, key);
}
