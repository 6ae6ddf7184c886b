/* SPDX-License-Identifier: MIT */
/* hardened.c: the malloc family over guarded blocks, in front of the next allocator. See hardened.h. */
#include "hardened.h"

#include "os/os.h"
#include "pool/guarded.h"

#include <errno.h>
#include <string.h>

static struct guarded guarded;
OS_SEALED static struct next_allocator real;
static size_t threshold = SIZE_MAX;
static bool running;

static bool owns(const void *p) { return guarded_owns(&guarded, p); }

bool hardened_owns(const void *p) { return owns(p); }

static void *get(size_t alignment, size_t size)
{
    return size >= threshold ? guarded_get(&guarded, alignment, size) : NULL;
}

static void *hardened_malloc(size_t size)
{
    void *p = get(16, size);
    return p ? p : real.malloc(size);
}

static void hardened_free(void *p)
{
    if (owns(p))
        guarded_put(&guarded, p);
    else
        real.free(p);
}

static void *hardened_calloc(size_t n, size_t size)
{
    size_t total;
    void *p = __builtin_mul_overflow(n, size, &total) ? NULL : get(16, total);
    return p ? p : real.calloc(n, size);
}

/* A guarded block always moves, or its end would not be where the guard is. */
static void *realloc_guarded(void *p, size_t size)
{
    size_t have = guarded_size(&guarded, p);
    if (size == have) return p;
    if (size == 0) {
        guarded_put(&guarded, p);
        return NULL;
    }
    int saved = errno;
    void *q = hardened_malloc(size);
    if (q) {
        memcpy(q, p, min_size(have, size));
        guarded_put(&guarded, p);
        return q;
    }
    if (size > have)
        p = guarded_grow(&guarded, p, size);
    else
        guarded_shrink(&guarded, p, size);
    if (p) errno = saved;
    return p;
}

static void *hardened_realloc(void *p, size_t size)
{
    if (owns(p)) return realloc_guarded(p, size);
    /* What was refused once, a large block of the next allocator, stays there. */
    size_t have = p && size >= threshold ? real.malloc_usable_size(p) : SIZE_MAX;
    void *q = have < threshold ? get(16, size) : NULL;
    if (!q) return real.realloc(p, size);
    memcpy(q, p, min_size(have, size));
    real.free(p);
    return q;
}

static size_t hardened_usable_size(void *p)
{
    return owns(p) ? guarded_size(&guarded, p) : real.malloc_usable_size(p);
}

/* Odd alignments, as in aligned.c, are the next allocator's business. */
static void *get_aligned(size_t alignment, size_t size) { return is_pow2(alignment) ? get(alignment, size) : NULL; }

static void *hardened_memalign(size_t alignment, size_t size)
{
    void *p = get_aligned(alignment, size);
    return p ? p : real.memalign(alignment, size);
}

static void *hardened_aligned_alloc(size_t alignment, size_t size)
{
    void *p = get_aligned(alignment, size);
    return p ? p : real.aligned_alloc(alignment, size);
}

static int hardened_posix_memalign(void **out, size_t alignment, size_t size)
{
    void *p = alignment % sizeof(void *) == 0 ? get_aligned(alignment, size) : NULL;
    if (!p) return real.posix_memalign(out, alignment, size);
    *out = p;
    return 0;
}

static void *hardened_valloc(size_t size)
{
    void *p = get(PAGE_BYTES, size);
    return p ? p : real.valloc(size);
}

static void *hardened_pvalloc(size_t size)
{
    size_t whole = align_up(size, PAGE_BYTES);
    void *p = whole >= size ? get(PAGE_BYTES, whole) : NULL;
    return p ? p : real.pvalloc(size);
}

static struct mallinfo hardened_mallinfo(void)
{
    struct mallinfo info = real.mallinfo();
    info.hblkhd += (int)atomic_load_explicit(&guarded.live_bytes, memory_order_relaxed);
    return info;
}

static struct mallinfo2 hardened_mallinfo2(void)
{
    struct mallinfo2 info = real.mallinfo2();
    info.hblkhd += atomic_load_explicit(&guarded.live_bytes, memory_order_relaxed);
    return info;
}

bool hardened_runs(void) { return running; }

void hardened_wrap(struct next_allocator *found)
{
    real = *found;
    found->malloc = hardened_malloc;
    found->free = hardened_free;
    found->calloc = hardened_calloc;
    found->realloc = hardened_realloc;
    found->memalign = hardened_memalign;
    found->aligned_alloc = hardened_aligned_alloc;
    found->posix_memalign = hardened_posix_memalign;
    found->valloc = hardened_valloc;
    found->pvalloc = hardened_pvalloc;
    found->malloc_usable_size = hardened_usable_size;
    found->mallinfo = hardened_mallinfo;
    found->mallinfo2 = hardened_mallinfo2;
}

void hardened_start(size_t threshold_bytes, size_t max_bytes)
{
    if (!running) guarded_init(&guarded, max_bytes);
    guarded.max_bytes = max_bytes;
    threshold = threshold_bytes;
    running = true;
    shim_threshold = SIZE_MAX;
    next_resolve(); /* enters the mode's functions */
}
