/* SPDX-License-Identifier: MIT */
/* test_guarded.c: blocks alone in the address space: places, ends, rest, refusals, misuse, races. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "hardened/guarded.h"
#include "support.h"

/* AddressSanitizer keeps its shadow where these blocks are placed. */
#ifdef __SANITIZE_ADDRESS__
#define NEEDS_THE_RANGE .disabled = true
#else
#define NEEDS_THE_RANGE .disabled = false
#endif

static struct guarded guarded;

static void begin(void) {
    guarded_init(&guarded, 8 * GIB);
}

static bool is_mapped(const char *p) {
    unsigned char resident;
    return mincore((void *)align_down((uintptr_t)p, PAGE_BYTES), PAGE_BYTES, &resident) == 0;
}

Test(guarded, owns_nothing_before_it_is_set_up) {
    cr_assert_not(guarded_owns(&guarded, NULL));
    cr_assert_not(guarded_owns(&guarded, (void *)((uintptr_t)5 << 40)));
}

Test(guarded, refuses_what_it_cannot_place, .init = begin) {
    cr_assert_null(guarded_get(&guarded, 16, 0));
    cr_assert_null(guarded_get(&guarded, 16, 8 * GIB + 1));
    cr_assert_null(guarded_get(&guarded, 16, SIZE_MAX));
    cr_assert_null(guarded_get(&guarded, 2 * GUARDED_ALIGNMENT_MAX, 100));
    cr_assert_eq(guarded.n_live, 0);
}

Test(guarded, places_every_size_and_alignment_between_guards, .init = begin, NEEDS_THE_RANGE) {
    for (size_t alignment = 1; alignment <= GIB; alignment *= 2)
        for (size_t size = 1; size <= 64 * MIB; size = size * 5 + 3) {
            char *p = guarded_get(&guarded, alignment, size);
            cr_assert(p && guarded_owns(&guarded, p));
            cr_assert_eq((uintptr_t)p % (alignment < 16 ? 16 : alignment), 0);
            cr_assert_eq(guarded_size(&guarded, p), size);
            p[0] = p[size - 1] = 1;
            char *end = (char *)align_up((uintptr_t)p + size, PAGE_BYTES);
            cr_assert_not(is_mapped(end));
            cr_assert_not(is_mapped((char *)align_down((uintptr_t)p, PAGE_BYTES) - 1));
            if (alignment <= 16) cr_assert_lt(end - (p + size), 16);
            guarded_put(&guarded, p);
            cr_assert_not(is_mapped(p));
            cr_assert_not(is_mapped(end - 1));
        }
    cr_assert_eq(guarded.n_live, 0);
    cr_assert_eq(guarded.live_bytes, 0);
}

Test(guarded, uses_a_larger_class_when_one_is_full, .init = begin, NEEDS_THE_RANGE) {
    /* 4 GiB and a guard: slots of 8 GiB, of which there are 64. Nothing of it is touched. */
    enum { BLOCKS = 70 };
    char *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = guarded_get(&guarded, 16, 4 * GIB);
        cr_assert(blocks[i]);
    }
    for (int i = 0; i < BLOCKS; i++)
        guarded_put(&guarded, blocks[i]);
}

Test(guarded, lets_an_address_rest, .init = begin, NEEDS_THE_RANGE) {
    /* It fills a slot of 8 GiB but for the guard. There are 64 of these, and 16 rest. */
    char *p = guarded_get(&guarded, 16, 8 * GIB - PAGE_BYTES);
    guarded_put(&guarded, p);
    for (int i = 0; i < 15; i++) {
        char *q = guarded_get(&guarded, 16, 8 * GIB - PAGE_BYTES);
        cr_assert(q != p);
        guarded_put(&guarded, q);
    }
}

