/* SPDX-License-Identifier: MIT */
/* operators.c: C++'s operators new and delete in all their forms, interposed under their mangled names,
 * without a C++ runtime.
 *
 * jemalloc, mimalloc and tcmalloc define them themselves, past malloc: without this file no block of `new`
 * would reach the pool there. Whoever stands behind us decides what an operator does here (`role`):
 *
 * - OF_RUNTIME: the C++ runtime, whose operators call malloc and free. So do ours, and when malloc fails, the
 *   runtime's operator is called: it tries again, calls the new handler and throws, which we cannot.
 * - OF_ALLOCATOR: the allocator that defines malloc. Large blocks come from the pool, all else goes on to the
 *   same operator there, so that what belongs together stays together.
 * - OF_OTHERS: somebody else behind us, or anybody before us, defines one. It may count, or put headers
 *   before its blocks, and knows only some of the forms, which the others are made of: then all calls go on
 *   as if we were not there.
 *
 * The objects are looked through by their symbol tables and not by dlsym, which may allocate and does not
 * find a runtime that a plugin has brought in. Where none was mapped at start, the role is the runtime's, and
 * one is looked for when malloc has failed. Exceptions pass through these functions, which keep nothing.
 */
#include "operators.h"

#include "hardened.h"
#include "os/os.h"
#include "shim.h"
#include "sites.h"
#include "symbols.h"

#include <stdlib.h>

/* Columns: C name here, mangled name. Scalar and array forms differ by one letter. */
#define OPERATORS(X)                                                                                         \
    X(NEW, _Znwm)                                                                                            \
    X(NEW_ARRAY, _Znam)                                                                                      \
    X(NEW_NOTHROW, _ZnwmRKSt9nothrow_t)                                                                      \
    X(NEW_ARRAY_NOTHROW, _ZnamRKSt9nothrow_t)                                                                \
    X(NEW_ALIGNED, _ZnwmSt11align_val_t)                                                                     \
    X(NEW_ARRAY_ALIGNED, _ZnamSt11align_val_t)                                                               \
    X(NEW_ALIGNED_NOTHROW, _ZnwmSt11align_val_tRKSt9nothrow_t)                                               \
    X(NEW_ARRAY_ALIGNED_NOTHROW, _ZnamSt11align_val_tRKSt9nothrow_t)                                         \
    X(DELETE, _ZdlPv)                                                                                        \
    X(DELETE_ARRAY, _ZdaPv)                                                                                  \
    X(DELETE_SIZED, _ZdlPvm)                                                                                 \
    X(DELETE_ARRAY_SIZED, _ZdaPvm)                                                                           \
    X(DELETE_NOTHROW, _ZdlPvRKSt9nothrow_t)                                                                  \
    X(DELETE_ARRAY_NOTHROW, _ZdaPvRKSt9nothrow_t)                                                            \
    X(DELETE_ALIGNED, _ZdlPvSt11align_val_t)                                                                 \
    X(DELETE_ARRAY_ALIGNED, _ZdaPvSt11align_val_t)                                                           \
    X(DELETE_SIZED_ALIGNED, _ZdlPvmSt11align_val_t)                                                          \
    X(DELETE_ARRAY_SIZED_ALIGNED, _ZdaPvmSt11align_val_t)                                                    \
    X(DELETE_ALIGNED_NOTHROW, _ZdlPvSt11align_val_tRKSt9nothrow_t)                                           \
    X(DELETE_ARRAY_ALIGNED_NOTHROW, _ZdaPvSt11align_val_tRKSt9nothrow_t)

#define FORM(form, name) form,
enum form { OPERATORS(FORM) N_FORMS };
#define NAME(form, name) #name,
static const char *const names[N_FORMS] = {OPERATORS(NAME)};

enum role { UNKNOWN, OF_RUNTIME, OF_ALLOCATOR, OF_OTHERS };

