/* SPDX-License-Identifier: MIT */
/* sites.c: stands before malloc, free and their kin, and captures the stacks of large calls. See
 * sites.h. */
#include "sites.h"

#include "os/os.h"
#include "pool/zero.h"
#include "sandbox.h"
#include "shim.h"
#include "sites_look.h"
#include "sync/fatal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct sites *sites;
struct sites_setup sites_setup;

/* What of glibc's heap decides whether it maps a block by itself: as it would be if it had all the
 * blocks. */
#define GLIBC_THRESHOLD (128 * KIB)
#define GLIBC_THRESHOLD_MAX (32 * MIB)
static _Atomic size_t glibc_threshold = GLIBC_THRESHOLD;

struct sites_thread {
    struct unwind_thread stack;
    int64_t bytes_left; /* until the next sampled call */
    uint32_t id, random;
};
static __thread struct sites_thread self __attribute__((tls_model("initial-exec")));

/* --- the second copies --- */

#pragma GCC visibility push(hidden)
void *plain_malloc(size_t size);
void plain_free(void *p);
void *plain_calloc(size_t n, size_t size);
void *plain_realloc(void *p, size_t size);
void *plain_memalign(size_t alignment, size_t size);
void *plain_aligned_alloc(size_t alignment, size_t size);
int plain_posix_memalign(void **out, size_t alignment, size_t size);
void *plain_valloc(size_t size);
void *plain_pvalloc(size_t size);
#pragma GCC visibility pop

/* --- which calls --- */

static uint32_t next_random(void) {
    uint32_t x = self.random;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return self.random = x;
}

static noinline_cold void begin_thread(void) {
    static _Atomic uint32_t n_threads;
    self.id = atomic_fetch_add_explicit(&n_threads, 1, memory_order_relaxed) + 1;
    self.random = (uint32_t)os_random() ^ self.id * 2654435761u;
    if (!self.random) self.random = 1;
    if (sites_setup.rate_bytes) self.bytes_left = (int64_t)(next_random() % sites_setup.rate_bytes) + 1;
}

/* What a call of that size stands for, in 256ths of a call; 0: it is not captured. Points lie on the bytes
 * that a thread asks for, on average rate_bytes apart, and each counts for so many bytes. */
static inline uint32_t weight_of(size_t size) {
    size_t rate = sites_setup.rate_bytes;
    if (unlikely(!self.id)) begin_thread();
    if (size >= rate) return SITES_ONE;
    self.bytes_left -= (int64_t)size;
    uint64_t n_points = 0;
    for (; self.bytes_left <= 0; n_points++)
        self.bytes_left += (int64_t)(rate / 2 + next_random() % rate);
    return (uint32_t)min_size(n_points * rate * SITES_ONE / max_size(size, 1), UINT32_MAX);
}

/* --- the two ends of a block --- */

/* The stack of the calling thread: what C has called on behalf of the innermost Python function, then those,
 * or where there is no Python, all of C. */
static unsigned walk(uint64_t *frames, bool *is_cut) {
    uint32_t places[UNWIND_DEPTH];
    bool is_python_cut = false;
    unsigned n_python = python_walk(&sites->python, places, UNWIND_DEPTH, &is_python_cut);
    unsigned n = unwind_walk(&sites->unwinder, &self.stack, (const void *)&sites,
                             n_python ? python_interpreter() : NULL, frames,
                             n_python ? UNWIND_DEPTH / 2 : UNWIND_DEPTH, is_cut);
    for (unsigned i = 0; i < n_python; i++) {
        if (n == UNWIND_DEPTH) {
            is_python_cut = true;
            break;
        }
        frames[n++] = (uint64_t)SITES_PYTHON << UNWIND_ADDRESS_BITS | places[i];
    }
    if (n_python) *is_cut = is_python_cut;
    return n;
}

