/* SPDX-License-Identifier: MIT */
/* hardened_family.c: the interposed functions of libzeropool-hardened.so, and the lookup of what is behind
 * them. See hardened.h.
 *
 * dlsym may allocate before it has an answer. Until then every request of the thread that looks up is
 * guarded, whatever its size, so that it can be freed as any other. Loaded by the preload library instead of
 * being preloaded, nothing here is ever called.
 */
#include "hardened.h"

#include "sync/fatal.h"
#include "sync/options.h"
#include "bypass.h"
#include "os/os.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

OS_SEALED static struct next_allocator next; /* with the mode's functions in front */
static _Atomic bool known;
static __thread bool resolving __attribute__((tls_model("initial-exec")));

static void *find(const char *name) {
    void *symbol = dlsym(RTLD_NEXT, name);
    if (symbol) return symbol;
    warn_parts("fatal: no allocator behind zeropool defines ", name, NULL, NULL);
    _exit(127);
}

#define FIND(field) *(void **)&found.field = find(#field);

static noinline_cold void resolve(void) {
    int saved = errno;
    resolving = true;
    hardened_prepare();
    struct options options;
    options_defaults(&options);
    /* A program with raised rights ignores its caller's environment. */
    if (!getauxval(AT_SECURE)) options_from_environment(&options, environ);
    struct next_allocator found;
    FAMILY(FIND)
    size_t threshold = options.enabled ? max_size(options.threshold_bytes, 1) : SIZE_MAX;
    struct hardened_range range;
    size_t most = min_size(options.max_block_bytes, os_ram_bytes());
    if (!zeropool_hardened_attach(&found, sizeof found, threshold, most, &range) || !os_unseal()) {
        warn_parts("fatal: the kernel does not let the library write its own tables", NULL, NULL, NULL);
        _exit(127);
    }
    next = found; /* another thread may be doing this, with the same values */
    os_seal();
    atomic_store_explicit(&known, true, memory_order_release);
    resolving = false;
    errno = saved;
}

static inline void begin(void) {
    if (unlikely(!atomic_load_explicit(&known, memory_order_acquire)) && !resolving) resolve();
}

static void *own_malloc(size_t size) {
    begin();
    return hardened_functions.malloc(size);
}

static void own_free(void *p) {
    begin();
    hardened_functions.free(p);
}

static void *own_calloc(size_t n, size_t size) {
    begin();
    return hardened_functions.calloc(n, size);
}

static void *own_realloc(void *p, size_t size) {
    begin();
    return hardened_functions.realloc(p, size);
}

static void *own_memalign(size_t alignment, size_t size) {
    begin();
    return hardened_functions.memalign(alignment, size);
}

static int own_posix_memalign(void **out, size_t alignment, size_t size) {
    begin();
    return hardened_functions.posix_memalign(out, alignment, size);
}

static void *own_valloc(size_t size) {
    begin();
    return hardened_functions.valloc(size);
}

static void *own_pvalloc(size_t size) {
    begin();
    return hardened_functions.pvalloc(size);
}

EXPORT void *aligned_alloc(size_t alignment, size_t size) {
    begin();
    return hardened_functions.aligned_alloc(alignment, size);
}

EXPORT void *reallocarray(void *p, size_t n, size_t size) {
    size_t total;
    if (!__builtin_mul_overflow(n, size, &total)) return own_realloc(p, total);
    errno = ENOMEM;
    return NULL;
}

EXPORT size_t malloc_usable_size(void *p) {
    begin();
    return p ? hardened_functions.malloc_usable_size(p) : 0;
}

EXPORT int malloc_trim(size_t pad) {
    begin();
    return next.malloc_trim(pad);
}

EXPORT struct mallinfo mallinfo(void) {
    begin();
    return next.mallinfo();
}

EXPORT struct mallinfo2 mallinfo2(void) {
    begin();
    return next.mallinfo2();
}

EXPORT void malloc_stats(void) {
    begin();
    next.malloc_stats();
}

EXPORT int malloc_info(int options, FILE *stream) {
    begin();
    return next.malloc_info(options, stream);
}

EXPORT int mallopt(int parameter, int value) {
    begin();
    return next.mallopt(parameter, value);
}

/* --- the names; several for some --- */

#define NAME(function, parameters, result, own)                                                              \
    result function parameters;                                                                              \
    EXPORT __attribute__((alias(#own))) __attribute__((copy(own))) result function parameters;

NAME(malloc, (size_t), void *, own_malloc)
NAME(__libc_malloc, (size_t), void *, own_malloc)
NAME(free, (void *), void, own_free)
NAME(cfree, (void *), void, own_free)
NAME(__libc_free, (void *), void, own_free)
NAME(calloc, (size_t, size_t), void *, own_calloc)
NAME(__libc_calloc, (size_t, size_t), void *, own_calloc)
NAME(realloc, (void *, size_t), void *, own_realloc)
NAME(__libc_realloc, (void *, size_t), void *, own_realloc)
NAME(memalign, (size_t, size_t), void *, own_memalign)
NAME(__libc_memalign, (size_t, size_t), void *, own_memalign)
NAME(posix_memalign, (void **, size_t, size_t), int, own_posix_memalign)
NAME(__posix_memalign, (void **, size_t, size_t), int, own_posix_memalign)
NAME(valloc, (size_t), void *, own_valloc)
NAME(__libc_valloc, (size_t), void *, own_valloc)
NAME(pvalloc, (size_t), void *, own_pvalloc)
NAME(__libc_pvalloc, (size_t), void *, own_pvalloc)

void free_sized(void *p, size_t size);
void free_aligned_sized(void *p, size_t alignment, size_t size);

EXPORT void free_sized(void *p, size_t size) {
    (void)size;
    own_free(p);
}

EXPORT void free_aligned_sized(void *p, size_t alignment, size_t size) {
    (void)alignment;
    (void)size;
    own_free(p);
}

/* Preloaded, and the program has no malloc of its own? Otherwise nobody calls us. */
__attribute__((constructor)) static void start(void) {
    if (dlsym(RTLD_DEFAULT, "malloc") != (void *)own_malloc) return;
    begin();
    if (!os_unseal()) return;
    bypass_close();
    os_seal();
}