/* Written at start-up, and by whoever calls an operator before. */
OS_SEALED static enum role role;
OS_SEALED static void *next_operators[N_FORMS];

/* --- who defines them --- */

struct search {
    uint32_t hashes[N_FORMS];
    void *found[N_FORMS]; /* behind us */
    bool passed;          /* we ourselves have been seen: what follows is behind us */
    bool others, allocator;
};

static void *address_of(const struct symbols *symbols, const ElfW(Sym) * symbol) {
    return (void *)(symbols->base + symbol->st_value);
}

static bool is_this_library(const struct symbols *symbols) {
    return symbols_segment_flags(symbols, names) != 0;
}

static void look_behind(struct search *search, const struct symbols *symbols) {
    unsigned n_new = 0;
    for (unsigned form = 0; form < N_FORMS; form++) {
        if (search->found[form]) continue;
        const ElfW(Sym) *symbol = symbols_find_hashed(symbols, names[form], search->hashes[form]);
        if (!symbol || ELF64_ST_TYPE(symbol->st_info) != STT_FUNC) continue;
        search->found[form] = address_of(symbols, symbol);
        n_new++;
    }
    if (n_new == 0 || symbols_find(symbols, "_ZSt15get_new_handlerv")) return;
    if (symbols_find(symbols, "malloc") && symbols_find(symbols, "free"))
        search->allocator = true;
    else
        search->others = true;
}

static void look_before(struct search *search, const struct symbols *symbols) {
    for (unsigned form = 0; form < N_FORMS; form++)
        if (symbols_find_hashed(symbols, names[form], search->hashes[form])) search->others = true;
}

/* The loader lists the objects in the order in which it looks for symbols, and what is opened later behind
 * those mapped at start. */
static int look(struct dl_phdr_info *object, size_t size, void *result) {
    (void)size;
    struct search *search = result;
    struct symbols symbols;
    if (!symbols_of(object, &symbols)) return 0;
    if (is_this_library(&symbols))
        search->passed = true;
    else if (search->passed)
        look_behind(search, &symbols);
    else
        look_before(search, &symbols);
    return 0;
}

static void look_at_objects(struct search *search) {
    for (unsigned form = 0; form < N_FORMS; form++)
        search->hashes[form] = symbols_hash(names[form]);
    dl_iterate_phdr(look, search);
}

void operators_resolve(void) {
    struct search search = {.passed = false};
    look_at_objects(&search);
    /* The hardened mode and the profile stand between malloc and the allocator, whose operators would pass
     * them by. */
    bool by_malloc = !search.allocator || hardened_runs() || sites_run();
    if (!os_unseal()) return; /* next_resolve ends the program for it */
    for (unsigned form = 0; form < N_FORMS; form++)
        __atomic_store_n(&next_operators[form], search.found[form], __ATOMIC_RELAXED);
    __atomic_store_n(&role,
                     search.others ? OF_OTHERS
                     : by_malloc   ? OF_RUNTIME
                                   : OF_ALLOCATOR,
                     __ATOMIC_RELEASE);
    os_seal();
}

static noinline_cold enum role find_role(void) {
    operators_resolve();
    return __atomic_load_n(&role, __ATOMIC_ACQUIRE);
}

static inline enum role role_now(void) {
    enum role now = __atomic_load_n(&role, __ATOMIC_ACQUIRE);
    return likely(now != UNKNOWN) ? now : find_role();
}

/* One that has been mapped since the start, or NULL. */
static noinline_cold void *find_late(enum form form) {
    struct search search = {.passed = false};
    look_at_objects(&search);
    return search.found[form];
}

/* The operator behind us; NULL if there is none. */
static inline void *next_of(enum form form) {
    void *known = __atomic_load_n(&next_operators[form], __ATOMIC_RELAXED);
    return likely(known != NULL) ? known : find_late(form);
}

