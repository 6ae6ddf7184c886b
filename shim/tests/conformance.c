/* SPDX-License-Identifier: MIT */
/* conformance.c: each function of the family against the same function of the C library with the same random
 * arguments: result or none, errno, alignment, usable size, contents. One million calls with ZP_LONG set,
 * 20000 otherwise. Run at the default threshold and with ZEROPOOL_THRESHOLD=1, where the pool serves all that
 * it can. usage: conformance [SEED] */
#include "check.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>

/* One side: the functions as the program sees them, or as the C library has them. */
struct side {
    void *(*malloc)(size_t);
    void (*free)(void *);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*reallocarray)(void *, size_t, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    size_t (*malloc_usable_size)(void *);
    int (*mallopt)(int, int);
    void *(*libc_malloc)(size_t);
    void *(*libc_calloc)(size_t, size_t);
    void *(*libc_realloc)(void *, size_t);
    void *(*libc_memalign)(size_t, size_t);
    void *(*libc_valloc)(size_t);
    void *(*libc_pvalloc)(size_t);
    void (*libc_free)(void *);
};
static struct side shim, libc;

/* glibc's own would call the public realloc, which is the shim's. */
static void *libc_reallocarray(void *p, size_t a, size_t b) {
    size_t total;
    if (!__builtin_mul_overflow(a, b, &total)) return libc.realloc(p, total);
    errno = ENOMEM;
    return NULL;
}

static void find(void *library, void *field, const char *name) {
    *(void **)field = dlsym(library, name);
    CHECK(*(void **)field);
}

static void find_all(void *library, struct side *side) {
    find(library, &side->malloc, "malloc");
    find(library, &side->free, "free");
    find(library, &side->calloc, "calloc");
    find(library, &side->realloc, "realloc");
    find(library, &side->reallocarray, "reallocarray");
    find(library, &side->memalign, "memalign");
    find(library, &side->aligned_alloc, "aligned_alloc");
    find(library, &side->posix_memalign, "posix_memalign");
    find(library, &side->valloc, "valloc");
    find(library, &side->pvalloc, "pvalloc");
    find(library, &side->malloc_usable_size, "malloc_usable_size");
    find(library, &side->mallopt, "mallopt");
    find(library, &side->libc_malloc, "__libc_malloc");
    find(library, &side->libc_calloc, "__libc_calloc");
    find(library, &side->libc_realloc, "__libc_realloc");
    find(library, &side->libc_memalign, "__libc_memalign");
    find(library, &side->libc_valloc, "__libc_valloc");
    find(library, &side->libc_pvalloc, "__libc_pvalloc");
    find(library, &side->libc_free, "__libc_free");
}

/* --- random arguments --- */

static uint64_t rng;

static size_t any_size(void) {
    switch (rng_range(&rng, 0, 15)) {
    case 0:
        return rng_range(&rng, 0, 64);
    case 1:
        return 32 * KIB + rng_range(&rng, 0, 4) - 2;
    case 2:
        return ((size_t)1 << rng_range(&rng, 0, 24)) + rng_range(&rng, 0, 2) - 1;
    case 3:
        return (size_t)PTRDIFF_MAX + rng_range(&rng, 0, 4) - 2;
    case 4:
        return SIZE_MAX - rng_range(&rng, 0, 9000);
    case 5:
        return rng_next(&rng) >> rng_range(&rng, 0, 40);
    default:
        return rng_range(&rng, 1, (size_t)1 << rng_range(&rng, 4, 24));
    }
}

static size_t any_alignment(void) {
    switch (rng_range(&rng, 0, 9)) {
    case 0:
        return rng_range(&rng, 0, 100);
    case 1:
        return (size_t)1 << rng_range(&rng, 24, 63);
    case 2:
        return ((size_t)1 << rng_range(&rng, 2, 24)) + 8;
    default:
        return (size_t)1 << rng_range(&rng, 0, 22);
    }
}

/* Two factors, often with a product near an edge or beyond SIZE_MAX. */
static void any_factors(size_t *a, size_t *b) {
    *a = any_size();
    *b = rng_next(&rng) % 2 ? rng_range(&rng, 0, 8) : any_size();
    if (rng_next(&rng) % 2) {
        size_t swap = *a;
        *a = *b;
        *b = swap;
    }
}

/* --- comparing --- */

static char what[300];

_Noreturn static void differ(const char *how) {
    char text[500];
    snprintf(text, sizeof text, "conformance: %s: %s\n", what, how);
    say(text);
    _exit(1);
}

#define MINIMUM_ALIGNMENT 16

struct result {
    void *p;
    int error;
};

/* Both served or both not, with the same errno. True if there is something to look at. */
static bool same_outcome(struct result ours, struct result theirs) {
    if (!ours.p != !theirs.p)
        differ(ours.p ? "we serve what the C library refuses" : "we refuse what the C library serves");
    if (ours.error != theirs.error) {
        char text[100];
        snprintf(text, sizeof text, "errno %d, the C library's %d", ours.error, theirs.error);
        differ(text);
    }
    return ours.p != NULL;
}

