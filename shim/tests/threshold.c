/* SPDX-License-Identifier: MIT */
/* threshold.c: which requests the pool serves. The threshold falls for programs that need much, unless the
 * user has set it. */
#include "check.h"

#define SMALL (20 * KIB)
#define LARGE (40 * KIB)

static bool small_from_pool(void) {
    void *p = get(SMALL);
    bool answer = in_pool(p);
    free(p);
    return answer;
}

/* Live blocks until the pool holds more than 8 MiB; then twice as much again, should anything wait for a
 * later occasion. */
static void need_much(void) {
    for (int i = 0; i < 400; i++)
        CHECK(in_pool(get(LARGE)));
}

static void falls(void) {
    CHECK(!small_from_pool());
    void *before = get(SMALL);
    memset(before, 0x5a, SMALL);
    need_much();
    CHECK(small_from_pool());
    CHECK(!in_pool(get(SMALL / 2)));
    /* Blocks from before go back where they came from, and may grow. */
    CHECK(!in_pool(before));
    char *grown = realloc(before, 3 * SMALL);
    CHECK(in_pool(grown) && grown[0] == 0x5a && grown[SMALL - 1] == 0x5a);
    free(grown);
}

static void stays(void) {
    need_much();
    CHECK(!small_from_pool());
}

/* Little need is no need, however often it comes. */
static void stays_for_little(void) {
    for (int i = 0; i < 100000; i++)
        free(get(LARGE));
    CHECK(!small_from_pool());
}

/* Little at a time, but always of another size than the caches hold. */
static void falls_for_misses(void) {
    void *live[16] = {NULL};
    for (unsigned i = 0; i < 20000; i++) {
        void **slot = &live[i % 16];
        free(*slot);
        *slot = get(32 * KIB + (size_t)(i * 2654435761u >> 16) % (96 * KIB));
    }
    CHECK(small_from_pool());
}

int main(int argc, char **argv) {
    require_shim();
    CHECK(argc == 2);
    if (strcmp(argv[1], "falls") == 0)
        falls();
    else if (strcmp(argv[1], "stays") == 0)
        stays();
    else if (strcmp(argv[1], "stays-for-little") == 0)
        stays_for_little();
    else if (strcmp(argv[1], "falls-for-misses") == 0)
        falls_for_misses();
    else
        CHECK(!"known case");
    return 0;
}
