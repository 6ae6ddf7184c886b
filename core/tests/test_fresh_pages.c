/* SPDX-License-Identifier: MIT */
/* test_fresh_pages.c: by which kind of page untouched memory is filled, in which steps the heap grows, and
 * that neither leaves advice or mappings behind. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/os.h"
#include "heap/heap_fresh.h"
#include "fresh_fixture.h"

TestSuite(fresh_pages, .init = set_up, .fini = tear_down, .timeout = 60);

Test(fresh_pages, large_heaps_grow_by_whole_units_and_say_what_is_resident) {
    for (int i = 0; i < 700; i++) {
        let_huge_pages_be(1, 0);
        get_filled(128 * KIB);
    }
    enum huge_pages kind = os_huge_pages();
    cr_assert_eq(pool.heap.huge_pages, kind, "found out");
    cr_assert_lt(pool.heap.dirty_bytes, HUGE_BYTES);
    if (kind == HUGE_NEVER) return;
    /* The last unit: what is not handed out of it is filed as dirty, because it is resident. */
    size_t n = 0;
    while (pool.heap.dirty_bytes == 0 && n++ < 64) {
        let_huge_pages_be(1, 0);
        get_filled(128 * KIB);
    }
    cr_assert_gt(pool.heap.dirty_bytes, 0);
    for (struct extent *e = pool.heap.by_age.newer; e != &pool.heap.by_age; e = e->newer)
        cr_assert_eq(resident_pages(e->address, extent_bytes(e)), e->n_pages);
    cr_assert_eq(pool.heap.n_growing, 0);
}

/* What is left of a unit at the end of the heap is the beginning of the next block. Were only what that lacks
 * mapped, the next unit would be filled in two parts, by small pages. */
Test(fresh_pages, also_behind_a_remainder_whole_steps_are_mapped) {
    for (int i = 0; i < 700; i++) {
        let_huge_pages_be(1, 0);
        get_filled(300 * KIB);
        cr_assert_eq(pool.heap.frontier % MIB, 0, "block %d", i);
    }
    if (pool.heap.huge_pages == HUGE_BY_ADVICE)
        cr_assert_gt(pool.heap.counters.n_mixed, 0, "no block has begun in a remainder");
}

static char *slow_pages;

/* What a hypervisor does that keeps page tables of its own, only slower. */
static void let_in_slowly(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number;
    (void)context;
    usleep(2000);
    char *page = slow_pages + (((char *)info->si_addr - slow_pages) & ~(ptrdiff_t)(PAGE_BYTES - 1));
    if (mprotect(page, PAGE_BYTES, PROT_READ | PROT_WRITE)) _exit(3);
}

/* Filling by pages of which each costs something again when it is touched is not cheap. */
Test(fresh_pages, first_touches_of_filled_pages_count) {
    size_t bytes = FRESH_TOUCHES * PAGE_BYTES;
    slow_pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(slow_pages, MAP_FAILED);
    struct sigaction action = {.sa_sigaction = let_in_slowly, .sa_flags = SA_SIGINFO}, before;
    cr_assert_eq(sigaction(SIGSEGV, &action, &before), 0);
    memset(slow_pages, 1, bytes);
    cr_assert_eq(mprotect(slow_pages, bytes, PROT_NONE), 0);
    cr_assert_geq(heap_fresh_touch_ns(slow_pages), 2000000);
    cr_assert_lt(heap_fresh_touch_ns(slow_pages), 2000000, "they have been touched");
    cr_assert_eq(mprotect(slow_pages + PAGE_BYTES, 2 * PAGE_BYTES, PROT_NONE), 0);
    cr_assert_lt(heap_fresh_touch_ns(slow_pages), 2000000, "two of seven do not speak for all");
    sigaction(SIGSEGV, &before, NULL);
    munmap(slow_pages, bytes);
}

Test(fresh_pages, no_advice_is_left_behind_and_no_vma) {
    if (os_huge_pages() != HUGE_BY_ADVICE) cr_skip_test("huge pages do not come by advice here");
    for (int round = 0; round < 3; round++) {
        void *blocks[300];
        for (int i = 0; i < 300; i++)
            blocks[i] = get_filled((size_t)(i % 7 + 1) * 100 * KIB);
        for (int i = 0; i < 300; i += 2)
            fixture_put(&pool, blocks[i]);
        pool_trim(&pool, 0);
        for (int i = 1; i < 300; i += 2)
            fixture_put(&pool, blocks[i]);
    }
    unsigned n_advised;
    size_t huge_bytes;
    unsigned n = look_at_vmas(&n_advised, &huge_bytes);
    cr_assert_eq(n_advised, 0, "khugepaged would make it swell");
    cr_assert_leq(n, 2, "%u VMAs", n);
}

Test(fresh_pages, the_frontier_moves_in_steps_that_follow_the_size) {
    uintptr_t before = pool.heap.frontier;
    get_filled(64 * KIB);
    cr_assert_eq(pool.heap.frontier - before, MIB, "a small program takes little");
    get_filled(400 * MIB);
    before = pool.heap.frontier;
    size_t n = 0;
    while (pool.heap.frontier == before && n++ < 10000)
        fixture_get(&pool, 300 * KIB);
    cr_assert_geq(pool.heap.frontier - before, 48 * MIB);
    cr_assert_leq(pool.heap.frontier - before, 64 * MIB);
}

/* A fill of a huge page's worth that was not disturbed. */
static void learn(struct heap *heap, bool huge, uint64_t ns_a_page) {
    heap_fresh_learn(heap, huge, 512, (struct fresh_timing){512 * ns_a_page, 512 * ns_a_page, 0});
}

/* As long as huge pages are fast nobody looks at small ones; else the faster kind is used, and the other
 * tried now and then. */
