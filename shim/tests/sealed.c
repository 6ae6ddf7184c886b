/* SPDX-License-Identifier: MIT */
/* sealed.c: function pointers in writable memory of a library of ours, which LOOK_INTO names.
 * usage: sealed pointers | sealed write OFFSET
 *
 * "pointers" uses the pool and prints the offset in the library of each writable word that points to code.
 * "write" stores to a word of the library; the process must die of it. */
#include "check.h"

#include <signal.h>
#include <stdio.h>

struct range {
    uintptr_t start, end;
    char permissions[5];
    bool is_library;
};

static struct range ranges[2000];
static size_t n_ranges;

static void read_maps(void) {
    const char *library = getenv("LOOK_INTO");
    FILE *file = fopen("/proc/self/maps", "r");
    char line[4400];
    CHECK(file && library);
    while (fgets(line, sizeof line, file) && n_ranges < sizeof ranges / sizeof ranges[0]) {
        struct range *range = &ranges[n_ranges];
        int at = 0;
        CHECK(sscanf(line, "%lx-%lx %4s %*s %*s %*s %n", &range->start, &range->end, range->permissions,
                     &at) == 3);
        bool anonymous = line[at] == '\0' || line[at] == '\n';
        bool follows =
            n_ranges > 0 && ranges[n_ranges - 1].is_library && ranges[n_ranges - 1].end == range->start;
        range->is_library = strstr(line, library) || (anonymous && follows);
        n_ranges++;
    }
    fclose(file);
}

static bool is_code(uintptr_t word) {
    for (size_t i = 0; i < n_ranges; i++)
        if (word >= ranges[i].start && word < ranges[i].end) return ranges[i].permissions[2] == 'x';
    return false;
}

static uintptr_t library_base(void) {
    for (size_t i = 0; i < n_ranges; i++)
        if (ranges[i].is_library) return ranges[i].start;
    CHECK(false);
    return 0;
}

static void use_pool(void) {
    for (size_t n = 20; n < 64 * MIB; n *= 3) {
        char *p = get(n), *q = realloc(p, n + n / 2);
        KEEP(q);
        q[n] = 1;
        free(q);
        free(calloc(1, n));
        free(aligned_alloc(64, n / 64 * 64 + 64));
    }
}

static int print_pointers(void) {
    use_pool();
    read_maps();
    for (size_t i = 0; i < n_ranges; i++) {
        if (!ranges[i].is_library || ranges[i].permissions[1] != 'w') continue;
        for (uintptr_t at = ranges[i].start; at < ranges[i].end; at += sizeof(void *))
            if (is_code(*(uintptr_t *)at)) printf("%lx\n", at - library_base());
    }
    return 0;
}

int main(int argc, char **argv) {
    require_shim();
    CHECK(argc >= 2);
    if (strcmp(argv[1], "pointers") == 0) return print_pointers();
    use_pool();
    read_maps();
    signal(SIGSEGV, SIG_DFL);
    CHECK(argc == 3);
    void *volatile *word = (void *volatile *)(library_base() + strtoul(argv[2], NULL, 16));
    *word = *word;
    return 0;
}
