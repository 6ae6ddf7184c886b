/* SPDX-License-Identifier: MIT */
/* test_budget_decay.c: how much idle memory is kept, and how it ages. Time is passed in or set back, never
 * waited for. */
#include <criterion/criterion.h>
#include <string.h>

#include "os/os.h"
#include "heap/budget.h"
#include "heap/decay.h"
#include "heap/heap_bins.h"
#include "support.h"

#define SPAN (512 * MIB)

static struct heap heap;

static void set_up(void) {
    cr_assert_eq(heap_init(&heap, SPAN, true), 0);
}
static void tear_down(void) {
    cr_expect_null(heap_check(&heap));
    space_destroy(&heap.space);
}
TestSuite(budget, .init = set_up, .fini = tear_down, .timeout = 60);
TestSuite(decay, .init = set_up, .fini = tear_down, .timeout = 60);

/* As a pool takes a block that will be filled, while nothing lies in caches. */
static struct extent *take(size_t n_bytes) {
    struct heap_request request = {.n_pages = n_bytes >> PAGE_SHIFT, .align_pages = 1, .proven = true};
    cr_assert(lock_acquire(&heap.lock));
    budget_settle(&heap, n_bytes, true, 0);
    lock_release(&heap.lock);
    struct extent *e = heap_alloc(&heap, &request);
    cr_assert(e);
    e->state = EXTENT_LIVE;
    e->flags &= (__typeof__(e->flags))~EXTENT_ZERO;
    return e;
}

/* Idle dirty memory of so many bytes that does not merge with its like. */
static void make_dirty(size_t n_bytes) {
    heap_free(&heap, take(n_bytes));
}

/* --- budget --- */

Test(budget, nothing_idle_nothing_in_excess) {
    take(64 * MIB);
    cr_assert_eq(budget_excess(&heap, 64 * MIB, 64 * MIB, true), 0);
}

Test(budget, a_large_request_may_bring_the_sum_to_the_peak_and_its_slack) {
    heap_free(&heap, take(64 * MIB));
    /* Live 0, idle 64, and the peak was 64: who has dropped most of it has a thirty-second as slack, and the
     * floor. */
    cr_assert_eq(budget_excess(&heap, MIB, MIB, true), 0);
    cr_assert_eq(budget_excess(&heap, 3 * MIB, 3 * MIB, true), 0);
    cr_assert_eq(budget_excess(&heap, 16 * MIB, 16 * MIB, true),
                 64 * MIB + 16 * MIB - (64 * MIB + 2 * MIB + BUDGET_FLOOR_BYTES));
    /* Once it holds as much again, or where it has not dropped so much, 7/32. */
    heap.reloads = false;
    cr_assert_eq(budget_excess(&heap, 40 * MIB, 40 * MIB, true),
                 64 * MIB + 40 * MIB - (64 * MIB + 14 * MIB + BUDGET_FLOOR_BYTES));
}

Test(budget, a_program_reloads_until_it_holds_all_that_it_dropped) {
    make_dirty(64 * MIB);
    heap.settled_bytes = 64 * MIB;
    heap.active_bytes = 70 * MIB; /* six more that nobody has looked at */
    budget_note_peak(&heap);
    cr_assert_eq(heap.peak_window[0], 65 * MIB, "believed is a sixty-fourth more");
    heap.active_bytes = 4 * MIB; /* all dropped, and a block taken that was warm */
    budget_note_peak(&heap);
    cr_assert(heap.reloads);
    heap.active_bytes = 68 * MIB;
    budget_excess(&heap, MIB, MIB, true);
    cr_assert(heap.reloads, "69 are less than the 70 that it had");
    budget_excess(&heap, 2 * MIB, 2 * MIB, true);
    cr_assert(heap.reloads, "as much as it had, but it may be loading still");
    heap.dropped_ms -= BUDGET_WINDOW_MS;
    budget_excess(&heap, 2 * MIB, 2 * MIB, true);
    cr_assert_not(heap.reloads, "a second later it is not");
    heap.active_bytes = 4 * MIB;
    budget_note_peak(&heap);
    cr_assert(heap.reloads);
    heap.active_bytes = 64 * MIB;
    budget_excess(&heap, 16 * MIB, 16 * MIB, true);
    cr_assert_not(heap.reloads, "80 are an eighth more");
    heap.active_bytes = 0;
}

