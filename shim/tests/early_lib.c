/* SPDX-License-Identifier: MIT */
/* early_lib.c: a library whose constructor and destructor allocate: they run before the main program's and
 * after them. */
#include "early_lib.h"

#include "check.h"

#define N 6
static void *blocks[N];
static void *late;

static size_t size_of(int i) {
    return (size_t)1000 << (3 * i);
} /* 1 KB to 32 MB */

__attribute__((constructor(101))) static void begin(void) {
    for (int i = 0; i < N; i++) {
        blocks[i] = get(size_of(i));
        CHECK(blocks[i]);
        stamp(blocks[i], size_of(i), (uint64_t)i);
    }
    void *p = calloc(3, 500000);
    CHECK(p && all_zero(p, 1500000));
    p = realloc(p, 5000000);
    CHECK(p);
    free(p);
}

void early_check_and_free(void) {
    for (int i = 0; i < N; i++) {
        CHECK(stamped(blocks[i], size_of(i), size_of(i), (uint64_t)i));
        free(blocks[i]);
        blocks[i] = NULL;
    }
}

void early_keep(void *p) {
    late = p;
}

/* Runs after the main program's destructors and atexit handlers, and, preloaded libraries being first, after
 * the shim's. */
__attribute__((destructor(101))) static void end(void) {
    if (!late) return;
    CHECK(stamped(late, 3 * MIB, 3 * MIB, 42));
    free(late);
    void *p = get(40 * MIB), *q = get(100);
    CHECK(p && q);
    stamp(p, 40 * MIB, 1);
    p = realloc(p, 80 * MIB);
    CHECK(p && stamped(p, 40 * MIB, 40 * MIB, 1));
    free(p);
    free(q);
    say("late calls work\n");
}
