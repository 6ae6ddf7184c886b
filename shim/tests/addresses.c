/* SPDX-License-Identifier: MIT */
/* addresses.c: what others map at fixed addresses finds room beside the pool (docs/address-space.md). usage:
 * addresses CASE
 *
 *   ranges    maps each range; runs itself several times, since the pool's place is drawn anew in each
 * process fixed     without randomisation each run gets the same blocks */
#include "check.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>

#define TIB ((size_t)1 << 40)
#define RUNS 12

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static const struct {
    const char *who;
    uintptr_t start;
    size_t length;
} ranges[] = {
    {"DPDK", 0x100000000, 2 * GIB},
    {"CUDA", 0x200000000, 64 * GIB},
    {"GHC", 0x4200000000, 256 * GIB},
    {"Go", 0xc000000000, 256 * GIB},
    {"libpmem", 1 * TIB, 256 * GIB},
    {"mimalloc", 2 * TIB, 2 * TIB},
    {"ZGC", 4 * TIB, 16 * TIB},
    {"MemorySanitizer, lower", 0x010000000000, 1 * TIB},
    {"SPDK, mimalloc's huge pages, race detector of Go", 0x200000000000, 10 * TIB},
    {"ThreadSanitizer, meta", 0x300000000000, 16 * TIB},
    {"unlimited stack", 0x2aaaaaaab000, 4 * TIB},
};

static char *blocks[64];

static void use_pool(void) {
    for (int i = 0; i < 64; i++) {
        blocks[i] = get((size_t)MIB << i % 6);
        blocks[i][0] = 1;
    }
}

static int map_ranges(void) {
    use_pool();
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        void *wanted = (void *)ranges[i].start;
        void *p = mmap(wanted, ranges[i].length, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (p != wanted) {
            fprintf(stderr, "no room for %s at %p\n", ranges[i].who, wanted);
            return 1;
        }
        munmap(p, ranges[i].length);
    }
    /* The pool goes on beside them. */
    use_pool();
    CHECK(in_pool(blocks[63]));
    return 0;
}

/* Starts this program again; its exit status. What it prints goes to out. */
static int run_again(const char *name, FILE *out) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (out) dup2(fileno(out), STDOUT_FILENO);
        execl("/proc/self/exe", "addresses", name, (char *)NULL);
        _exit(99);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int find_room(void) {
    for (int i = 0; i < RUNS; i++)
        CHECK(run_again("once", NULL) == 0);
    return 0;
}

static int print_addresses(void) {
    use_pool();
    for (int i = 0; i < 64; i++)
        printf("%p\n", (void *)blocks[i]);
    return 0;
}

static size_t addresses_of_run(char *text, size_t size) {
    FILE *file = tmpfile();
    CHECK(file && run_again("print", file) == 0);
    rewind(file);
    size_t n = fread(text, 1, size, file);
    fclose(file);
    return n;
}

static int fixed_addresses(void) {
    static char texts[2][8192];
    size_t random_n = addresses_of_run(texts[0], sizeof texts[0]);
    CHECK(random_n > 64 * 8 && addresses_of_run(texts[1], sizeof texts[1]) == random_n);
    CHECK(memcmp(texts[0], texts[1], random_n) != 0);
    if (personality(ADDR_NO_RANDOMIZE) == -1) return SKIP;
    size_t n = addresses_of_run(texts[0], sizeof texts[0]);
    CHECK(n > 64 * 8 && addresses_of_run(texts[1], sizeof texts[1]) == n &&
          memcmp(texts[0], texts[1], n) == 0);
    return 0;
}

int main(int argc, char **argv) {
    require_shim();
    CHECK(argc == 2);
    if (strcmp(argv[1], "ranges") == 0) return find_room();
    if (strcmp(argv[1], "once") == 0) return map_ranges();
    if (strcmp(argv[1], "print") == 0) return print_addresses();
    return fixed_addresses();
}