/* Malloc has failed, and there is nobody to throw. */
static noinline_cold void *no_memory(enum form form) {
    bool throws = form == NEW || form == NEW_ARRAY || form == NEW_ALIGNED || form == NEW_ARRAY_ALIGNED;
    if (!throws) return NULL;
    warn_parts("fatal: out of memory in an operator new that no library behind zeropool defines", NULL, NULL,
               NULL);
    abort();
}

/* --- blocks --- */

static noinline_cold void *pool_get_new_missed(size_t size) {
    if (!shim_ready()) return NULL;
    void *p = pool_get_missed(&shim_pool, shim_pages(size));
    if (unlikely(shim_lower_threshold)) shim_note_use();
    return p;
}

/* A block of the pool if it is large, and the pool has one; else NULL. */
static inline void *pool_get_new(size_t size) {
    if (unlikely(size < shim_sizes.threshold)) return NULL;
    struct tcache *tcache = tcache_tls.first;
    void *address;
    if (likely(tcache != NULL) && likely(tcache_take_block(tcache, size, &address))) return address;
    return pool_get_new_missed(size);
}

static void *pool_get_new_aligned(size_t size, size_t alignment) {
    if (size < shim_sizes.threshold || !is_pow2(alignment) || alignment > GIB || !shim_ready()) return NULL;
    return pool_get_aligned(&shim_pool, tcache_tls.first, alignment, shim_pages(size));
}

/* What the runtime's operator makes of size and alignment. An alignment that is none is left to that
 * operator. */
static void *aligned_by_malloc(size_t size, size_t alignment) {
    size_t least = max_size(alignment, sizeof(void *)), whole = align_up(max_size(size, 1), least);
    return is_pow2(alignment) && whole >= size ? aligned_alloc(least, whole) : NULL;
}

/* May the block be freed without the operator behind us? */
static inline bool frees(enum role now, const void *p) {
    return likely(now == OF_RUNTIME) || (now == OF_ALLOCATOR && shim_owns(p));
}

/* --- the operators; small requests to an allocator's own are jumps, so that they cost little more than
 * without us --- */

/* A block without the operator behind us, or NULL. */
static inline void *get_new(enum role now, size_t size) {
    if (now == OF_RUNTIME) return malloc(size ? size : 1);
    return now == OF_ALLOCATOR ? pool_get_new(size) : NULL;
}

static inline void *get_new_aligned(enum role now, size_t size, size_t alignment) {
    if (now == OF_RUNTIME) return aligned_by_malloc(size, alignment);
    return now == OF_ALLOCATOR ? pool_get_new_aligned(size, alignment) : NULL;
}

/* Does the request go to the operator behind us, whatever the pool has? */
static inline bool passes(enum role now, size_t size) {
    return now == OF_OTHERS || (now == OF_ALLOCATOR && size < shim_sizes.threshold);
}

#define NEW_FORM(form, name, get, parameters, arguments)                                                     \
    void *name parameters;                                                                                   \
    static __attribute__((noinline)) void *get_##name parameters {                                           \
        enum role now = role_now();                                                                          \
        void *p = get;                                                                                       \
        if (likely(p)) return p;                                                                             \
        void *next_new = next_of(form);                                                                      \
        return likely(next_new) ? ((void *(*)parameters)next_new)arguments : no_memory(form);                \
    }                                                                                                        \
    EXPORT void *name parameters {                                                                           \
        void *next_new = __atomic_load_n(&next_operators[form], __ATOMIC_RELAXED);                           \
        if (passes(READ_RELAXED(role), size) && likely(next_new))                                            \
            return ((void *(*)parameters)next_new)arguments;                                                 \
        return get_##name arguments;                                                                         \
    }

#define GET get_new(now, size)
NEW_FORM(NEW, _Znwm, GET, (size_t size), (size))
NEW_FORM(NEW_ARRAY, _Znam, GET, (size_t size), (size))
NEW_FORM(NEW_NOTHROW, _ZnwmRKSt9nothrow_t, GET, (size_t size, const void *tag), (size, tag))
NEW_FORM(NEW_ARRAY_NOTHROW, _ZnamRKSt9nothrow_t, GET, (size_t size, const void *tag), (size, tag))