Test(guarded, refuses_and_recovers_when_the_kernel_does, .init = begin, NEEDS_THE_RANGE) {
    struct rlimit old, low = {64 * MIB, RLIM_INFINITY};
    char *p = guarded_get(&guarded, 16, MIB);
    getrlimit(RLIMIT_AS, &old);
    low.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_AS, &low);
    for (int i = 0; i < 1000; i++)
        cr_assert_null(guarded_get(&guarded, 16, 256 * MIB));
    setrlimit(RLIMIT_AS, &old);
    cr_assert_eq(guarded.n_live, 1);
    guarded_put(&guarded, p);
    p = guarded_get(&guarded, 16, 256 * MIB);
    cr_assert(p);
    guarded_put(&guarded, p);
}

Test(guarded, shrinks_where_it_is, .init = begin, NEEDS_THE_RANGE) {
    char *p = guarded_get(&guarded, 16, MIB);
    memset(p, 7, MIB);
    guarded_shrink(&guarded, p, 5000);
    cr_assert_eq(guarded_size(&guarded, p), 5000);
    cr_assert_eq(p[4999], 7);
    cr_assert_not(is_mapped(p + 5000 + PAGE_BYTES));
    guarded_put(&guarded, p);
    cr_assert_not(is_mapped(p));
    cr_assert_eq(guarded.live_bytes, 0);
}

Test(guarded, grows_by_moving_pages, .init = begin, NEEDS_THE_RANGE) {
    for (size_t size = 100; size < 3 * MIB; size = size * 2 + 77) {
        char *p = guarded_get(&guarded, 16, size), *old = p;
        memset(p, 7, size);
        p = guarded_grow(&guarded, p, 3 * size);
        cr_assert(p && p != old && (uintptr_t)p % 16 == 0);
        cr_assert_eq(guarded_size(&guarded, p), 3 * size);
        cr_assert_eq(p[size - 1], 7);
        p[3 * size - 1] = 1;
        cr_assert_not(is_mapped(old));
        cr_assert_not(is_mapped((char *)align_up((uintptr_t)p + 3 * size, PAGE_BYTES)));
        cr_assert_null(guarded_grow(&guarded, p, 9 * GIB));
        guarded_put(&guarded, p);
    }
    cr_assert_eq(guarded.n_live, 0);
    cr_assert_eq(guarded.live_bytes, 0);
}

Test(guarded, double_free_is_fatal, .init = begin, .signal = SIGABRT, NEEDS_THE_RANGE) {
    char *p = guarded_get(&guarded, 16, MIB);
    guarded_put(&guarded, p);
    guarded_put(&guarded, p);
}

Test(guarded, interior_pointer_is_fatal, .init = begin, .signal = SIGABRT, NEEDS_THE_RANGE) {
    guarded_put(&guarded, (char *)guarded_get(&guarded, 16, MIB) + PAGE_BYTES);
}

Test(guarded, pointer_to_nothing_is_fatal, .init = begin, .signal = SIGABRT) {
    guarded_put(&guarded, (void *)(guarded.base + guarded.span - 1));
}

Test(guarded, size_of_a_freed_block_is_fatal, .init = begin, .signal = SIGABRT, NEEDS_THE_RANGE) {
    char *p = guarded_get(&guarded, 16, MIB);
    guarded_put(&guarded, p);
    guarded_size(&guarded, p);
}

static _Atomic(size_t *) shared[16];

static void *swap_blocks(void *seed) {
    size_t x = (uintptr_t)seed;
    for (int i = 0; i < 3000; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        size_t *p = guarded_get(&guarded, 16, 64 + (x >> 50));
        cr_assert(p);
        p[0] = (size_t)p;
        p = atomic_exchange(&shared[x >> 40 & 15], p);
        if (!p) continue;
        cr_assert_eq(p[0], (size_t)p);
        guarded_put(&guarded, p);
    }
    return NULL;
}

Test(guarded, many_threads, .init = begin, NEEDS_THE_RANGE) {
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, swap_blocks, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 16; i++)
        if (shared[i]) guarded_put(&guarded, shared[i]);
    cr_assert_eq(guarded.n_live, 0);
}
