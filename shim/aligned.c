/* SPDX-License-Identifier: MIT */
/* aligned.c: the aligned allocation functions.
 *
 * A request of at least the threshold with a valid alignment is the pool's business; everything odd goes to
 * the next allocator verbatim, so that errors and rounding are exactly those the program knows.
 */
#include "shim.h"

#include <errno.h>
#include <stdlib.h>

#define ALIGNMENT_MAX GIB

/* A block from the thread cache; NULL for alignments above a page. In this file so that a hit costs what it
 * costs in malloc. */
static inline void *get_cached(size_t alignment, size_t size) {
    size_t mask = alignment - 1; /* of 0: beyond every page */
    if (unlikely(size < shim_sizes.threshold || mask >= PAGE_BYTES || (alignment & mask))) return NULL;
    struct tcache *tcache = tcache_tls.first;
    if (unlikely(!tcache)) return NULL;
    /* The threshold, and so the size, is at least 1. */
    void *address;
    return likely(tcache_take_block(tcache, size, &address)) ? address : NULL;
}

static void *get_aligned(size_t alignment, size_t size) {
    if (size < shim_sizes.threshold || !is_pow2(alignment) || alignment > ALIGNMENT_MAX || !shim_ready())
        return NULL;
    return pool_get_aligned(&shim_pool, tcache_tls.first, alignment, shim_pages(size));
}

/* Calls the next allocator; if it fails, makes room and calls it once more. */
#define NEXT_OR_ROOM(size, expression)                                                                       \
    ({                                                                                                       \
        void *p_ = (expression);                                                                             \
        if (unlikely(!p_) && errno == ENOMEM && shim_make_room(size)) p_ = (expression);                     \
        p_;                                                                                                  \
    })

static noinline_cold void *memalign_missed(size_t alignment, size_t size) {
    void *p = get_aligned(alignment, size);
    return p ? p : NEXT_OR_ROOM(size, next.memalign(alignment, size));
}

REPLACEABLE void *memalign(size_t alignment, size_t size) {
    if (likely(size < shim_sizes.jumps_below)) return next.memalign(alignment, size);
    void *p = get_cached(alignment, size);
    return likely(p) ? p : memalign_missed(alignment, size);
}

static noinline_cold void *aligned_alloc_missed(size_t alignment, size_t size) {
    void *p = get_aligned(alignment, size);
    return p ? p : NEXT_OR_ROOM(size, next.aligned_alloc(alignment, size));
}

REPLACEABLE void *aligned_alloc(size_t alignment, size_t size) {
    if (likely(size < shim_sizes.jumps_below)) return next.aligned_alloc(alignment, size);
    void *p = get_cached(alignment, size);
    return likely(p) ? p : aligned_alloc_missed(alignment, size);
}

static noinline_cold int posix_memalign_missed(void **out, size_t alignment, size_t size) {
    if (alignment % sizeof(void *) == 0) {
        void *p = get_aligned(alignment, size);
        if (p) {
            *out = p;
            return 0;
        }
    }
    int error = next.posix_memalign(out, alignment, size);
    if (unlikely(error == ENOMEM) && shim_make_room(size)) error = next.posix_memalign(out, alignment, size);
    return error;
}

REPLACEABLE int posix_memalign(void **out, size_t alignment, size_t size) {
    if (likely(size < shim_sizes.jumps_below)) return next.posix_memalign(out, alignment, size);
    void *p = alignment % sizeof(void *) == 0 ? get_cached(alignment, size) : NULL;
    if (unlikely(!p)) return posix_memalign_missed(out, alignment, size);
    *out = p;
    return 0;
}

static noinline_cold void *valloc_watched(size_t size) {
    void *p = get_aligned(PAGE_BYTES, size);
    return p ? p : NEXT_OR_ROOM(size, next.valloc(size));
}

REPLACEABLE void *valloc(size_t size) {
    return likely(size < shim_sizes.jumps_below) ? next.valloc(size) : valloc_watched(size);
}

static noinline_cold void *pvalloc_watched(size_t size) {
    void *p = get_aligned(PAGE_BYTES, size);
    return p ? p : NEXT_OR_ROOM(size, next.pvalloc(size));
}

REPLACEABLE void *pvalloc(size_t size) {
    return likely(size < shim_sizes.jumps_below) ? next.pvalloc(size) : pvalloc_watched(size);
}

REPLACEABLE_AS(memalign);
REPLACEABLE_AS(aligned_alloc);
REPLACEABLE_AS(posix_memalign);
REPLACEABLE_AS(valloc);
REPLACEABLE_AS(pvalloc);

#ifndef ZP_PLAIN
void *__libc_memalign(size_t alignment, size_t size);
void *__libc_valloc(size_t size);
void *__libc_pvalloc(size_t size);
int __posix_memalign(void **out, size_t alignment, size_t size);

EXPORT void *__libc_memalign(size_t alignment, size_t size) {
    return memalign(alignment, size);
}
EXPORT void *__libc_valloc(size_t size) {
    return valloc(size);
}
EXPORT void *__libc_pvalloc(size_t size) {
    return pvalloc(size);
}
EXPORT int __posix_memalign(void **out, size_t alignment, size_t size) {
    return posix_memalign(out, alignment, size);
}
#endif
