/* SPDX-License-Identifier: MIT */
/* residency.c: what the process keeps: warm memory does not fault, sparse memory costs nothing, mappings stay
 * few. usage: residency CASE */
#include "check.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

static size_t resident_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    size_t size = 0, resident = 0;
    CHECK(file && fscanf(file, "%zu %zu", &size, &resident) == 2);
    fclose(file);
    return resident * 4096;
}

static long faults(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static void burst(size_t n_blocks, size_t n_bytes) {
    void *blocks[512];
    for (size_t i = 0; i < n_blocks; i++) {
        blocks[i] = get(n_bytes);
        CHECK(blocks[i]);
        memset(blocks[i], 1, n_bytes);
    }
    for (size_t i = 0; i < n_blocks; i++)
        free(blocks[i]);
}

static int grace(void) {
    burst(64, 4 * MIB);
    size_t full = resident_bytes();
    usleep(700000);
    CHECK(resident_bytes() + 16 * MIB > full); /* the first second is the most valuable one */
    return 0;
}

/* The promise of the whole thing. The first four warm blocks of a size are watched: a fault for each huge
 * page of them, 512 for one without the pool (docs/memory-policy.md). */
static int warm_memory_does_not_fault(void) {
    for (size_t n = 64 * KIB; n <= 256 * MIB; n *= 4) {
        burst(1, n);
        for (int i = 0; i < 4; i++) {
            long before = faults();
            burst(1, n);
            CHECK(faults() - before <= (long)(n / (2 * MIB)) + 16);
        }
        long before = faults();
        for (int i = 0; i < 10; i++)
            burst(1, n);
        CHECK(faults() - before < 40);
    }
    return 0;
}

static int realloc_growth_stays_cheap(void) {
    size_t n = 64 * KIB;
    char *p = get(n);
    memset(p, 1, n);
    long before = faults();
    while (n < 256 * MIB) {
        size_t larger = n + n / 8;
        p = realloc(p, larger);
        CHECK(p);
        memset(p + n, 1, larger - n);
        n = larger;
    }
    /* Each page once (65536), and few again: copying every time would fault nine times as many. */
    CHECK(faults() - before < 100000);
    CHECK(p[0] == 1 && p[n - 1] == 1 && p[n / 2] == 1);
    free(p);
    return 0;
}

/* Run with ZEROPOOL_THRESHOLD=4M: what the user leaves to the C library must fare there as it would without
 * us. */
static int below_a_raised_threshold(void) {
    burst(1, 8 * MIB);
    burst(1, 512 * KIB);
    long before = faults();
    for (int i = 0; i < 200; i++)
        burst(1, 512 * KIB);
    CHECK(faults() - before < 2000); /* 25600 if each one is mapped anew */
    return 0;
}

static int sparse_calloc_costs_nothing(void) {
    size_t before = resident_bytes();
    for (int i = 0; i < 20; i++) {
        char *p = calloc(1, 256 * MIB);
        CHECK(p);
        p[5 * MIB] = 1;
        p[200 * MIB] = 1;
        CHECK(resident_bytes() < before + 40 * MIB);
        free(p);
    }
    return 0;
}

/* 20000 blocks of all sizes come and go: the process must not come near the limit of 65530 mappings. */
static int few_mappings(void) {
    uint64_t rng = 4;
    void *live[200] = {NULL};
    for (int i = 0; i < 20000; i++) {
        size_t slot = rng_range(&rng, 0, 199),
               n = rng_range(&rng, 32 * KIB, (size_t)1 << rng_range(&rng, 16, 22));
        if (i % 3 && live[slot])
            live[slot] = realloc(live[slot], n);
        else {
            free(live[slot]);
            live[slot] = get(n);
        }
        CHECK(live[slot]);
        memset(live[slot], 1, 4096);
    }
    FILE *file = fopen("/proc/self/maps", "r");
    int n_lines = 0;
    for (int c; (c = fgetc(file)) != EOF;)
        n_lines += c == '\n';
    fclose(file);
    CHECK(n_lines < 2000);
    return 0;
}

/* --- what the library adds to a small program --- */

#define ADDED_RUNS 15
#define ADDED_MAX_KIB 250

/* Exact; what statm says lags behind by up to some hundred KiB. */
static int rollup_kib(void) {
    char line[256];
    int kib = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && !kib && fgets(line, sizeof line, file))
        sscanf(line, "Rss: %d kB", &kib);
    if (file) fclose(file);
    return kib;
}

/* The small program: much is allocated, little touched. */
static int sparse_program(void) {
    int kib = 0;
    for (int round = 0; round < 3; round++) {
        volatile char *p = get(GIB);
        CHECK(p);
        for (size_t at = 0; at < GIB; at += 2 * MIB)
            p[at] = 1;
        kib = rollup_kib();
        free((void *)p);
    }
    return write(STDOUT_FILENO, &kib, sizeof kib) != sizeof kib;
}

static int run_sparse_program(bool with_library) {
    int ends[2], kib = 0, status;
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        if (!with_library) unsetenv("LD_PRELOAD");
        execl("/proc/self/exe", "residency", "sparse-program", NULL);
        _exit(1);
    }
    close(ends[1]);
    CHECK(read(ends[0], &kib, sizeof kib) == sizeof kib);
    close(ends[0]);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    return kib;
}

static int compare_ints(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

/* Medians, since it depends on where the libraries are placed what the kernel maps around each page of
 * them. */
static int added_to_a_small_program(void) {
    int kib[2][ADDED_RUNS];
    for (int run = 0; run < ADDED_RUNS; run++)
        for (int with = 0; with < 2; with++)
            kib[with][run] = run_sparse_program(with);
    for (int with = 0; with < 2; with++)
        qsort(kib[with], ADDED_RUNS, sizeof kib[with][0], compare_ints);
    int without = kib[0][ADDED_RUNS / 2], with = kib[1][ADDED_RUNS / 2];
    fprintf(stderr, "%d KiB without the library, %d KiB with it\n", without, with);
    CHECK(with <= without + ADDED_MAX_KIB);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "sparse-program") == 0) return sparse_program();
    static const struct test_case cases[] = {{"grace", grace},
                                             {"warm", warm_memory_does_not_fault},
                                             {"growth", realloc_growth_stays_cheap},
                                             {"below-a-raised-threshold", below_a_raised_threshold},
                                             {"sparse-calloc", sparse_calloc_costs_nothing},
                                             {"few-mappings", few_mappings},
                                             {"added", added_to_a_small_program}};
    require_shim();
    return RUN_CASE(residency, cases);
}
