/* SPDX-License-Identifier: MIT */
/* malloc.c: malloc, free, calloc, realloc: the calls whose every nanosecond counts. */
#include "shim.h"

#include "pool/resize.h"
#include "pool/zero.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The C library's prototypes carry attributes (alloc_size, malloc), which hold for our functions as well. */

/* The next allocator has failed: give back the pool's idle memory and try once more. */
static noinline_cold void *next_malloc_again(size_t size) {
    int error = errno;
    if (!shim_make_room(size)) return NULL;
    void *p = next.malloc(size);
    if (!p) errno = error;
    return p;
}

static __attribute__((noinline)) void *next_malloc(size_t size) {
    void *p = next.malloc(size);
    return likely(p) ? p : next_malloc_again(size);
}

/* Everything but a hit in the thread cache: set-up, the pool's slow path, refusal. A tail call, so that the
 * hit needs no stack frame. */
static noinline_cold void *malloc_missed(size_t size) {
    if (shim_ready()) {
        void *p = pool_get_missed(&shim_pool, shim_pages(size));
        if (unlikely(shim_lower_threshold)) shim_note_use();
        if (p) return p;
    }
    return next_malloc(size);
}

/* A small call is the most frequent one. It is a jump, which saves no register and has no stack frame; the
 * test small_calls counts its instructions. */

REPLACEABLE void *malloc(size_t size) {
    if (likely(size < shim_sizes.jumps_below)) return next.malloc(size);
    if (unlikely(size < shim_sizes.threshold)) return next_malloc(size);
    struct tcache *tcache = tcache_tls.first;
    if (likely(tcache != NULL)) {
        void *address;
        /* The threshold, and so the size, is at least 1. */
        if (likely(tcache_take_block(tcache, size, &address))) return address;
    }
    return malloc_missed(size);
}

REPLACEABLE void free(void *p) {
    /* The table's entry knows about bootstrap memory, should there be any. */
    if (likely(!shim_owns(p))) {
        next.free(p);
        return;
    }
    pool_put(&shim_pool, tcache_tls.first, p);
}

/* A large request, or one whose failure must be handled. */
static __attribute__((noinline)) void *calloc_watched(size_t n, size_t size) {
    if (likely(n * size >= shim_sizes.threshold && shim_ready())) {
        /* reached by a jump, so it returns to the caller of calloc */
        const void *site = __builtin_return_address(0);
        void *p = zero_get_for(&shim_pool, tcache_tls.first, shim_pages(n * size), site);
        if (likely(p)) return p;
    }
    void *p = next.calloc(n, size);
    if (likely(p)) return p;
    int error = errno;
    if (!shim_make_room(n * size)) return NULL;
    p = next.calloc(n, size);
    if (!p) errno = error;
    return p;
}

REPLACEABLE void *calloc(size_t n, size_t size) {
    size_t total;
    /* A size that overflows fails whatever room there is. */
    if (unlikely(__builtin_mul_overflow(n, size, &total))) return next.calloc(n, size);
    return likely(total < shim_sizes.jumps_below) ? next.calloc(n, size) : calloc_watched(n, size);
}

/* A block of the pool is resized. */
static __attribute__((noinline)) void *realloc_ours(void *p, size_t size) {
    struct extent *extent = pool_live_extent(&shim_pool, p);
    size_t have = extent_active_bytes(extent);
    if (size < shim_sizes.threshold && size < have / 2) {
        /* The pool gives whole pages, so a block that has become small moves to the next allocator. */
        void *q = next.malloc(size);
        if (q) {
            memcpy(q, p, size);
            pool_put(&shim_pool, tcache_tls.first, p);
            return q;
        }
    }
    if (resize_in_place(&shim_pool, extent, size)) return p;
    void *q = resize_move(&shim_pool, tcache_tls.first, extent, size);
    if (q) return q;
    q = next_malloc(size);
    if (!q) return size <= have ? p : NULL;
    memcpy(q, p, min_size(have, size));
    pool_put(&shim_pool, tcache_tls.first, p);
    return q;
}

/* Resizes a block of the next allocator or of the bootstrap arena that may move to the pool, or may need room
 * to be made. */
static __attribute__((noinline)) void *realloc_foreign(void *p, size_t size) {
    if (!p) return malloc(size);
    bool from_arena = bootstrap_owns(p);
    if (from_arena || size >= shim_sizes.threshold) {
        size_t have = from_arena ? bootstrap_size(p) : next.malloc_usable_size(p);
        /* A large block that the pool refused once stays with the next allocator, which may grow it in
         * place. */
        if (from_arena || have < shim_first_threshold) {
            void *q = from_arena ? malloc(size) : shim_ready() ? shim_pool_get(size) : NULL;
            if (q) {
                memcpy(q, p, min_size(have, size));
                if (!from_arena) next.free(p);
                return q;
            }
            if (from_arena) return NULL;
        }
    }
    void *q = next.realloc(p, size);
    if (likely(q || size == 0)) return q;
    int error = errno;
    /* The next allocator may need no more than what is new. */
    size_t have = next.malloc_usable_size(p);
    if (!shim_make_room(size - min_size(size, have))) return NULL;
    q = next.realloc(p, size);
    if (!q) errno = error;
    return q;
}

REPLACEABLE void *realloc(void *p, size_t size) {
    if (likely(!shim_owns(p))) {
        /* The table's entry knows about bootstrap memory, should there be any, and about NULL. */
        return likely(size < shim_sizes.jumps_below) ? next.realloc(p, size) : realloc_foreign(p, size);
    }
    if (size == 0) {
        free(p);
        return NULL;
    }
    return realloc_ours(p, size);
}

EXPORT void *reallocarray(void *p, size_t n, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(p, total);
}

REPLACEABLE_AS(malloc);
REPLACEABLE_AS(free);
REPLACEABLE_AS(calloc);
REPLACEABLE_AS(realloc);

#ifndef ZP_PLAIN
void free_sized(void *p, size_t size);
void free_aligned_sized(void *p, size_t alignment, size_t size);
void cfree(void *p);

/* C23. The sizes are hints that we do not use. */
EXPORT void free_sized(void *p, size_t size) {
    (void)size;
    free(p);
}

EXPORT void free_aligned_sized(void *p, size_t alignment, size_t size) {
    (void)alignment;
    (void)size;
    free(p);
}

EXPORT void cfree(void *p) {
    free(p);
}

/* Names by which some programs call glibc's allocator directly; left alone they would mix two allocators. */
void *__libc_malloc(size_t size);
void __libc_free(void *p);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);

EXPORT void *__libc_malloc(size_t size) {
    return malloc(size);
}
EXPORT void __libc_free(void *p) {
    free(p);
}
EXPORT void *__libc_calloc(size_t n, size_t size) {
    return calloc(n, size);
}
EXPORT void *__libc_realloc(void *p, size_t size) {
    return realloc(p, size);
}
#endif