/* Returns p. began_ns: when the call began. kept_bytes: of contents that stay (realloc), or 0. */
static __attribute__((noinline)) void *capture(void *p, size_t size, uint32_t weight, uint64_t began_ns,
                                               size_t kept_bytes) {
    if (!p || !weight) return p;
    uint64_t frames[UNWIND_DEPTH];
    struct sites_block block = {.bytes = size, .weight = weight, .thread = self.id};
    block.born_ns = os_clock_ns();
    bool is_cut, is_ours = shim_owns(p);
    unsigned n = walk(frames, &is_cut);
    block.stack = sites_find_stack(sites, frames, n, is_cut);
    block.is_mapped = size >= atomic_load_explicit(&glibc_threshold, memory_order_relaxed);
    sites_sum(&sites->stacks[block.stack].allocating_ns, sites_weighted(block.born_ns - began_ns, weight));
    sites_look_begin(sites, p, &block, is_ours && !kept_bytes, next_random());
    if (!is_ours) sites_sum(&sites->n_foreign, 1);
    /* glibc moves the pages of what it has mapped. */
    sites_add(sites, p, &block, block.is_mapped && size > kept_bytes ? size - kept_bytes : 0);
    return p;
}

/* May it be a block that was captured? Blocks of the next allocator are asked for their size, if there are
 * large ones among them. */
static inline bool may_be_followed(void *p) {
    if (shim_owns(p)) return true;
    if (likely(!atomic_load_explicit(&sites->n_foreign, memory_order_relaxed))) return false;
    return p && !bootstrap_owns(p) && next.malloc_usable_size(p) >= sites_setup.least_bytes;
}

static void count_end(void *p, const struct sites_block *block) {
    if (unlikely(!self.id)) begin_thread();
    sites_look_end(sites, p, block);
    if (block->is_mapped && block->bytes <= GLIBC_THRESHOLD_MAX) {
        size_t threshold = atomic_load_explicit(&glibc_threshold, memory_order_relaxed);
        if (block->bytes > threshold)
            atomic_store_explicit(&glibc_threshold, block->bytes, memory_order_relaxed);
    }
    sites_count_end(sites, block, self.id, os_clock_ns());
}

/* --- the calls --- */

#define CAPTURED(size, call)                                                                                 \
    ({                                                                                                       \
        uint32_t weight_ = weight_of(size);                                                                  \
        uint64_t began_ns_ = weight_ ? os_clock_ns() : 0;                                                    \
        capture(call, size, weight_, began_ns_, 0);                                                          \
    })

static __attribute__((noinline)) void *malloc_large(size_t size) {
    return CAPTURED(size, plain_malloc(size));
}

static void *sites_malloc(size_t size) {
    return likely(size < sites_setup.least_bytes) ? plain_malloc(size) : malloc_large(size);
}

static __attribute__((noinline)) void free_followed(void *p) {
    struct sites_block block;
    if (sites_take(sites, p, &block)) count_end(p, &block);
    plain_free(p);
}

static void sites_free(void *p) {
    if (likely(!may_be_followed(p)))
        plain_free(p);
    else
        free_followed(p);
}

/* As calloc does it, for the program's call. */
static void *calloc_for(size_t n, size_t size, const void *site) {
    if (n * size >= shim_sizes.threshold && shim_ready()) {
        void *p = zero_get_for(&shim_pool, tcache_tls.first, shim_pages(n * size), site);
        if (likely(p)) return p;
    }
    return plain_calloc(n, size);
}

static __attribute__((noinline)) void *calloc_large(size_t n, size_t size) {
    const void *site = __builtin_return_address(0); /* by a jump: the caller of calloc */
    return CAPTURED(n * size, calloc_for(n, size, site));
}

static void *sites_calloc(size_t n, size_t size) {
    size_t total;
    if (unlikely(__builtin_mul_overflow(n, size, &total)) || likely(total < sites_setup.least_bytes))
        return plain_calloc(n, size);
    return calloc_large(n, size);
}

static __attribute__((noinline)) void *realloc_large(void *p, size_t size) {
    struct sites_block block;
    bool was_followed = p && may_be_followed(p) && sites_take(sites, p, &block);
    uint32_t weight = size >= sites_setup.least_bytes ? weight_of(size) : 0;
    uint64_t began_ns = weight ? os_clock_ns() : 0;
    if (was_followed) sites_look_end(sites, p, &block);
    void *q = plain_realloc(p, size);
    if (was_followed) {
        block.look = 0;
        if (q || size == 0)
            count_end(p, &block);
        else
            sites_put_back(sites, p, &block);
    }
    size_t had = !p ? 0 : was_followed ? block.bytes : 1;
    return capture(q, size, weight, began_ns, had);
}