static void check_block(void *p, size_t size, size_t alignment) {
    if ((uintptr_t)p % (alignment > MINIMUM_ALIGNMENT ? alignment : MINIMUM_ALIGNMENT)) differ("misaligned");
    if (shim.malloc_usable_size(p) < size) differ("usable size below the request");
    if (size) {
        ((volatile char *)p)[0] = 1;
        ((volatile char *)p)[size - 1] = 1;
    }
}

static void give_back(struct result ours, struct result theirs, bool by_libc_name) {
    int before = errno = (int)rng_range(&rng, 0, 100);
    if (by_libc_name)
        shim.libc_free(ours.p);
    else
        shim.free(ours.p);
    if (errno != before) differ("free changed errno");
    libc.free(theirs.p);
}

/* errno is preset, so that "left alone" can be told from "set". */
#define CALL(side, expression)                                                                               \
    ({                                                                                                       \
        struct result r_;                                                                                    \
        errno = preset;                                                                                      \
        r_.p = side.expression;                                                                              \
        r_.error = errno;                                                                                    \
        r_;                                                                                                  \
    })
#define BOTH(expression)                                                                                     \
    int preset = (int)rng_range(&rng, 0, 30);                                                                \
    struct result ours = CALL(shim, expression), theirs = CALL(libc, expression)
#define DESCRIBE(...) snprintf(what, sizeof what, __VA_ARGS__)

/* --- one case each --- */

static void case_malloc(void) {
    size_t n = any_size();
    bool other = rng_next(&rng) % 4 == 0;
    DESCRIBE("malloc(%zu)", n);
    int preset = (int)rng_range(&rng, 0, 30);
    struct result ours = other ? CALL(shim, libc_malloc(n)) : CALL(shim, malloc(n));
    struct result theirs = CALL(libc, malloc(n));
    if (same_outcome(ours, theirs)) check_block(ours.p, n, 1);
    give_back(ours, theirs, other);
}

static void case_calloc(void) {
    size_t a, b;
    any_factors(&a, &b);
    bool other = rng_next(&rng) % 4 == 0;
    DESCRIBE("calloc(%zu, %zu)", a, b);
    int preset = (int)rng_range(&rng, 0, 30);
    struct result ours = other ? CALL(shim, libc_calloc(a, b)) : CALL(shim, calloc(a, b));
    struct result theirs = CALL(libc, calloc(a, b));
    if (same_outcome(ours, theirs)) {
        /* Of large blocks a part at each end; rules.c looks at all of them. */
        size_t n = a * b, part = n < 256 * KIB ? n : 256 * KIB;
        if (!all_zero(ours.p, part) || !all_zero((char *)ours.p + n - part, part)) differ("not zero");
        memset(ours.p, 0xff, part);
        check_block(ours.p, a * b, 1);
    }
    give_back(ours, theirs, other);
}

static void case_aligned(void) {
    size_t alignment = any_alignment(), n = any_size();
    switch (rng_range(&rng, 0, 2)) {
    case 0: {
        DESCRIBE("memalign(%zu, %zu)", alignment, n);
        BOTH(memalign(alignment, n));
        if (same_outcome(ours, theirs)) check_block(ours.p, n, (alignment & (alignment - 1)) ? 1 : alignment);
        give_back(ours, theirs, false);
        break;
    }
    case 1: {
        DESCRIBE("aligned_alloc(%zu, %zu)", alignment, n);
        BOTH(aligned_alloc(alignment, n));
        if (same_outcome(ours, theirs)) check_block(ours.p, n, (alignment & (alignment - 1)) ? 1 : alignment);
        give_back(ours, theirs, false);
        break;
    }
    default: {
        DESCRIBE("__libc_memalign(%zu, %zu)", alignment, n);
        BOTH(libc_memalign(alignment, n));
        if (same_outcome(ours, theirs)) check_block(ours.p, n, (alignment & (alignment - 1)) ? 1 : alignment);
        give_back(ours, theirs, true);
    }
    }
}

static void case_posix_memalign(void) {
    size_t alignment = any_alignment(), n = any_size();
    void *const untouched = (void *)0x1234;
    void *p = untouched, *q = untouched;
    DESCRIBE("posix_memalign(%zu, %zu)", alignment, n);
    errno = 17;
    int ours = shim.posix_memalign(&p, alignment, n), our_errno = errno;
    errno = 17;
    int theirs = libc.posix_memalign(&q, alignment, n), their_errno = errno;
    if (ours != theirs) differ("another return value");
    if (our_errno != their_errno) differ("another errno");
    if (ours) {
        if (p != untouched) differ("failed, but changed the pointer");
        return;
    }
    check_block(p, n, alignment);
    give_back((struct result){p, 0}, (struct result){q, 0}, false);
}

