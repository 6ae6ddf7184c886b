/* SPDX-License-Identifier: MIT */
/* next.c: finds the allocator that would have served the program without us, and serves what is called
 * meanwhile. The memory calls behind us (system.c) are looked up with it.
 *
 * dlsym may allocate (glibc's calls calloc for its error buffer) before it has an answer. Such calls of the
 * thread that looks up get memory from a small static arena, bumped atomically and never reused.
 *
 * The tables are sealed (os.h). They are written by the first call, and there is only one thread yet: to
 * start another takes a call of malloc. The hardened mode writes them once more when it begins.
 */
#include "hardened.h"
#include "os/os.h"
#include "shim.h"
#include "system.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BOOTSTRAP_BYTES (64 * KIB)

static char arena[BOOTSTRAP_BYTES] RARELY_USED __attribute__((aligned(64)));
static _Atomic size_t arena_used;

bool bootstrap_owns(const void *p) {
    return (uintptr_t)p - (uintptr_t)arena < BOOTSTRAP_BYTES;
}

/* Each block is preceded by its size. */
static void *bootstrap_get(size_t alignment, size_t size) {
    if (alignment < 16) alignment = 16;
    size_t total = size + alignment + 16;
    if (total < size || total > BOOTSTRAP_BYTES) return NULL;
    size_t at = atomic_fetch_add_explicit(&arena_used, align_up(total, 16), memory_order_relaxed);
    if (at + total > BOOTSTRAP_BYTES) {
        errno = ENOMEM;
        return NULL;
    }
    size_t start = align_up((uintptr_t)arena + at + 16, alignment);
    ((size_t *)start)[-1] = size;
    return (void *)start;
}

size_t bootstrap_size(const void *p) {
    return ((const size_t *)p)[-1];
}

static bool resolving(void) {
    return tcache_tls.entered & IN_DLSYM;
}

/* Placeholders: look up, then call through the table again, which now holds the real function. */
static void *first_malloc(size_t size) {
    if (resolving()) return bootstrap_get(16, size);
    next_resolve();
    return next.malloc(size);
}

static void first_free(void *p) {
    if (!p || bootstrap_owns(p) || resolving()) return;
    next_resolve();
    next.free(p);
}

static void *first_calloc(size_t n, size_t size) {
    size_t total;
    if (resolving()) return __builtin_mul_overflow(n, size, &total) ? NULL : bootstrap_get(16, total);
    next_resolve();
    return next.calloc(n, size);
}

static void *first_realloc(void *p, size_t size) {
    if (resolving()) {
        void *q = bootstrap_get(16, size);
        if (q && p) memcpy(q, p, min_size(bootstrap_size(p), size));
        return q;
    }
    next_resolve();
    return next.realloc(p, size);
}

static void *first_memalign(size_t alignment, size_t size) {
    if (resolving()) return bootstrap_get(alignment, size);
    next_resolve();
    return next.memalign(alignment, size);
}

static void *first_aligned_alloc(size_t alignment, size_t size) {
    next_resolve();
    return next.aligned_alloc(alignment, size);
}

static int first_posix_memalign(void **out, size_t alignment, size_t size) {
    next_resolve();
    return next.posix_memalign(out, alignment, size);
}

static void *first_valloc(size_t size) {
    next_resolve();
    return next.valloc(size);
}

static void *first_pvalloc(size_t size) {
    next_resolve();
    return next.pvalloc(size);
}

static size_t first_usable_size(void *p) {
    if (resolving()) return 0;
    next_resolve();
    return next.malloc_usable_size(p);
}

static int first_trim(size_t pad) {
    next_resolve();
    return next.malloc_trim(pad);
}

static struct mallinfo first_mallinfo(void) {
    next_resolve();
    return next.mallinfo();
}

static struct mallinfo2 first_mallinfo2(void) {
    next_resolve();
    return next.mallinfo2();
}

static void first_stats(void) {
    next_resolve();
    next.malloc_stats();
}

static int first_info(int options, FILE *stream) {
    next_resolve();
    return next.malloc_info(options, stream);
}

static int first_mallopt(int parameter, int value) {
    next_resolve();
    return next.mallopt(parameter, value);
}

/* Where bootstrap memory is about, free must know it. Without it, which is the rule, free goes straight to
 * the next allocator. */
OS_SEALED static void (*real_free)(void *);

static void free_unless_bootstrap(void *p) {
    if (!bootstrap_owns(p)) real_free(p);
}

/* The same for realloc. */
OS_SEALED static void *(*real_realloc)(void *, size_t);

static void *realloc_unless_bootstrap(void *p, size_t size) {
    if (!bootstrap_owns(p)) return real_realloc(p, size);
    void *q = malloc(size);
    if (q) memcpy(q, p, min_size(bootstrap_size(p), size));
    return q;
}

OS_SEALED struct next_allocator next = {
    first_malloc,         first_free,   first_calloc,  first_realloc,     first_memalign, first_aligned_alloc,
    first_posix_memalign, first_valloc, first_pvalloc, first_usable_size, first_trim,     first_mallinfo,
    first_mallinfo2,      first_stats,  first_info,    first_mallopt,
};

_Noreturn static void missing(const char *name) {
    warn_parts("fatal: no allocator behind zeropool defines ", name, NULL, NULL);
    _exit(127);
}

static void *find(const char *name) {
    void *symbol = dlsym(RTLD_NEXT, name);
    if (!symbol) missing(name);
    return symbol;
}

#define FIND(field) *(void **)&found.field = find(#field);

/* What the tables hold: nothing, the next allocator, or the hardened mode before it. */
static enum { NOTHING, NEXT, HARDENED } resolved;

void next_resolve(void) {
    if (resolving() || READ_RELAXED(resolved) == (hardened_runs() ? HARDENED : NEXT)) return;
    int saved = errno;
    tcache_tls.entered |= IN_DLSYM;
    struct next_allocator found;
    FAMILY(FIND)
    if (!os_unseal()) {
        warn_parts("fatal: the kernel does not let the library write its own tables", NULL, NULL, NULL);
        _exit(127);
    }
    system_resolve();
    bool arena_is_used = atomic_load(&arena_used) > 0;
    if (arena_is_used) {
        real_free = found.free;
        found.free = free_unless_bootstrap;
    }
    if (hardened_runs()) hardened_wrap(&found);
    /* Before the hardened mode's, which asks how large a block is. */
    if (arena_is_used) {
        real_realloc = found.realloc;
        found.realloc = realloc_unless_bootstrap;
    }
    /* Pointer by pointer, each an atomic store: another thread may be calling through the table. */
    void **to = (void **)&next, **from = (void **)&found;
    for (size_t i = 0; i < sizeof next / sizeof(void *); i++)
        __atomic_store_n(&to[i], from[i], __ATOMIC_RELEASE);
    WRITE_RELAXED(resolved, hardened_runs() ? HARDENED : NEXT);
    os_seal();
    tcache_tls.entered &= ~(uint32_t)IN_DLSYM;
    errno = saved;
}

bool next_known(void) {
    if (resolving()) return false;
    next_resolve();
    return true;
}