#define GET_ALIGNED get_new_aligned(now, size, alignment)
NEW_FORM(NEW_ALIGNED, _ZnwmSt11align_val_t, GET_ALIGNED, (size_t size, size_t alignment), (size, alignment))
NEW_FORM(NEW_ARRAY_ALIGNED, _ZnamSt11align_val_t, GET_ALIGNED, (size_t size, size_t alignment),
         (size, alignment))
NEW_FORM(NEW_ALIGNED_NOTHROW, _ZnwmSt11align_val_tRKSt9nothrow_t, GET_ALIGNED,
         (size_t size, size_t alignment, const void *tag), (size, alignment, tag))
NEW_FORM(NEW_ARRAY_ALIGNED_NOTHROW, _ZnamSt11align_val_tRKSt9nothrow_t, GET_ALIGNED,
         (size_t size, size_t alignment, const void *tag), (size, alignment, tag))

#define DELETE_FORM(form, name, parameters, arguments)                                                       \
    void name parameters;                                                                                    \
    static noinline_cold void find_##name parameters {                                                       \
        void *next_delete = next_of(form);                                                                   \
        if (frees(role_now(), p) || !next_delete)                                                            \
            free(p);                                                                                         \
        else                                                                                                 \
            ((void(*) parameters)next_delete) arguments;                                                     \
    }                                                                                                        \
    EXPORT void name parameters {                                                                            \
        enum role now = READ_RELAXED(role);                                                                  \
        void *next_delete = __atomic_load_n(&next_operators[form], __ATOMIC_RELAXED);                        \
        if (frees(now, p))                                                                                   \
            free(p);                                                                                         \
        else if (likely(now != UNKNOWN && next_delete))                                                      \
            ((void(*) parameters)next_delete) arguments;                                                     \
        else                                                                                                 \
            find_##name arguments;                                                                           \
    }

DELETE_FORM(DELETE, _ZdlPv, (void *p), (p))
DELETE_FORM(DELETE_ARRAY, _ZdaPv, (void *p), (p))
DELETE_FORM(DELETE_SIZED, _ZdlPvm, (void *p, size_t size), (p, size))
DELETE_FORM(DELETE_ARRAY_SIZED, _ZdaPvm, (void *p, size_t size), (p, size))
DELETE_FORM(DELETE_NOTHROW, _ZdlPvRKSt9nothrow_t, (void *p, const void *tag), (p, tag))
DELETE_FORM(DELETE_ARRAY_NOTHROW, _ZdaPvRKSt9nothrow_t, (void *p, const void *tag), (p, tag))
DELETE_FORM(DELETE_ALIGNED, _ZdlPvSt11align_val_t, (void *p, size_t alignment), (p, alignment))
DELETE_FORM(DELETE_ARRAY_ALIGNED, _ZdaPvSt11align_val_t, (void *p, size_t alignment), (p, alignment))
DELETE_FORM(DELETE_SIZED_ALIGNED, _ZdlPvmSt11align_val_t, (void *p, size_t size, size_t alignment),
            (p, size, alignment))
DELETE_FORM(DELETE_ARRAY_SIZED_ALIGNED, _ZdaPvmSt11align_val_t, (void *p, size_t size, size_t alignment),
            (p, size, alignment))
DELETE_FORM(DELETE_ALIGNED_NOTHROW, _ZdlPvSt11align_val_tRKSt9nothrow_t,
            (void *p, size_t alignment, const void *tag), (p, alignment, tag))
DELETE_FORM(DELETE_ARRAY_ALIGNED_NOTHROW, _ZdaPvSt11align_val_tRKSt9nothrow_t,
            (void *p, size_t alignment, const void *tag), (p, alignment, tag))
