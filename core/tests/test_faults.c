/* SPDX-License-Identifier: MIT */
/* test_faults.c: every kernel call of a whole scenario fails once, with every plausible errno, and then calls
 * fail at random. Whatever fails, contents stay, zeroed blocks are zero, the invariants hold, and only
 * refusals are seen. Linked with a build of the pool that has -DZP_FAULT. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"
#include "heap/decay.h"
#include "pool/resize.h"
#include "pool/zero.h"
#include "pool_fixture.h"
#include "support.h"

static struct pool pool;
static char where[200];
static long n_calls; /* kernel calls of the last scenario */

static void *resize(void *p, size_t n_bytes) {
    struct extent *e = pool_live_extent(&pool, p);
    if (resize_in_place(&pool, e, n_bytes)) return p;
    return resize_move(&pool, tcache_find(&pool.tcaches), e, n_bytes);
}

static void *zeroed(size_t n_bytes) {
    void *p = zero_get(&pool, tcache_find(&pool.tcaches), pages_of(n_bytes));
    if (p) cr_assert_eq(first_nonzero(p, n_bytes), n_bytes, "%s: a zeroed block is not zero", where);
    return p;
}

static void fill_and_put(void *p) {
    if (!p) return;
    memset(p, 0xff, extent_active_bytes(fixture_extent(&pool, p)));
    fixture_put(&pool, p);
}

/* Something of everything. Deterministic, so that call k is the same call in each run until the fault. */
static void scenario(bool pinned) {
    struct pool_setup setup = fixture_setup();
    setup.span_max = 256 * MIB;
    setup.max_block_bytes = 128 * MIB;
    setup.pinned = pinned;
    memset(&pool, 0, sizeof pool);
    if (fixture_init(&pool, &setup)) return;
    void *small[20];
    for (int i = 0; i < 20; i++)
        small[i] = fixture_get(&pool, (size_t)(i + 1) * 7000);
    for (int i = 0; i < 20; i += 2)
        fill_and_put(small[i]);
    char *grow = fixture_get(&pool, 600 * KIB), *wall = fixture_get(&pool, 600 * KIB);
    size_t n = grow ? 600 * KIB : 0;
    if (grow) pattern_fill(grow, n, 9);
    for (size_t want = MIB; grow && want <= 3 * MIB; want += 700 * KIB) {
        char *q = resize(grow, want);
        if (!q)
            q = grow;
        else if (q != grow || want <= extent_active_bytes(fixture_extent(&pool, q))) {
            cr_assert_eq(pattern_check(q, n, 9), n, "%s: contents lost while growing", where);
            n = want;
            pattern_fill(q, n, 9);
        }
        grow = q;
    }
    fill_and_put(zeroed(2 * MIB));
    fill_and_put(zeroed(2 * MIB));
    fill_and_put(zeroed(300 * KIB));
    if (grow) {
        cr_assert_eq(pattern_check(grow, n, 9), n, "%s: contents lost", where);
        char *q = resize(grow, 500 * KIB);
        cr_assert(q, "%s: shrinking was refused", where);
        cr_assert_eq(pattern_check_front(q, 500 * KIB, n, 9), 500 * KIB, "%s: contents lost while shrinking",
                     where);
        grow = q;
    }
    void *many[6];
    for (int i = 0; i < 6; i++)
        many[i] = zeroed(200 * KIB);
    pool_trim(&pool, 0);
    for (int i = 0; i < 6; i++)
        fill_and_put(many[i]);
    void *aligned = pool_get_aligned(&pool, tcache_find(&pool.tcaches), 2 * MIB, 100);
    if (aligned) cr_assert_eq((uintptr_t)aligned % (2 * MIB), 0);
    fill_and_put(aligned);
    pool_preallocate(&pool, 50, 4);
    pool.heap.decay_ms = 100;
    decay_tick(&pool.heap, pool.heap.decay_epoch_ms + 100000);
    decay_tick(&pool.heap, pool.heap.decay_epoch_ms + 200000);
    for (int i = 0; i < 4; i++)
        fill_and_put(zeroed((size_t)(i + 1) * 300 * KIB));
    heap_release_top(&pool.heap);
    if (grow) cr_assert_eq(pattern_check_front(grow, 500 * KIB, n, 9), 500 * KIB, "%s: contents lost", where);
    fill_and_put(grow);
    fill_and_put(wall);
    for (int i = 1; i < 20; i += 2)
        fill_and_put(small[i]);
    os_fault_locks(0, 0);
    const char *broken = pool_check(&pool);
    cr_assert_null(broken, "%s: %s", where, broken);
    pool_trim(&pool, 0);
    cr_assert_null(broken = pool_check(&pool), "%s: after trim: %s", where, broken);
    cr_assert_eq(pool.heap.active_bytes, 0, "%s: %zu bytes lost", where, pool.heap.active_bytes);
    n_calls = os_fault_count();
    /* tearing down is not the subject, and must not leak into the next run */
    os_fault_configure(-1, 0, 0, 0);
    pool_finish(&pool);
}

