/* SPDX-License-Identifier: MIT */
/* test_api_misuse.c: every misuse ends the process at once, with one line that names kind and address, before
 * damage. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "support.h"
#include "zeropool.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

TestSuite(api_misuse, .timeout = 60);

enum action { PUT, RESIZE };
struct misuse {
    zp_pool *pool;
    void *pointer;
    enum action action;
};

static int commit(void *argument) {
    struct misuse *misuse = argument;
    if (misuse->action == PUT)
        zp_put(misuse->pool, misuse->pointer);
    else
        zp_resize(misuse->pool, misuse->pointer, 5 * MIB);
    return 0;
}

static void expect_fatal(zp_pool *pool, void *pointer, enum action action, const char *kind) {
    struct misuse misuse = {pool, pointer, action};
    struct child_result child = run_child(commit, &misuse);
    char expected[200];
    snprintf(expected, sizeof expected, "zeropool: fatal: %s (ptr=%p)\n", kind, pointer);
    cr_assert_eq(child.signal, SIGABRT, "%s by %s was not noticed: status %d signal %d", kind,
                 action == PUT ? "put" : "resize", child.exit_status, child.signal);
    cr_assert_str_eq(child.text, expected);
}

static void expect_fatal_both(zp_pool *pool, void *pointer, const char *kind) {
    expect_fatal(pool, pointer, PUT, kind);
    expect_fatal(pool, pointer, RESIZE, kind);
}

static const size_t sizes[] = {1, 4 * KIB, 40 * KIB, 256 * KIB, 260 * KIB, MIB, 30 * MIB, 100 * MIB};
#define N_SIZES (sizeof sizes / sizeof sizes[0])

Test(api_misuse, double_free_wherever_the_block_went) {
    for (size_t i = 0; i < N_SIZES; i++) {
        zp_pool *pool = zp_pool_create(NULL);
        void *p = zp_get(pool, sizes[i]);
        zp_put(pool, p); /* fresh, so by the slow path */
        expect_fatal_both(pool, p, "double free");
        void *fence = zp_get(pool, sizes[i]);
        zp_put(pool, p = zp_get(pool, sizes[i])); /* by the fast path, where it has room */
        expect_fatal_both(pool, p, "double free");
        zp_pool_trim(pool, (size_t)-1); /* from the caches to the heap */
        expect_fatal_both(pool, p, "double free");
        zp_pool_trim(pool, 0); /* purged and merged */
        expect_fatal_both(pool, p, "double free");
        zp_put(pool, fence);
        zp_pool_destroy(pool);
    }
}

Test(api_misuse, double_free_after_merging_with_a_neighbour) {
    zp_pool *pool = zp_pool_create(NULL);
    char *p[6];
    for (int i = 0; i < 6; i++)
        p[i] = zp_get(pool, 64 * KIB);
    for (int i = 0; i < 6; i++)
        zp_put(pool, p[i]);
    zp_pool_trim(pool, 0);
    for (int i = 0; i < 6; i++)
        expect_fatal_both(pool, p[i], "double free"); /* all but one are now inside a merged extent */
    zp_pool_destroy(pool);
}

Test(api_misuse, interior_and_misaligned_pointers) {
    zp_pool *pool = zp_pool_create(NULL);
    for (size_t i = 0; i < N_SIZES; i++) {
        char *p = zp_get(pool, sizes[i]);
        size_t usable = zp_usable_size(pool, p);
        expect_fatal_both(pool, p + 1, "free of a misaligned pointer");
        expect_fatal_both(pool, p + 16, "free of a misaligned pointer");
        expect_fatal_both(pool, p + usable - 1, "free of a misaligned pointer");
        if (usable > 4096) {
            expect_fatal_both(pool, p + 4096, "free of an interior pointer");
            expect_fatal_both(pool, p + usable - 4096, "free of an interior pointer");
            expect_fatal_both(pool, p + (usable / 2 & ~(size_t)4095), "free of an interior pointer");
        }
        zp_put(pool, p);
    }
    zp_pool_destroy(pool);
}

Test(api_misuse, pointers_that_were_never_ours) {
    static int variable;
    int local;
    zp_pool *pool = zp_pool_create(NULL), *other = zp_pool_create(NULL);
    void *p = zp_get(other, MIB);
    expect_fatal_both(pool, p, "buffer of another pool");
    expect_fatal_both(pool, &variable, "buffer of another pool");
    expect_fatal_both(pool, &local, "buffer of another pool");
    expect_fatal_both(pool, (void *)0x10, "buffer of another pool");
    expect_fatal_both(pool, (void *)-1, "buffer of another pool");
    zp_put(other, p);
    zp_pool_destroy(pool);
    zp_pool_destroy(other);
}

Test(api_misuse, untouched_pool_memory) {
    zp_pool *pool = zp_pool_create(NULL);
    char *p = zp_get(pool, 4 * KIB);
    /* In the step beyond the block: mapped, never handed out. */
    expect_fatal_both(pool, p + 64 * KIB + 8, "free of an invalid pointer");
    zp_put(pool, p);
    zp_pool_destroy(pool);
}

Test(api_misuse, nothing_is_damaged_before_the_end, .signal = SIGABRT) {
    zp_pool *pool = zp_pool_create(NULL);
    char *p = zp_get(pool, 64 * KIB), *q = zp_get(pool, 64 * KIB);
    pattern_fill(q, 64 * KIB, 1);
    zp_put(pool, p);
    struct misuse misuse = {pool, p, PUT};
    struct child_result child = run_child(commit, &misuse);
    cr_assert_eq(child.signal, SIGABRT);
    cr_assert_eq(pattern_check(q, 64 * KIB, 1), 64 * KIB);
    cr_assert_eq(zp_validate(pool, NULL, 0), 0);
    zp_put(pool, p); /* in this very process */
}

Test(api_misuse, random_wild_pointers_always_end_it) {
    zp_pool *pool = zp_pool_create(NULL);
    uint64_t rng = 12;
    char *live[30];
    for (int i = 0; i < 30; i++)
        live[i] = zp_get(pool, rng_range(&rng, 1, 512 * KIB));
    char *low = live[0], *high = live[0];
    for (int i = 0; i < 30; i++) {
        if (live[i] < low) low = live[i];
        if (live[i] > high) high = live[i];
    }
    for (int i = 0; i < 300; i++) {
        char *wild = low + rng_range(&rng, 0, (size_t)(high - low));
        if (i % 2) wild = (char *)((uintptr_t)wild & ~(uintptr_t)4095);
        if (zp_owns(pool, wild)) continue;
        struct misuse misuse = {pool, wild, i % 3 ? PUT : RESIZE};
        struct child_result child = run_child(commit, &misuse);
        cr_assert_eq(child.signal, SIGABRT, "%p: status %d", (void *)wild, child.exit_status);
        cr_assert_eq(strncmp(child.text, "zeropool: fatal: ", 17), 0, "%s", child.text);
    }
    zp_pool_destroy(pool);
}
