/* SPDX-License-Identifier: MIT */
/* refused.c: requests that must fail, and what they leave behind: mappings, lost addresses, an empty pool.
 * usage: refused mappings REQUEST BLOCKS | cost REQUEST ROUNDS | serves REQUEST ROUNDS | list */
#include "invisible.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>

static size_t machine_bytes(void) {
    return (size_t)sysconf(_SC_PHYS_PAGES) * PAGE;
}
/* The overcommit guess refuses what exceeds memory and swap together. */
static size_t too_much(void) {
    return 2 * machine_bytes() + (size_t)status_of(getpid(), "VmSwap");
}
static void *mapped(size_t n, int flags) {
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void *ask_nothing(void) {
    return NULL;
}
static void *ask_double(void) {
    return get(too_much());
}
static void *ask_half_of_all(void) {
    return get(PTRDIFF_MAX / 2);
}
static void *ask_all(void) {
    return get(PTRDIFF_MAX);
}
static void *ask_zeroed(void) {
    return calloc(too_much() / 4096, 4096);
}
static void *ask_overflow(void) {
    volatile size_t many = SIZE_MAX / 2 + 2;
    return calloc(many, 2);
}
static void *ask_growth(void) {
    void *p = get(300 * KIB), *grown = realloc(p, too_much());
    KEEP(grown);
    if (!grown) free(p);
    return grown;
}
static void *ask_aligned(void) {
    void *p = NULL;
    return posix_memalign(&p, (size_t)1 << 46, MIB) ? NULL : p;
}
static void *ask_aligned_size(void) {
    return memalign(2 * MIB, too_much());
}
static void *ask_huge_pages(void) {
    return mapped(2 * MIB, MAP_HUGETLB);
}
static void *ask_gigantic_pages(void) {
    return mapped(1024 * MIB, MAP_HUGETLB | (30 << 26));
}
static void *ask_100_tib(void) {
    return mapped((size_t)100 << 40, 0);
}
static void *ask_map_double(void) {
    return mapped(too_much(), 0);
}
static void *ask_remap(void) {
    void *p = mapped(MIB, 0), *grown = mremap(p, MIB, too_much(), MREMAP_MAYMOVE);
    if (grown == MAP_FAILED) munmap(p, MIB);
    return grown == MAP_FAILED ? NULL : grown;
}

static const struct request {
    const char *name;
    void *(*ask)(void);
} requests[] = {{"nothing", ask_nothing},
                {"double", ask_double},
                {"half-of-all", ask_half_of_all},
                {"all", ask_all},
                {"zeroed", ask_zeroed},
                {"overflow", ask_overflow},
                {"growth", ask_growth},
                {"aligned", ask_aligned},
                {"aligned-size", ask_aligned_size},
                {"huge-pages", ask_huge_pages},
                {"gigantic-pages", ask_gigantic_pages},
                {"100-tib", ask_100_tib},
                {"map-double", ask_map_double},
                {"remap", ask_remap}};

static void *(*request_named(const char *name))(void) {
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        if (strcmp(requests[i].name, name) == 0) return requests[i].ask;
    exit(2);
}

static void *sleeper(void *unused) {
    pause();
    return NULL;
}

static size_t n_mappings(void) {
    size_t n = 0;
    char line[512];
    FILE *file = fopen("/proc/self/maps", "r");
    while (file && fgets(line, sizeof line, file))
        n++;
    if (file) fclose(file);
    return n;
}

/* Every second of many blocks is free: idle memory with as many ends. */
static int mappings(void *(*ask)(void), size_t n_blocks) {
    pthread_t thread;
    char **blocks = calloc(n_blocks, sizeof *blocks);
    for (size_t i = 0; i < n_blocks; i++)
        *(blocks[i] = get(64 * KIB)) = 1;
    for (size_t i = 0; i < n_blocks; i += 2)
        free(blocks[i]);
    double start = clock_us(CLOCK_PROCESS_CPUTIME_ID);
    if (ask()) return 77;
    report("ms", (clock_us(CLOCK_PROCESS_CPUTIME_ID) - start) / 1000);
    printf("thread: %s\n", pthread_create(&thread, NULL, sleeper, NULL) == 0 ? "ok" : "refused");
    report("mappings", (double)n_mappings());
    return 0;
}

/* Small blocks of the pool freed and taken again, with the request between: once that costs what it costs
 * without it. */
static int cost(void *(*ask)(void), size_t n_rounds) {
    const size_t n = 100 * KIB;
    char *blocks[64];
    use_once(12 * MIB);
    for (int i = 0; i < 64; i++)
        blocks[i] = get_touched(n);
    /* What they leave must not lie at the end of the heap. */
    char *last = get(40 * KIB);
    *last = 1;
    if (ask()) return 77;
    double start = clock_us(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t round = 0; round < n_rounds; round++) {
        for (int i = 0; i < 64; i++)
            free(blocks[i]);
        ask();
        for (int i = 0; i < 64; i++)
            blocks[i] = get_touched(n);
    }
    report("round-us", (clock_us(CLOCK_PROCESS_CPUTIME_ID) - start) / (double)n_rounds);
    return 0;
}

/* After many such requests the pool serves what it served before. */
static int serves(void *(*ask)(void), size_t n_rounds) {
    double from_pool = 0;
    use_once(MIB);
    for (size_t i = 0; i < n_rounds; i++) {
        char *block = get(64 * MIB), *kept = get(64 * KIB);
        if (!block || !kept) return 3;
        *block = *kept = 1;
        from_pool += in_pool(block);
        free(block);
        if (ask()) return 77;
    }
    char *p = get(MIB);
    report("lost", (double)n_rounds - from_pool);
    report("lost-at-the-end", !in_pool(p));
    report("mappings", (double)n_mappings());
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    void *(*ask)(void) = request_named(argv[2]);
    size_t n = number(argv, 3);
    int status = strcmp(argv[1], "mappings") == 0 ? mappings(ask, n)
                 : strcmp(argv[1], "cost") == 0   ? cost(ask, n)
                                                  : serves(ask, n);
    if (status == 77) fprintf(stderr, "the request does not fail here\n");
    fflush(stdout);
    _exit(status);
}
