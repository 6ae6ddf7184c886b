/* SPDX-License-Identifier: MIT */
/* hardened.c: the malloc family over guarded blocks, in front of the next allocator. See hardened.h. */
#include "hardened.h"

#include "bypass.h"
#include "os/os.h"
#include "hardened/guarded.h"

#include <errno.h>
#include <string.h>

static struct guarded guarded;

/* Until the next allocator is known every request is guarded, and no other block can come back. */
static void *none_malloc(size_t size) {
    (void)size;
    errno = ENOMEM;
    return NULL;
}

static void *none_calloc(size_t n, size_t size) {
    (void)n;
    return none_malloc(size);
}

static void *none_realloc(void *p, size_t size) {
    (void)p;
    return none_malloc(size);
}

static void none_free(void *p) {
    (void)p;
}

static size_t none_usable_size(void *p) {
    (void)p;
    return 0;
}

OS_SEALED static struct next_allocator real = {
    .malloc = none_malloc,
    .free = none_free,
    .calloc = none_calloc,
    .realloc = none_realloc,
    .malloc_usable_size = none_usable_size,
};
static size_t threshold = 1;

static bool owns(const void *p) {
    return guarded_owns(&guarded, p);
}

bool bypass_owns(const void *p) {
    return owns(p);
}

static void *get(size_t alignment, size_t size) {
    return size >= threshold ? guarded_get(&guarded, alignment, size) : NULL;
}

static void *hardened_malloc(size_t size) {
    void *p = get(16, size);
    return p ? p : real.malloc(size);
}

static void hardened_free(void *p) {
    if (owns(p))
        guarded_put(&guarded, p);
    else
        real.free(p);
}

static void *hardened_calloc(size_t n, size_t size) {
    size_t total;
    void *p = __builtin_mul_overflow(n, size, &total) ? NULL : get(16, total);
    return p ? p : real.calloc(n, size);
}

/* A guarded block always moves: its end must stay at the guard. */
static void *realloc_guarded(void *p, size_t size) {
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

static void *hardened_realloc(void *p, size_t size) {
    if (!p) return hardened_malloc(size);
    if (owns(p)) return realloc_guarded(p, size);
    /* A large block that the mode refused once stays with the next allocator. */
    size_t have = size >= threshold ? real.malloc_usable_size(p) : SIZE_MAX;
    void *q = have < threshold ? get(16, size) : NULL;
    if (!q) return real.realloc(p, size);
    memcpy(q, p, min_size(have, size));
    real.free(p);
    return q;
}

static size_t hardened_usable_size(void *p) {
    return owns(p) ? guarded_size(&guarded, p) : real.malloc_usable_size(p);
}

/* Odd alignments go to the next allocator, as in aligned.c. */
static void *get_aligned(size_t alignment, size_t size) {
    return is_pow2(alignment) ? get(alignment, size) : NULL;
}

static void *hardened_memalign(size_t alignment, size_t size) {
    void *p = get_aligned(alignment, size);
    return p ? p : real.memalign(alignment, size);
}

static void *hardened_aligned_alloc(size_t alignment, size_t size) {
    void *p = get_aligned(alignment, size);
    return p ? p : real.aligned_alloc(alignment, size);
}

static int hardened_posix_memalign(void **out, size_t alignment, size_t size) {
    void *p = alignment % sizeof(void *) == 0 ? get_aligned(alignment, size) : NULL;
    if (!p) return real.posix_memalign(out, alignment, size);
    *out = p;
    return 0;
}

static void *hardened_valloc(size_t size) {
    void *p = get(PAGE_BYTES, size);
    return p ? p : real.valloc(size);
}

static void *hardened_pvalloc(size_t size) {
    size_t whole = align_up(size, PAGE_BYTES);
    void *p = whole >= size ? get(PAGE_BYTES, whole) : NULL;
    return p ? p : real.pvalloc(size);
}

static struct mallinfo hardened_mallinfo(void) {
    struct mallinfo info = real.mallinfo();
    info.hblkhd += (int)atomic_load_explicit(&guarded.live_bytes, memory_order_relaxed);
    return info;
}

static struct mallinfo2 hardened_mallinfo2(void) {
    struct mallinfo2 info = real.mallinfo2();
    info.hblkhd += atomic_load_explicit(&guarded.live_bytes, memory_order_relaxed);
    return info;
}

const struct next_allocator hardened_functions = {
    .malloc = hardened_malloc,
    .free = hardened_free,
    .calloc = hardened_calloc,
    .realloc = hardened_realloc,
    .memalign = hardened_memalign,
    .aligned_alloc = hardened_aligned_alloc,
    .posix_memalign = hardened_posix_memalign,
    .valloc = hardened_valloc,
    .pvalloc = hardened_pvalloc,
    .malloc_usable_size = hardened_usable_size,
    .mallinfo = hardened_mallinfo,
    .mallinfo2 = hardened_mallinfo2,
};

void hardened_prepare(void) {
    static _Atomic int state; /* 0 not yet, 1 in progress, 2 done */
    int none = 0;
    if (atomic_compare_exchange_strong(&state, &none, 1)) {
        /* An inherited filter may kill a process that asks for the amount of memory. */
        if (os_read_filter_state() != FILTER_NONE) os_restricted = true;
        guarded_init(&guarded, os_ram_bytes());
        atomic_store_explicit(&state, 2, memory_order_release);
    }
    while (atomic_load_explicit(&state, memory_order_acquire) != 2)
        os_yield(); /* for microseconds: two system calls */
}

EXPORT bool zeropool_hardened_attach(struct next_allocator *table, size_t table_bytes, size_t threshold_bytes,
                                     size_t max_bytes, struct hardened_range *range) {
    if (table_bytes != sizeof *table) return false;
    hardened_prepare();
    if (!os_unseal()) return false;
    guarded.max_bytes = max_bytes;
    real = *table;
    os_seal();
    threshold = threshold_bytes;
    void **to = (void **)table, *const *from = (void *const *)&hardened_functions;
    for (size_t i = 0; i < sizeof *table / sizeof(void *); i++)
        if (from[i]) to[i] = from[i];
    *range = (struct hardened_range){guarded.base, guarded.span};
    return true;
}
