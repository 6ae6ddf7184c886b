/* SPDX-License-Identifier: MIT */
/* test_fresh.c: untouched memory is made resident beforehand only where that is known to pay, and leaves
 * nothing behind. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sync/options.h"
#include "os/os.h"
#include "heap/heap_fresh.h"
#include "pool/zero.h"
#include "pool_fixture.h"
#include "support.h"

static struct pool pool;

static void set_up(void) {
    cr_assert_eq(fixture_init_learning(&pool), 0);
}
static void tear_down(void) {
    cr_expect_null(pool_check(&pool));
    pool_finish(&pool);
}
TestSuite(fresh, .init = set_up, .fini = tear_down, .timeout = 60);

static size_t resident_pages(const void *p, size_t n_bytes) {
    size_t n = fixture_resident_pages(p, n_bytes);
    cr_assert_neq(n, SIZE_MAX);
    return n;
}

static void *get_filled(size_t n_bytes) {
    void *p = fixture_get(&pool, n_bytes);
    cr_assert(p);
    memset(p, 1, n_bytes);
    return p;
}

/* Whatever filling takes on this machine today. */
static void let_huge_pages_be(uint32_t huge_ns, uint32_t small_ns) {
    pool.heap.fill_ns[1] = huge_ns;
    pool.heap.fill_ns[0] = small_ns;
    pool.heap.one_kind_pages = 0;
}

/* VMAs of the space, how many of them ask for huge pages, and how many bytes are in such. */
static unsigned look_at_vmas(unsigned *n_advised, size_t *huge_bytes) {
    FILE *file = fopen("/proc/self/smaps", "r");
    cr_assert(file);
    char line[512];
    unsigned n = 0;
    bool ours = false;
    *n_advised = 0;
    *huge_bytes = 0;
    while (fgets(line, sizeof line, file)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && strchr(line, '-') < strchr(line, ' ')) {
            ours = from < pool.heap.frontier && to > pool.heap.space.base;
            n += ours;
        }
        unsigned long huge_kib;
        if (ours && strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " hg")) ++*n_advised;
        if (ours && sscanf(line, "AnonHugePages: %lu kB", &huge_kib) == 1) *huge_bytes += huge_kib * KIB;
    }
    fclose(file);
    return n;
}

Test(fresh, nothing_is_made_resident_before_blocks_have_been_seen_filled) {
    for (int i = 0; i < 40; i++) {
        char *p = fixture_get(&pool, 4 * MIB);
        cr_assert_eq(resident_pages(p, 4 * MIB), 0, "block %d", i);
        p[0] = 1;
    }
}

/* Of blocks that are expected to be filled one in eight is left as it is, at random: in so many, not all
 * are. */
#define TRIES 100

static bool expects_filled(size_t n_pages, bool zeroed) {
    for (int i = 0; i < TRIES; i++)
        if (zero_expects_filled(&pool, n_pages, zeroed)) return true;
    return false;
}

/* A block that was made resident beforehand; NULL if none is. */
static char *get_resident(size_t n_bytes) {
    for (int i = 0; i < TRIES; i++) {
        char *p = fixture_get(&pool, n_bytes);
        if (resident_pages(p, n_bytes) == n_bytes >> PAGE_SHIFT) return p;
        memset(p, 1, n_bytes);
    }
    return NULL;
}

Test(fresh, two_filled_blocks_speak_for_the_next_but_one) {
    cr_assert_not(expects_filled(1024, false));
    get_filled(4 * MIB);
    cr_assert_not(expects_filled(1024, false), "nothing has looked yet");
    get_filled(4 * MIB);
    cr_assert_not(expects_filled(1024, false), "one may be an exception");
    get_filled(4 * MIB);
    cr_assert(expects_filled(1024, false));
    char *p = get_resident(4 * MIB);
    cr_assert(p);
    cr_assert_eq(first_nonzero(p, 4 * MIB), 4 * MIB);
    cr_assert_not(expects_filled(1024, true), "of zeroed blocks half a block counts as filled");
    cr_assert_not(expects_filled(64, false), "other sizes are others' habits");
}

