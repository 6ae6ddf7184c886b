/* SPDX-License-Identifier: MIT */
/* giving_back.c: what the pool holds idle must not be missing elsewhere: memory, addresses under a limit,
 * locks, what the program has told the next allocator. usage: giving_back CASE */
#include "check.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void read_sizes(size_t *address_space, size_t *resident) {
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%zu %zu", address_space, resident) == 2);
    fclose(file);
    *address_space *= 4096;
    *resident *= 4096;
}

static size_t address_space(void) {
    size_t size, resident;
    read_sizes(&size, &resident);
    return size;
}

static size_t resident(void) {
    size_t size, bytes;
    read_sizes(&size, &bytes);
    return bytes;
}

static void use_once(size_t n) {
    char *p = get(n);
    CHECK(in_pool(p));
    memset(p, 1, n);
    free(p);
}

/* The program maps memory itself, under a limit that what it has freed nearly fills. */
static int addresses_at_once(void) {
    struct rlimit limit = {address_space() + 700 * MIB, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    use_once(500 * MIB);
    char *p = mmap(NULL, 500 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    CHECK(munmap(p, 400 * MIB) == 0);
    use_once(400 * MIB);
    p = mremap(p + 400 * MIB, 100 * MIB, 500 * MIB, MREMAP_MAYMOVE);
    CHECK(p != MAP_FAILED);
    return 0;
}

/* Nobody asks, but others may have use for them. */
static int addresses_at_rest(void) {
    use_once(MIB);
    size_t before = address_space();
    use_once(300 * MIB);
    CHECK(address_space() >= before + 290 * MIB);
    for (int i = 0; i < 100; i++) {
        usleep(100000);
        if (address_space() < before + 30 * MIB) return 0;
    }
    say("the addresses are still mapped after 10 s\n");
    return 1;
}

static int impossible_sizes(void) {
    use_once(100 * MIB);
    size_t before = resident();
    CHECK(before >= 100 * MIB);
    for (int i = 0; i < 100; i++) {
        size_t n = (size_t)1 << 62;
        KEEP(n);
        errno = 0;
        CHECK(!get(n) && errno == ENOMEM);
        void *p = calloc(n, 16);
        KEEP(p);
        CHECK(!p);
    }
    CHECK(resident() >= before - MIB);
    return 0;
}

/* The thread goes on to work, but not with that. */
static int resting_block(void) {
    use_once(300 * MIB);
    for (int i = 0; i < 100; i++) {
        for (int n = 0; n < 100; n++)
            free(get(64 * KIB));
        usleep(100000);
        if (resident() < 30 * MIB) return 0;
    }
    say("the block is still resident after 10 s\n");
    return 1;
}

static void *fork_here(void *result) {
    pid_t child = fork();
    if (child == 0) {
        use_once(100 * MIB);
        for (int i = 0; i < 50 && n_threads() < 2; i++) {
            usleep(20000);
            use_once(100 * MIB);
        }
        _exit(n_threads() < 2);
    }
    CHECK(child > 0 && waitpid(child, result, 0) == child);
    return NULL;
}

/* Who forks need not be the main thread; the child gets its background thread all the same. */
static int child_of_a_thread(void) {
    use_once(100 * MIB);
    pthread_t thread;
    int status = -1;
    CHECK(pthread_create(&thread, NULL, fork_here, &status) == 0);
    pthread_join(thread, NULL);
    CHECK(status == 0);
    return 0;
}

static int own_mallopt(void) {
    CHECK(mallopt(M_TRIM_THRESHOLD, 64 * KIB) == 1);
    use_once(MIB);
    static void *blocks[12000];
    for (size_t i = 0; i < 12000; i++)
        blocks[i] = get(1000);
    char *high = sbrk(0);
    for (size_t i = 0; i < 12000; i++)
        free(blocks[i]);
    CHECK(high - (char *)sbrk(0) > (ptrdiff_t)(8 * MIB));
    return 0;
}

/* Is the mapping at this address locked? */
static bool is_locked(const void *p) {
    FILE *file = fopen("/proc/self/smaps", "r");
    CHECK(file);
    char line[512];
    bool inside = false, locked = false;
    while (fgets(line, sizeof line, file)) {
        uintptr_t start, end;
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2) inside = (uintptr_t)p >= start && (uintptr_t)p < end;
        if (inside && strncmp(line, "VmFlags:", 8) == 0) locked = strstr(line, " lo") != NULL;
    }
    fclose(file);
    return locked;
}

static int all_locked(void) {
    if (mlockall(MCL_CURRENT | MCL_FUTURE)) return SKIP;
    for (int i = 0; i < 3; i++) {
        char *p = get(MIB);
        CHECK(in_pool(p) && is_locked(p));
        if (mlock(p, MIB)) return SKIP;
        free(p);
    }
    CHECK(munlockall() == 0);
    char *p = get(MIB);
    CHECK(mlock(p, MIB) == 0);
    free(p);
    char *q = get(MIB);
    CHECK(q == p && !is_locked(q));
    return 0;
}

MAIN_OF_CASES(giving_back, {"addresses-at-once", addresses_at_once}, {"addresses-at-rest", addresses_at_rest},
              {"impossible-sizes", impossible_sizes}, {"resting-block", resting_block},
              {"child-of-a-thread", child_of_a_thread}, {"own-mallopt", own_mallopt},
              {"all-locked", all_locked})