static bool in_long_suite(void) {
    return getenv("ZP_LONG") != NULL;
}

static void every_call_fails_once(bool pinned) {
    static const int errors[] = {ENOMEM, EINVAL, EPERM, EAGAIN, ENOSYS};
    snprintf(where, sizeof where, "without faults");
    os_fault_configure(-1, 0, 0, 0);
    scenario(pinned);
    long n = n_calls;
    cr_assert_gt(n, 30, "only %ld kernel calls are covered", n);
    bool all = in_long_suite(); /* else two errors for each call, in turn */
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        for (long k = 0; k < n; k++) {
            if (!all && i != 0 && (size_t)k % 4 + 1 != i) continue;
            snprintf(where, sizeof where, "call %ld fails with %s", k, strerrorname_np(errors[i]));
            os_fault_configure(k, errors[i], 0, 0);
            scenario(pinned);
        }
}

TestSuite(faults, .timeout = 120);

Test(faults, every_call_fails_once) {
    every_call_fails_once(false);
}
Test(faults, every_call_fails_once_pinned) {
    every_call_fails_once(true);
}

/* Each scenario touches some ten MiB: seconds in all where page faults are slow. */
static uint64_t n_seeds(uint64_t all) {
    return in_long_suite() ? all : all / 2;
}

Test(faults, random_failures) {
    static const int errors[] = {ENOMEM, EINVAL, EPERM, EAGAIN};
    for (unsigned one_in = 2; one_in <= 30; one_in += 7)
        for (uint64_t seed = 1; seed <= n_seeds(40); seed++) {
            snprintf(where, sizeof where, "one call in %u, seed %lu", one_in, (unsigned long)seed);
            os_fault_configure(-1, errors[seed % 4], one_in, seed);
            scenario(seed % 3 == 0);
        }
}

/* A lock whose holder was lost, or is not run in time. With kernel calls that fail as well in every other
 * run. */
Test(faults, locks_that_cannot_be_had) {
    for (unsigned one_in = 2; one_in <= 50; one_in += 6)
        for (uint64_t seed = 1; seed <= n_seeds(60); seed++) {
            snprintf(where, sizeof where, "one lock in %u, seed %lu", one_in, (unsigned long)seed);
            os_fault_configure(-1, ENOMEM, seed % 2 ? 0 : 20, seed);
            os_fault_locks(one_in, seed);
            scenario(seed % 3 == 0);
        }
}

Test(faults, a_failed_purge_keeps_the_memory_dirty) {
    struct pool_setup setup = fixture_setup();
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    char *p = fixture_get(&pool, 4 * MIB);
    memset(p, 0xff, 4 * MIB);
    fixture_put(&pool, p);
    os_fault_configure(-1, ENOMEM, 1, 1); /* everything fails from now on */
    cr_assert_eq(pool_trim(&pool, 0), 0, "nothing was given back, and nothing is claimed");
    cr_assert_eq(pool.heap.dirty_bytes, 4 * MIB);
    void *q = zeroed(4 * MIB);
    cr_assert_eq(q, p, "cleared by hand where the kernel does not help");
}

Test(faults, without_the_fork_page_and_membarrier_everything_else_works) {
    os_fault_configure(-1, ENOSYS, 0, 0);
    struct pool_setup setup = fixture_setup();
    memset(&pool, 0, sizeof pool);
    cr_assert_eq(fixture_init(&pool, &setup), 0);
    os_fault_configure(-1, ENOSYS, 1, 1);
    cr_assert_eq(tcache_reclaim(&pool.tcaches, RECLAIM_ALL), 0);
    os_fault_configure(-1, 0, 0, 0);
    fill_and_put(fixture_get(&pool, MIB));
}