Test(fresh, a_block_not_written_yet_is_no_evidence_against) {
    void *blocks[6];
    for (int i = 0; i < 6; i++)
        blocks[i] = fixture_get(&pool, 4 * MIB);
    for (int i = 0; i < 6; i++)
        memset(blocks[i], 1, 4 * MIB);
    for (int i = 0; i < 3; i++)
        get_filled(4 * MIB);
    cr_assert(expects_filled(1024, false));
}

Test(fresh, a_change_of_habit_is_noticed) {
    for (int i = 0; i < 4; i++)
        get_filled(4 * MIB);
    cr_assert(expects_filled(1024, false));
    int n_wasted = 0;
    for (int i = 0; i < 3 * 8; i++) {
        char *p = fixture_get(&pool, 4 * MIB);
        n_wasted += resident_pages(p, 4 * MIB) == 1024;
        p[0] = 1;
        fixture_put(&pool, p);
        pool_trim(&pool, 0);
    }
    cr_assert_leq(n_wasted, 8, "%d blocks were filled for nothing", n_wasted);
    cr_assert_not(expects_filled(1024, false));
}

Test(fresh, a_change_of_habit_is_noticed_although_nothing_is_freed) {
    for (int i = 0; i < 3; i++)
        get_filled(4 * MIB);
    cr_assert(expects_filled(1024, false));
    size_t n_wasted = 0;
    for (int i = 0; i < 60; i++) {
        char *p = fixture_get(&pool, 4 * MIB);
        p[0] = 1;
        n_wasted += resident_pages(p, 4 * MIB) - 1;
    }
    cr_assert_leq(n_wasted << PAGE_SHIFT, AHEAD_MIN_BYTES + 8 * MIB, "%zu pages", n_wasted);
    cr_assert_not(expects_filled(1024, false));
}

/* --- a change of habit costs two blocks --- */

#define WRONG_MOST 2

struct change {
    size_t n_bytes;
    unsigned n; /* blocks of a phase */
    bool keeps; /* until the end of the phase; else each block is given back, and the memory with it */
};

/* Made resident beforehand; or, of the largest, that is to be as it is touched. */
static bool expects(const void *p, size_t n_bytes) {
    if (n_bytes >= HUGE_MIN_BYTES) return fixture_extent(&pool, (void *)(uintptr_t)p)->flags & EXTENT_HUGE;
    return resident_pages(p, n_bytes) == n_bytes >> PAGE_SHIFT;
}

/* Blocks of untouched memory, each filled or touched on three pages. Of filled ones so many that are served
 * the wrong way before the first that is not: some are left as they are at any time. */
static unsigned count_wrong(const struct change *change, bool filled, uint64_t *rng) {
    void *blocks[16];
    unsigned n_wrong = 0;
    bool right = false;
    for (unsigned i = 0; i < change->n; i++) {
        char *p = blocks[i] = fixture_get(&pool, change->n_bytes);
        cr_assert(p);
        bool expected = expects(p, change->n_bytes);
        right |= expected;
        n_wrong += filled ? !right : expected;
        for (int k = 0; k < 3; k++)
            p[rng_range(rng, 0, change->n_bytes - 1)] = 1;
        if (filled) memset(p, 1, change->n_bytes);
        if (change->keeps) continue;
        fixture_put(&pool, p);
        pool_trim(&pool, 0);
    }
    for (unsigned i = 0; change->keeps && i < change->n; i++)
        fixture_put(&pool, blocks[i]);
    pool_trim(&pool, 0);
    return n_wrong;
}