Test(budget, the_slack_follows_the_root_of_the_request) {
    make_dirty(160 * MIB);
    heap.active_bytes = 140 * MIB;
    heap.peak_window[0] = 256 * MIB;
    cr_assert_eq(budget_excess(&heap, 9 * MIB, 9 * MIB, true),
                 309 * MIB - (256 * MIB + 48 * MIB + BUDGET_FLOOR_BYTES), "the root of 9 x 256");
    cr_assert_eq(budget_excess(&heap, MIB, MIB, true),
                 301 * MIB - (256 * MIB + 42 * MIB + BUDGET_FLOOR_BYTES), "21/128 are more than 16");
    heap.peak_window[0] = 256 * MIB;
    cr_assert_eq(budget_excess(&heap, 14 * MIB, 14 * MIB, true),
                 314 * MIB - (256 * MIB + 56 * MIB + BUDGET_FLOOR_BYTES), "7/32 are less than the root");
    cr_assert_eq(budget_excess(&heap, 16 * MIB, 16 * MIB, true),
                 316 * MIB - (256 * MIB + 56 * MIB + BUDGET_FLOOR_BYTES));
    heap.active_bytes = 0;
}

Test(budget, small_requests_hold_the_sum_at_35_32_by_giving_back_twice_what_they_take) {
    heap_free(&heap, take(64 * MIB));
    struct extent *live = take(58 * MIB), *rest = take(6 * MIB);
    heap_free(&heap, rest);
    /* live 58 + idle 6 is under 35/32 of the peak. */
    cr_assert_eq(budget_excess(&heap, 64 * KIB, 64 * KIB, true), 0);
    rest = take(6 * MIB);
    struct extent *more = take(8 * MIB);
    heap_free(&heap, more);
    heap_free(&heap, rest);
    heap.peak_window[0] = 64 * MIB; /* what the peak was before the last two steps, which set the scene */
    cr_assert_eq(budget_excess(&heap, 64 * KIB, 64 * KIB, true), 128 * KIB,
                 "live 58 + idle 14 of a peak of 64");
    heap.peak_window[0] = 65 * MIB;
    cr_assert_eq(budget_excess(&heap, 64 * KIB, 64 * KIB, true), 0,
                 "35/32 of 65 and the floor are 72.09, the sum is 72.06");
    heap.peak_window[0] = 65 * MIB - 64 * KIB;
    cr_assert_eq(budget_excess(&heap, 64 * KIB, 64 * KIB, true), 38 * KIB);
    (void)live;
}

Test(budget, a_peak_is_remembered_one_to_two_windows_and_then_forgotten) {
    heap_free(&heap, take(64 * MIB));
    heap.window_start_ms -= BUDGET_WINDOW_MS;
    cr_assert_eq(budget_excess(&heap, MIB, MIB, true), 0, "after one window the previous peak still counts");
    heap.window_start_ms -= BUDGET_WINDOW_MS;
    size_t excess = budget_excess(&heap, MIB, MIB, true);
    cr_assert_gt(excess, 60 * MIB, "after two it does not");
    cr_assert_leq(excess, heap.dirty_bytes);
    heap_free(&heap, take(64 * MIB));
    heap.window_start_ms -= 100 * BUDGET_WINDOW_MS;
    cr_assert_gt(budget_excess(&heap, MIB, MIB, true), 60 * MIB, "nor after a long pause");
}

Test(budget, allocation_enforces_it) {
    struct extent *small[16];
    for (int i = 0; i < 16; i++)
        small[i] = take(4 * MIB);
    struct extent *fence[16];
    for (int i = 0; i < 16; i += 2)
        fence[i] = small[i + 1];
    for (int i = 0; i < 16; i += 2)
        heap_free(&heap, small[i]); /* 32 MiB idle in pieces, 32 MiB live */
    size_t purged = heap.counters.bytes_purged;
    take(48 * MIB); /* fits no piece: live becomes 80, so that 97.5 and the floor are the limit of the sum */
    cr_assert_gt(heap.counters.bytes_purged, purged,
                 "fresh memory was taken while the sum exceeds the budget");
    size_t total = heap.active_bytes + heap.dirty_bytes;
    cr_assert_leq(total, 80 * MIB + 80 * MIB / 32 * 7 + BUDGET_FLOOR_BYTES);
    (void)fence;
}