static void *sites_realloc(void *p, size_t size) {
    if (likely(size < sites_setup.least_bytes) && likely(!p || !may_be_followed(p)))
        return plain_realloc(p, size);
    return realloc_large(p, size);
}

#define ALIGNED(name)                                                                                        \
    static __attribute__((noinline)) void *name##_large(size_t alignment, size_t size) {                     \
        return CAPTURED(size, plain_##name(alignment, size));                                                \
    }                                                                                                        \
    static void *sites_##name(size_t alignment, size_t size) {                                               \
        return likely(size < sites_setup.least_bytes) ? plain_##name(alignment, size)                        \
                                                      : name##_large(alignment, size);                       \
    }
ALIGNED(memalign)
ALIGNED(aligned_alloc)

static __attribute__((noinline)) int posix_memalign_large(void **out, size_t alignment, size_t size) {
    int error = 0;
    CAPTURED(size, (error = plain_posix_memalign(out, alignment, size)) ? NULL : *out);
    return error;
}

static int sites_posix_memalign(void **out, size_t alignment, size_t size) {
    return likely(size < sites_setup.least_bytes) ? plain_posix_memalign(out, alignment, size)
                                                  : posix_memalign_large(out, alignment, size);
}

#define PAGES(name)                                                                                          \
    static __attribute__((noinline)) void *name##_large(size_t size) {                                       \
        return CAPTURED(size, plain_##name(size));                                                           \
    }                                                                                                        \
    static void *sites_##name(size_t size) {                                                                 \
        return likely(size < sites_setup.least_bytes) ? plain_##name(size) : name##_large(size);             \
    }
PAGES(valloc)
PAGES(pvalloc)

/* --- start --- */

#define REPLACED(X)                                                                                          \
    X(malloc) X(free) X(calloc) X(realloc) X(memalign) X(aligned_alloc) X(posix_memalign) X(valloc) X(pvalloc)
#define DECLARE(name) extern const char shim_##name[] __attribute__((visibility("hidden")));
REPLACED(DECLARE)

/* Both lie in this library, so a short jump reaches. */
static bool replace(const char *function, void (*by)(void)) {
    if ((uintptr_t)function % sizeof(uint64_t)) return false;
    struct {
        uint8_t jump;
        int32_t distance;
        uint8_t rest[3];
    } __attribute__((packed)) code;
    memcpy(&code, function, sizeof code);
    code.jump = 0xe9;
    code.distance = (int32_t)((intptr_t)by - (intptr_t)(function + 5));
    uint64_t word;
    memcpy(&word, &code, sizeof word);
    return os_write_code((void *)function, word);
}

/* If one can be written, all can. A block is looked for when it is freed, so free comes first. */
#define REPLACE(name) replace(shim_##name, (void (*)(void))sites_##name);
static bool replace_all(void) {
    if (!replace(shim_free, (void (*)(void))sites_free)) return false;
    REPLACED(REPLACE)
    return true;
}

static const char *start(void) {
    void *memory;
    sandbox_learn();
    if (!unwind_prepare()) return "the C library is older than 2.35";
    python_prepare();
    if (os_map_unshared(sizeof *sites, &memory)) return "no memory for it";
    sites = memory;
    if (replace_all()) return NULL;
    sites = NULL;
    return "the system does not let the library write its own code";
}

void sites_start(const char *path, size_t least_bytes, size_t rate_bytes, const char *why_not) {
    static char copy[4000] RARELY_USED;
    if (strlen(path) >= sizeof copy) why_not = "the file name is too long";
    if (!why_not) {
        int saved = errno;
        strcpy(copy, path);
        sites_setup = (struct sites_setup){least_bytes, rate_bytes, os_clock_ns(), copy};
        why_not = start();
        errno = saved;
    }
    if (why_not) warn_parts("ZEROPOOL_PROFILE: no profile is written: ", why_not, NULL, NULL);
}