ParameterizedTestParameters(fresh, a_change_of_habit_costs_two_blocks) {
    static struct change changes[] = {{MIB, 16, true},     {4 * MIB, 16, true},  {16 * MIB, 12, true},
                                      {MIB, 16, false},    {4 * MIB, 16, false}, {16 * MIB, 12, false},
                                      {64 * MIB, 8, true}, {64 * MIB, 12, false}};
    return cr_make_param_array(struct change, changes, sizeof changes / sizeof changes[0]);
}
ParameterizedTest(struct change *change, fresh, a_change_of_habit_costs_two_blocks, .init = set_up,
                  .timeout = 60) {
    uint64_t rng = change->n_bytes;
    for (int phase = 0; phase < 7; phase++) {
        bool filled = phase % 2;
        unsigned n_wrong = count_wrong(change, filled, &rng);
        cr_expect_leq(n_wrong, WRONG_MOST, "%zu MiB, %s, phase %d of %s blocks: %u", change->n_bytes / MIB,
                      change->keeps ? "kept" : "given back", phase, filled ? "filled" : "sparse", n_wrong);
    }
}

Test(fresh, a_growing_program_that_fills_its_blocks_is_served_throughout) {
    unsigned n_ready = 0;
    for (int i = 0; i < 100; i++) {
        char *p = fixture_get(&pool, 4 * MIB);
        n_ready += resident_pages(p, 4 * MIB) == 1024;
        memset(p, 1, 4 * MIB);
    }
    cr_assert_geq(n_ready, 70, "%u of 100", n_ready);
}

Test(fresh, the_largest_blocks_come_as_they_are_touched) {
    for (int i = 0; i < 3; i++)
        get_filled(HUGE_MIN_BYTES);
    char *p = fixture_get(&pool, HUGE_MIN_BYTES);
    cr_assert_eq(resident_pages(p, HUGE_MIN_BYTES), 0);
}

Test(fresh, small_heaps_take_no_more_than_was_asked_for) {
    size_t before = resident_bytes();
    for (int i = 0; i < 100; i++)
        get_filled(100 * KIB);
    if (!UNDER_ASAN) cr_assert_lt(resident_bytes() - before, 100 * 100 * KIB + MIB);
    cr_assert_eq(pool.heap.dirty_bytes, 0);
}

Test(fresh, large_heaps_grow_by_whole_units_and_say_what_is_resident) {
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
Test(fresh, also_behind_a_remainder_whole_steps_are_mapped) {
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
Test(fresh, first_touches_of_filled_pages_count) {
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

Test(fresh, no_advice_is_left_behind_and_no_vma) {
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

Test(fresh, near_a_limit_nothing_is_filled) {
    for (int i = 0; i < 4; i++)
        get_filled(4 * MIB);
    WRITE_RELAXED(pool.heap.limit_bytes, 40 * MIB);
    char *p = fixture_get(&pool, 4 * MIB);
    cr_assert_eq(resident_pages(p, 4 * MIB), 0);
}

Test(fresh, switched_off_means_off) {
    for (int i = 0; i < 4; i++)
        get_filled(4 * MIB);
    pool.huge = SWITCH_OFF;
    char *p = fixture_get(&pool, 4 * MIB);
    cr_assert_eq(resident_pages(p, 4 * MIB), 0);
}

Test(fresh, the_frontier_moves_in_steps_that_follow_the_size) {
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
Test(fresh, the_faster_kind_of_page_is_used) {
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

Test(fresh, a_fill_during_which_the_thread_waited_says_nothing) {
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

Test(fresh, is_filled_by_the_kind_that_is_wanted) {
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
ParameterizedTestParameters(fresh, small_requests_try_the_other_kind_too) {
    static size_t sizes[] = {128 * KIB, 512 * KIB, MIB + 512 * KIB};
    return cr_make_param_array(size_t, sizes, 3);
}
ParameterizedTest(size_t *n_bytes, fresh, small_requests_try_the_other_kind_too, .init = set_up,
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
