/* SPDX-License-Identifier: MIT */
/* early_calls_lib.c: a library whose constructor comes before all others (-z initfirst) and calls the malloc
 * family, so that the shim has to find the next allocator in the middle of each of them. Its dlsym allocates,
 * as glibc's does on some paths: then memory must come from somewhere while the next allocator is not
 * known. */
#include "check.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/mman.h>

static char page[4096] __attribute__((aligned(4096)));

static void map_and_change(void) {
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    p[0] = 1;
    p = mremap(p, 8192, 64 * KIB, MREMAP_MAYMOVE);
    CHECK(p != MAP_FAILED && p[0] == 1);
    CHECK(munmap(p, 64 * KIB) == 0);
}

/* Which call comes first, by EARLY_CALL. */
static void first_call(const char *which) {
    void *p = NULL;
    struct mallinfo2 info = {0};
    if (strcmp(which, "malloc") == 0)
        p = get(100);
    else if (strcmp(which, "free") == 0)
        free(NULL);
    else if (strcmp(which, "calloc") == 0)
        p = calloc(10, 10);
    else if (strcmp(which, "realloc") == 0)
        p = realloc(NULL, 100);
    else if (strcmp(which, "memalign") == 0)
        p = memalign(64, 100);
    else if (strcmp(which, "aligned_alloc") == 0)
        p = aligned_alloc(64, 128);
    else if (strcmp(which, "posix_memalign") == 0)
        CHECK(posix_memalign(&p, 64, 100) == 0);
    else if (strcmp(which, "valloc") == 0)
        p = valloc(100);
    else if (strcmp(which, "pvalloc") == 0)
        p = pvalloc(100);
    else if (strcmp(which, "usable") == 0)
        CHECK(malloc_usable_size(NULL) == 0);
    else if (strcmp(which, "trim") == 0)
        (void)malloc_trim(0);
    else if (strcmp(which, "mallinfo2") == 0)
        info = mallinfo2();
    else if (strcmp(which, "mallinfo") == 0) {
        _Pragma("GCC diagnostic ignored \"-Wdeprecated-declarations\"")(void) mallinfo();
    } else if (strcmp(which, "stats") == 0)
        malloc_stats();
    else if (strcmp(which, "info") == 0)
        (void)malloc_info(1, stderr);
    else if (strcmp(which, "mallopt") == 0)
        (void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
    else if (strcmp(which, "mmap") == 0)
        map_and_change();
    else if (strcmp(which, "mprotect") == 0)
        CHECK(mprotect(page, 4096, PROT_READ) == 0 && mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
    else if (strcmp(which, "madvise") == 0)
        CHECK(madvise(page, 4096, MADV_NORMAL) == 0 && madvise(page, 4096, 4000) == -1 && errno == EINVAL);
    else if (strcmp(which, "posix_madvise") == 0)
        CHECK(posix_madvise(page, 4096, POSIX_MADV_RANDOM) == 0 &&
              posix_madvise(page, 4096, POSIX_MADV_NORMAL) == 0);
    else if (strcmp(which, "mlock") == 0)
        CHECK(mlock(page, 4096) == 0 && munlock(page, 4096) == 0);
    else if (strcmp(which, "munmap") == 0)
        CHECK(munmap(page + 1, 4096) == -1 && errno == EINVAL);
    else if (strcmp(which, "large") == 0)
        p = get(MIB); /* the pool's own calls, before any other */
    else
        CHECK(!"known call");
    KEEP(p);
    CHECK(info.arena + 1 != 0);
    free(p);
}

/* --- a dlsym that allocates --- */

static int busy;
static void *kept[4];
static volatile size_t one_too_many = (size_t)-1; /* hidden from the compiler, which would warn */

void *dlsym(void *handle, const char *name) {
    static void *(*real)(void *, const char *);
    if (!real) *(void **)&real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
    const char *wanted = getenv("EARLY_DLSYM");
    if (wanted && !busy && !kept[0]) {
        busy = 1;
        char *p = get(40), *q = calloc(7, 9), *r = memalign(256, 30);
        CHECK(p && q && r && (uintptr_t)r % 256 == 0 && all_zero(q, 63));
        CHECK((uintptr_t)p % 16 == 0);
        strcpy(p, "kept");
        char *grown = realloc(p, 4000);
        CHECK(grown && strcmp(grown, "kept") == 0);
        char *more = realloc(NULL, 10);
        CHECK(more && malloc_usable_size(q) < 100000);
        free(more);
        free(NULL);
        map_and_change();
        errno = 0;
        /* beyond what is kept for this */
        CHECK(!get(1 << 20) && !calloc(one_too_many, 16) && !realloc(NULL, 1 << 20));
        if (strcmp(wanted, "much") == 0) {
            int n = 0;
            while (n < 1000 && get(1000))
                n++;
            CHECK(n > 10 && n < 100 && errno == ENOMEM);
        }
        kept[0] = grown, kept[1] = q, kept[2] = r;
        busy = 0;
    }
    return real(handle, name);
}

__attribute__((constructor)) static void begin(void) {
    const char *which = getenv("EARLY_CALL");
    if (which) first_call(which);
}

void early_calls_check(void);

/* What came from there is like any other block: it is asked about, grown and freed. */
void early_calls_check(void) {
    if (!getenv("EARLY_DLSYM")) return;
    CHECK(kept[0] && strcmp(kept[0], "kept") == 0);
    CHECK(malloc_usable_size(kept[0]) >= 4000 && malloc_usable_size(kept[1]) >= 63);
    char *p = realloc(kept[0], 200000);
    CHECK(p && strcmp(p, "kept") == 0);
    free(p);
    free(kept[1]);
    char *r = realloc(kept[2], 20);
    CHECK(r);
    free(r);
}