static void case_page_aligned(void) {
    size_t n = any_size();
    if (rng_next(&rng) % 2) {
        DESCRIBE("valloc(%zu)", n);
        BOTH(valloc(n));
        if (same_outcome(ours, theirs)) check_block(ours.p, n, 4096);
        give_back(ours, theirs, false);
    } else {
        DESCRIBE("pvalloc(%zu)", n);
        BOTH(pvalloc(n));
        if (same_outcome(ours, theirs)) check_block(ours.p, (n + 4095) & ~(size_t)4095, 4096);
        give_back(ours, theirs, false);
    }
}

/* Through several sizes, from any of the functions, with contents. */
static void case_realloc(void) {
    size_t n = rng_range(&rng, 8, (size_t)1 << rng_range(&rng, 4, 21));
    void *p = NULL, *q = NULL;
    unsigned dice = (unsigned)rng_range(&rng, 0, 3);
    if (dice == 1) {
        p = shim.calloc(1, n), q = libc.calloc(1, n);
    } else if (dice == 2) {
        size_t alignment = (size_t)1 << rng_range(&rng, 4, 16);
        p = shim.memalign(alignment, n), q = libc.memalign(alignment, n);
    } else if (dice == 3) {
        p = shim.malloc(n), q = libc.malloc(n);
    } else {
        n = 0; /* start from NULL */
    }
    for (int step = 0; step < 4; step++) {
        size_t a, b = 1, limit = SIZE_MAX;
        uint64_t tag = rng_next(&rng);
        if (n >= 8) stamp(p, n, tag);
        int preset = (int)rng_range(&rng, 0, 30);
        struct result ours, theirs;
        if (rng_next(&rng) % 4 == 0) {
            any_factors(&a, &b);
            DESCRIBE("reallocarray(%zu bytes, %zu, %zu)", n, a, b);
            if (__builtin_mul_overflow(a, b, &limit)) limit = SIZE_MAX;
            /* both would touch what they copy or map */
            if (limit > 64 * MIB && limit < (size_t)1 << 46) continue;
            ours = CALL(shim, reallocarray(p, a, b));
            theirs = CALL(libc, reallocarray(q, a, b));
        } else {
            a = rng_next(&rng) % 8 ? rng_range(&rng, 8, (size_t)1 << rng_range(&rng, 4, 21)) : any_size();
            limit = a;
            if (limit > 64 * MIB && limit < (size_t)1 << 46) continue;
            DESCRIBE("realloc(%zu bytes, %zu)", n, a);
            bool other = rng_next(&rng) % 4 == 0;
            ours = other ? CALL(shim, libc_realloc(p, a)) : CALL(shim, realloc(p, a));
            theirs = CALL(libc, realloc(q, a));
        }
        if (!same_outcome(ours, theirs)) {
            if (limit == 0 && p) return; /* freed, both of them */
            if (n >= 8 && !stamped(p, n, n, tag)) differ("failed, but changed the contents");
            continue;
        }
        if (n >= 8 && !stamped(ours.p, n < limit ? n : limit, n, tag)) differ("lost contents");
        p = ours.p, q = theirs.p, n = limit;
        check_block(p, n, 1);
    }
    give_back((struct result){p, 0}, (struct result){q, 0}, false);
}

static void case_small_things(void) {
    int parameter = (int)rng_range(&rng, 1000, 2000), value = (int)rng_next(&rng);
    /* unknown parameters only: the others would change the C library */
    DESCRIBE("mallopt(%d, %d)", parameter, value);
    if (shim.mallopt(parameter, value) != libc.mallopt(parameter, value)) differ("another return value");
    DESCRIBE("malloc_usable_size(NULL)");
    if (shim.malloc_usable_size(NULL) != libc.malloc_usable_size(NULL)) differ("another return value");
    DESCRIBE("free(NULL)");
    give_back((struct result){NULL, 0}, (struct result){NULL, 0}, rng_next(&rng) % 2);
    DESCRIBE("__libc_valloc, __libc_pvalloc");
    size_t n = any_size();
    {
        BOTH(libc_valloc(n));
        if (same_outcome(ours, theirs)) check_block(ours.p, n, 4096);
        give_back(ours, theirs, false);
    }
    BOTH(libc_pvalloc(n));
    if (same_outcome(ours, theirs)) check_block(ours.p, n, 4096);
    give_back(ours, theirs, false);
}

int main(int argc, char **argv) {
    static void (*const cases[])(void) = {case_malloc,         case_calloc,       case_aligned,
                                          case_posix_memalign, case_page_aligned, case_realloc,
                                          case_small_things};
    unsigned n_wanted = getenv("ZP_LONG") ? 1000000 : 20000;
    rng = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    require_shim();
    void *library = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    CHECK(library);
    find_all(RTLD_DEFAULT, &shim);
    find_all(library, &libc);
    libc.reallocarray = libc_reallocarray;
    CHECK(shim.malloc != libc.malloc && shim.libc_pvalloc != libc.libc_pvalloc);
    for (unsigned i = 0; i < n_wanted; i++)
        cases[rng_range(&rng, 0, sizeof cases / sizeof cases[0] - 1)]();
    printf("%u calls, no difference\n", n_wanted);
    return 0;
}
