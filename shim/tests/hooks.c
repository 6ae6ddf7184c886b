/* SPDX-License-Identifier: MIT */
/* hooks.c: another library that interposes the memory calls, behind the preload library or before it. The
 * program's calls reach it once and are known to the pool; behind, it also sees what the pool does to its own
 * memory. usage: hooks behind|before */
#include "check.h"
#include "hooks_lib.h"

#include <malloc.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define SIZE (64 * MIB)

static size_t address_space(void) {
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%zu", &pages) == 1);
    fclose(file);
    return pages * 4096;
}

/* What the pool maps, gives back and unmaps. */
static void sees_the_pool(struct hooks_seen *seen) {
    memset(get(SIZE), 1, SIZE); /* lives on above */
    CHECK(seen->mmap[1] > 0);
    char *p = get(SIZE);
    memset(p, 1, SIZE);
    free(p);
    unsigned before = seen->madvise[1];
    malloc_trim(0);
    CHECK(seen->madvise[1] > before);
    p = get(SIZE);
    memset(p, 1, SIZE);
    free(p);
    struct rlimit limit = {address_space() + MIB, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    /* All of it would not be enough, so nothing goes. But once a second limits are read, and what they leave
     * too little of is unmapped: that may be this very call, though not twice in a row. */
    for (int i = 0; i < 2; i++) {
        before = seen->munmap[1];
        CHECK(!get(GIB));
        if (seen->munmap[1] == before) break;
        CHECK(i == 0);
        limit.rlim_cur = RLIM_INFINITY;
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        p = get(SIZE);
        memset(p, 1, SIZE);
        free(p);
        limit.rlim_cur = address_space() + MIB;
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    }
    void *own = mmap(NULL, SIZE / 2, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(own != MAP_FAILED && seen->munmap[1] > before);
}

static void sees_the_program(struct hooks_seen *seen) {
    const size_t n = 200 * KIB;
    for (int i = 0; i < 100000; i++)
        free(get(n));
    char *p = get(n);
    CHECK(in_pool(p));
    memset(p, 1, n);
    unsigned before = seen->madvise[1];
    CHECK(madvise(p, n, MADV_WILLNEED) == 0);
    CHECK(seen->madvise[1] == before + 1);
    before = seen->munmap[1];
    CHECK(munmap(p, n) == 0);
    CHECK(seen->munmap[1] == before + 1);
    free(p);
    char *q = get(n);
    CHECK(q == p);
    memset(q, 1, n); /* a fault, had the pool not heard of it */
    free(q);
}

/* A guard that the program takes away again leaves nothing to be undone; one that it leaves there costs one
 * call. */
static void guards_are_cheap(struct hooks_seen *seen, bool behind) {
    const size_t n = 200 * KIB;
    for (int leaves = 0; leaves < 2; leaves++) {
        char *p = get(n);
        CHECK(mprotect(p, 4096, PROT_NONE) == 0);
        if (!leaves) CHECK(mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0);
        unsigned advised = seen->madvise[1], protected = seen->pkey_mprotect[1];
        free(p);
        CHECK(seen->madvise[1] == advised);
        if (behind) CHECK(seen->pkey_mprotect[1] == protected + (unsigned)leaves);
        CHECK(get(n) == p);
        memset(p, 1, n);
        free(p);
    }
}

int main(int argc, char **argv) {
    require_shim();
    bool behind = argc == 2 && strcmp(argv[1], "behind") == 0;
    sees_the_program(hooks());
    guards_are_cheap(hooks(), behind);
    if (behind) {
        /* Idle memory goes back by itself, but not on a thread that the C library does not know: hooks may
         * use its variables. */
        char *p = get(SIZE);
        memset(p, 1, SIZE);
        free(p);
        usleep(500000);
        CHECK(access("/proc/self/task", F_OK) == 0 && n_threads() == 1);
        sees_the_pool(hooks());
    }
    return 0;
}