Test(fresh_pages, the_faster_kind_of_page_is_used) {
    struct heap *heap = &pool.heap;
    cr_assert(heap_fresh_wants_huge(heap, 512), "nothing is known");
    for (int i = 0; i < 100; i++)
        learn(heap, true, 700);
    cr_assert(heap_fresh_wants_huge(heap, 512));
    learn(heap, true, 6000);
    cr_assert_not(heap_fresh_wants_huge(heap, 512), "what do small ones take?");
    learn(heap, false, 2000);
    unsigned n_retries = 0;
    for (int i = 0; i < 4 * FRESH_RETRY_EVERY; i++) {
        bool huge = heap_fresh_wants_huge(heap, 512);
        n_retries += huge;
        learn(heap, huge, huge ? 6000 : 2000);
    }
    cr_assert_eq(n_retries, 4);
    unsigned n = 0;
    while (heap->fill_ns[1] >= FRESH_GOOD_NS && n++ < 10 * FRESH_RETRY_EVERY) {
        bool huge = heap_fresh_wants_huge(heap, 512);
        learn(heap, huge, huge ? 700 : 2000);
    }
    cr_assert_leq(n, 4 * FRESH_RETRY_EVERY, "huge pages are fast again, and that is not found out");
    /* Nothing is left that small pages could come from quickly. */
    let_huge_pages_be(6000, 15000);
    cr_assert(heap_fresh_wants_huge(heap, 512));
}

Test(fresh_pages, a_fill_during_which_the_thread_waited_says_nothing) {
    struct heap *heap = &pool.heap;
    let_huge_pages_be(700, 2000);
    struct fresh_timing waited = {512 * 100000, 512 * 700, 0},
                        touched_slowly = {512 * 700, 512 * 700, 512 * 4000};
    for (int i = 0; i < 100; i++)
        heap_fresh_learn(heap, true, 512, waited);
    cr_assert_eq(heap->fill_ns[1], 700);
    heap_fresh_learn(heap, true, 512, touched_slowly);
    cr_assert_gt(heap->fill_ns[1], 2000);
    /* But it is a trial. */
    heap->one_kind_pages = 100000;
    heap_fresh_learn(heap, true, 512, waited);
    cr_assert_eq(heap->one_kind_pages, 0);
    let_huge_pages_be(0, 0);
    heap_fresh_learn(heap, true, 512, waited);
    cr_assert_eq(heap->fill_ns[1], 0, "nothing is known");
}

Test(fresh_pages, is_filled_by_the_kind_that_is_wanted) {
    if (os_huge_pages() != HUGE_BY_ADVICE) cr_skip_test("huge pages do not come by advice here");
    unsigned n_advised;
    size_t huge_bytes;
    bool timed = false; /* a fill is not, where the machine is busy and it had to wait */
    for (int i = 0; i < 30 || (!timed && i < 100); i++) {
        let_huge_pages_be(100000, 1);
        get_filled(5 * MIB);
        timed |= pool.heap.fill_ns[0] != 1;
    }
    cr_assert(timed);
    char *p = get_resident(5 * MIB);
    cr_assert(p, "filled all the same");
    cr_assert_eq(pool.heap.dirty_bytes, 0, "but no further than asked for");
    look_at_vmas(&n_advised, &huge_bytes);
    cr_assert_eq(huge_bytes, 0);
    timed = false;
    for (int i = 0; i < 10 || (!timed && i < 80); i++) {
        let_huge_pages_be(1, 1);
        get_filled(5 * MIB);
        timed |= pool.heap.fill_ns[1] != 1;
    }
    cr_assert(timed);
    look_at_vmas(&n_advised, &huge_bytes);
    cr_assert_geq(huge_bytes, 16 * MIB);
}

/* Small requests are filled in whole units only while huge pages are wanted: the other kind must be found out
 * about all the same. */
ParameterizedTestParameters(fresh_pages, small_requests_try_the_other_kind_too) {
    static size_t sizes[] = {128 * KIB, 512 * KIB, MIB + 512 * KIB};
    return cr_make_param_array(size_t, sizes, 3);
}
ParameterizedTest(size_t *n_bytes, fresh_pages, small_requests_try_the_other_kind_too, .init = set_up,
                  .timeout = 60) {
    if (os_huge_pages() != HUGE_BY_ADVICE) cr_skip_test("huge pages do not come by advice here");
    for (size_t n = 0; n < 80 * MIB; n += *n_bytes)
        get_filled(*n_bytes);
    let_huge_pages_be(4000, 0);
    for (int i = 0; i < 100 && !pool.heap.fill_ns[0]; i++) /* a busy machine disturbs some */
        get_filled(*n_bytes);
    cr_assert_neq(pool.heap.fill_ns[0], 0, "huge pages are given up without a comparison");
    let_huge_pages_be(1000000, 1);
    bool tried = false; /* on a busy machine perhaps without a result */
    for (size_t n = 0; n < 100 * MIB && !tried; n += *n_bytes) {
        uint32_t before = pool.heap.one_kind_pages;
        get_filled(*n_bytes);
        tried = pool.heap.one_kind_pages < before;
    }
    cr_assert(tried, "huge pages are never tried again");
    let_huge_pages_be(1000000, 2000000);
    for (int i = 0; i < 100 && pool.heap.fill_ns[0] == 2000000; i++) {
        pool.heap.one_kind_pages = UINT32_MAX / 2;
        get_filled(*n_bytes);
    }
    cr_assert_lt(pool.heap.fill_ns[0], 2000000);
    cr_assert_lt(pool.heap.one_kind_pages, UINT32_MAX / 2, "the trial of small pages never ends");
}
