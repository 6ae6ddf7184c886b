/* SPDX-License-Identifier: MIT */
/* next.c: finds the allocator that would have served the program without us, and serves what is called
 * meanwhile. The memory calls behind us are looked up with it; system.c says how.
 *
 * dlsym may allocate (glibc's calls calloc for its error buffer) before it has an answer. Such calls of the
 * thread that looks up get memory from a small static arena, bumped atomically and never reused.
 *
 * The tables are sealed (os.h). They are written by the first call, and there is only one thread yet: to
 * start another takes a call of malloc. The hardened mode writes them once more when it begins.
 */
#include "hardened.h"
#include "os/os.h"
#include "raw.h"
#include "shim.h"
#include "system.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

/* False if this thread is in the middle of the lookup, and must do without. */
static bool next_known(void) {
    if (resolving()) return false;
    next_resolve();
    return true;
}

/* --- the same for the memory calls; in the middle of a lookup they are plain system calls --- */

static void *first_mmap(void *start, size_t length, int protection, int flags, int fd, off_t offset) {
    if (!next_known()) return raw_mmap(start, length, protection, flags, fd, offset);
    return os_calls.mmap(start, length, protection, flags, fd, offset);
}

static void *first_mmap64(void *start, size_t length, int protection, int flags, int fd, off_t offset) {
    if (!next_known()) return raw_mmap(start, length, protection, flags, fd, offset);
    return system_calls.mmap64(start, length, protection, flags, fd, offset);
}

static int first_munmap(void *start, size_t length) {
    return next_known() ? os_calls.munmap(start, length) : raw_munmap(start, length);
}

static void *first_mremap(void *from, size_t length, size_t new_length, int flags, void *to) {
    if (!next_known()) return raw_mremap(from, length, new_length, flags, to);
    return os_calls.mremap(from, length, new_length, flags, to);
}

static int first_madvise(void *start, size_t length, int advice) {
    return next_known() ? os_calls.madvise(start, length, advice) : raw_madvise(start, length, advice);
}

static int first_mprotect(void *start, size_t length, int protection) {
    return next_known() ? os_calls.mprotect(start, length, protection)
                        : raw_mprotect(start, length, protection);
}

static int first_pkey_mprotect(void *start, size_t length, int protection, int key) {
    if (!next_known()) return raw_pkey_mprotect(start, length, protection, key);
    return os_calls.pkey_mprotect(start, length, protection, key);
}

static int first_mlock(const void *start, size_t length) {
    return next_known() ? os_calls.mlock(start, length) : raw_mlock(start, length);
}

static int first_posix_madvise(void *start, size_t length, int advice) {
    return next_known() ? system_calls.posix_madvise(start, length, advice)
                        : raw_posix_madvise(start, length, advice);
}

static int first_mlock2(const void *start, size_t length, unsigned flags) {
    return next_known() ? system_calls.mlock2(start, length, flags) : raw_mlock2(start, length, flags);
}

static int first_remap_file_pages(void *start, size_t length, int protection, size_t page, int flags) {
    if (!next_known()) return raw_remap_file_pages(start, length, protection, page, flags);
    return system_calls.remap_file_pages(start, length, protection, page, flags);
}

static void *first_shmat(int id, const void *start, int flags) {
    return next_known() ? system_calls.shmat(id, start, flags) : raw_shmat(id, start, flags);
}

static int first_mlockall(int flags) {
    return next_known() ? system_calls.mlockall(flags) : raw_mlockall(flags);
}

static int first_munlockall(void) {
    return next_known() ? system_calls.munlockall() : raw_munlockall();
}

static int first_setrlimit(__rlimit_resource_t resource, const struct rlimit *limit) {
    return next_known() ? system_calls.setrlimit(resource, limit) : raw_setrlimit(resource, limit);
}

static int first_setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit) {
    return next_known() ? system_calls.setrlimit64(resource, limit) : raw_setrlimit64(resource, limit);
}

static int first_prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *limit,
                         struct rlimit *before) {
    if (!next_known()) return raw_prlimit(pid, resource, limit, before);
    return system_calls.prlimit(pid, resource, limit, before);
}

static int first_prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *limit,
                           struct rlimit64 *before) {
    if (!next_known()) return raw_prlimit64(pid, resource, limit, before);
    return system_calls.prlimit64(pid, resource, limit, before);
}

/* Variable arguments are passed in registers, whether the function is declared with them or not. */
#define VARIADIC(function) (void *(*)(void *, size_t, size_t, int, ...))(void (*)(void))(function)

OS_SEALED struct os_calls os_calls = {
    first_mmap,          first_munmap, VARIADIC(first_mremap), first_madvise, first_mprotect,
    first_pkey_mprotect, first_mlock,
};

OS_SEALED struct system_calls system_calls = {
    first_mmap64,      first_posix_madvise, first_mlock2,     first_remap_file_pages,
    first_shmat,       first_mlockall,      first_munlockall, first_setrlimit,
    first_setrlimit64, first_prlimit,       first_prlimit64,
};

/* --- the tables of the next allocator, and the lookup --- */

/* If bootstrap memory has been handed out, free must recognise it. Usually none has, and free goes straight
 * to the next allocator. */
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
    system_resolve(&os_calls, &system_calls);
    bool arena_is_used = atomic_load(&arena_used) > 0;
    if (arena_is_used) {
        real_free = found.free;
        found.free = free_unless_bootstrap;
    }
    if (hardened_runs()) hardened_wrap(&found);
    /* In front of the hardened mode's realloc, which asks for a block's size. */
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
