/* SPDX-License-Identifier: MIT */
/* family.h: the malloc family as a table of functions: what stands behind one of our libraries. */
#ifndef ZP_SHIM_FAMILY_H
#define ZP_SHIM_FAMILY_H

#include <malloc.h>
#include <stddef.h>
#include <stdio.h>

#define HIDDEN __attribute__((visibility("hidden")))
#ifdef ZP_PLAIN
#define EXPORT HIDDEN
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* The functions of the table, in its order. */
#define FAMILY(X)                                                                                            \
    X(malloc)                                                                                                \
    X(free)                                                                                                  \
    X(calloc)                                                                                                \
    X(realloc)                                                                                               \
    X(memalign)                                                                                              \
    X(aligned_alloc)                                                                                         \
    X(posix_memalign)                                                                                        \
    X(valloc)                                                                                                \
    X(pvalloc)                                                                                               \
    X(malloc_usable_size)                                                                                    \
    X(malloc_trim)                                                                                           \
    X(mallinfo)                                                                                              \
    X(mallinfo2)                                                                                             \
    X(malloc_stats)                                                                                          \
    X(malloc_info)                                                                                           \
    X(mallopt)

struct next_allocator {
    void *(*malloc)(size_t);
    void (*free)(void *);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    size_t (*malloc_usable_size)(void *);
    int (*malloc_trim)(size_t);
    struct mallinfo (*mallinfo)(void);
    struct mallinfo2 (*mallinfo2)(void);
    void (*malloc_stats)(void);
    int (*malloc_info)(int, FILE *);
    int (*mallopt)(int, int);
};

#endif