Test(budget, retained_bytes_are_kept_on_top) {
    heap_free(&heap, take(64 * MIB));
    heap.window_start_ms -= 10 * BUDGET_WINDOW_MS;
    heap.retain_bytes = 100 * MIB;
    cr_assert_eq(budget_excess(&heap, MIB, MIB, true), 0);
}

Test(budget, the_hard_cap_holds_at_once) {
    heap.retain_max_bytes = 10 * MIB;
    heap_free(&heap, take(64 * MIB));
    cr_assert_leq(heap.dirty_bytes, 10 * MIB);
}

Test(budget, a_cgroup_limit_binds) {
    struct extent *e = take(64 * MIB);
    heap_free(&heap, e);
    heap.limit_bytes = 80 * MIB;
    /* 7/8 of the limit is 70: live 32 + idle 64 is too much. */
    cr_assert_eq(budget_excess(&heap, 32 * MIB, 32 * MIB, true), 96 * MIB - 70 * MIB);
    heap.limit_bytes = 0;
    cr_assert_eq(budget_excess(&heap, MIB, MIB, true), heap.dirty_bytes, "never more than there is");
}

/* --- decay --- */

#define DECAY 4000u
#define STEP ((DECAY + DECAY_GRACE_MS) / DECAY_STEPS)

#define START 1000000u

static void start_decay(uint32_t decay_ms, uint32_t now) {
    heap.decay_ms = decay_ms;
    heap.decay_epoch_ms = now;
}

/* The heap stamps what is freed with the real clock; here time is what the test says. */
static void free_at(struct extent *e, uint32_t now) {
    heap_free(&heap, e);
    for (struct extent *each = heap.by_age.newer; each != &heap.by_age; each = each->newer)
        each->last_use_ms = now;
}
static void make_dirty_at(size_t n_bytes, uint32_t now) {
    free_at(take(n_bytes), now);
}

Test(decay, off_means_never) {
    make_dirty(64 * MIB);
    heap.decay_ms = 0;
    cr_assert_eq(decay_tick(&heap, heap.decay_epoch_ms + 3600000), 0);
    cr_assert_not(decay_due(&heap, heap.decay_epoch_ms + 3600000));
    cr_assert_eq(heap.dirty_bytes, 64 * MIB);
}

Test(decay, memory_is_held_for_the_grace_then_goes_gradually_and_whole) {
    uint32_t now = START;
    start_decay(DECAY, now);
    make_dirty_at(64 * MIB, now);
    size_t before = heap.dirty_bytes;
    bool fell_in_part = false;
    for (uint32_t at = STEP; at <= DECAY + DECAY_GRACE_MS + 2 * STEP; at += STEP) {
        unsigned wait = decay_tick(&heap, now + at);
        cr_assert_leq(heap.dirty_bytes, before, "idle memory grew by itself");
        if (at <= DECAY_GRACE_MS)
            cr_assert_eq(heap.dirty_bytes, 64 * MIB, "not held for the first second (%u ms)", at);
        if (heap.dirty_bytes > 0 && heap.dirty_bytes < 64 * MIB) fell_in_part = true;
        if (heap.dirty_bytes > 0) cr_assert(wait > 0 && wait <= STEP, "the next visit is due in %u ms", wait);
        /* Half way through the curve about half is left. */
        if (at / STEP == 9) {
            cr_assert_gt(heap.dirty_bytes, 16 * MIB);
            cr_assert_lt(heap.dirty_bytes, 48 * MIB);
        }
        before = heap.dirty_bytes;
    }
    cr_assert(fell_in_part);
    cr_assert_eq(heap.dirty_bytes, 0, "everything is gone after decay and grace");
    cr_assert_eq(decay_tick(&heap, now + DECAY + DECAY_GRACE_MS + 3 * STEP), 0, "nothing left to wait for");
}

/* By a handler that interrupted the pool, say; in a process that then makes no call nobody else comes for
 * it. */
Test(decay, what_waits_for_the_next_holder_of_the_lock_ages_too) {
    uint32_t now = START;
    start_decay(DECAY, now);
    struct extent *e = take(64 * MIB);
    extent_set_state(e, EXTENT_CACHED);
    heap_bins_defer(&heap, e);
    cr_assert_neq(decay_tick(&heap, now + 1), 0, "it is not at rest");
    cr_assert_eq(heap.dirty_bytes, 64 * MIB);
    cr_assert_eq(heap.active_bytes, 0);
}

Test(decay, nothing_happens_between_steps) {
    uint32_t now = START;
    start_decay(DECAY, now);
    heap.cannot_mark = true; /* else that is due first */
    make_dirty_at(64 * MIB, now);
    cr_assert_not(decay_due(&heap, now + STEP - 1));
    unsigned wait = decay_tick(&heap, now + STEP / 2);
    cr_assert_eq(wait, STEP - STEP / 2);
    cr_assert_eq(heap.dirty_bytes, 64 * MIB);
    cr_assert(decay_due(&heap, now + STEP));
}

Test(decay, memory_in_use_again_does_not_decay) {
    uint32_t now = START;
    start_decay(DECAY, now);
    struct extent *e = take(64 * MIB);
    for (uint32_t at = 1; at <= 40; at++) {
        free_at(e, now + at * STEP - 50);
        decay_tick(&heap, now + at * STEP);
        size_t fresh = heap.counters.n_fresh;
        e = take(64 * MIB);
        cr_assert_eq(heap.counters.n_fresh, fresh, "a block in steady use was purged at step %u", at);
    }
}

Test(decay, retained_bytes_stay) {
    uint32_t now = START;
    start_decay(DECAY, now);
    heap.retain_bytes = 16 * MIB;
    make_dirty_at(64 * MIB, now);
    for (uint32_t at = 1; at <= 40; at++)
        decay_tick(&heap, now + at * STEP);
    cr_assert_eq(heap.dirty_bytes, 16 * MIB);
}

Test(decay, one_late_tick_after_a_long_pause_clears_old_memory) {
    uint32_t now = START;
    start_decay(DECAY, now);
    make_dirty_at(64 * MIB, now);
    decay_tick(&heap, now + STEP); /* seen */
    decay_tick(&heap, now + STEP + 3600000);
    cr_assert_eq(heap.dirty_bytes, 0);
}

Test(decay, memory_freed_just_before_a_late_tick_gets_its_grace) {
    /* Without the background thread a tick may come long after the last one; what was freed a moment ago is
     * young. */
    uint32_t now = START;
    start_decay(DECAY, now);
    make_dirty_at(64 * MIB, now + 59900);
    decay_tick(&heap, now + 60000);
    cr_assert_eq(heap.dirty_bytes, 64 * MIB, "taken for a minute old, %zu bytes left", heap.dirty_bytes);
}

Test(decay, works_across_the_wrap_of_the_clock) {
    uint32_t now = UINT32_MAX - STEP / 2;
    start_decay(DECAY, now);
    make_dirty_at(64 * MIB, now);
    decay_tick(&heap, now + STEP);
    cr_assert_eq(heap.dirty_bytes, 64 * MIB);
    for (uint32_t at = 2; at <= 18; at++)
        decay_tick(&heap, now + at * STEP);
    cr_assert_eq(heap.dirty_bytes, 0);
}

Test(decay, extreme_settings_are_sane) {
    start_decay(1, 0);
    make_dirty_at(8 * MIB, 0);
    for (uint32_t at = 0; at <= 2200; at += 20)
        decay_tick(&heap, at);
    cr_assert_eq(heap.dirty_bytes, 0);
    start_decay(UINT32_MAX, 0);
    make_dirty_at(8 * MIB, 0);
    for (uint32_t at = 0; at <= 20000; at += 20)
        decay_tick(&heap, at);
    cr_assert_eq(heap.dirty_bytes, 8 * MIB, "a decay of 50 days must not wrap to a short one");
}

Test(decay, does_not_hang_or_purge_while_the_lock_is_held) {
    uint32_t now = START;
    start_decay(DECAY, now);
    make_dirty_at(8 * MIB, now);
    cr_assert(lock_try(&heap.lock));
    cr_assert_gt(decay_tick(&heap, now + 10000), 0);
    lock_release(&heap.lock);
    cr_assert_eq(heap.dirty_bytes, 8 * MIB);
}
