/* SPDX-License-Identifier: MIT */
/* test_budget.c: how much idle memory is kept. Time is set back, never waited for. */
#include <criterion/criterion.h>
#include <string.h>

#include "settled_fixture.h"
#include "support.h"

TestSuite(budget, .init = set_up, .fini = tear_down, .timeout = 60);

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

Test(budget, what_caches_have_returned_since_they_were_counted_is_no_drop) {
    heap.peak_window[0] = 64 * MIB;
    heap.active_bytes = 33 * MIB;
    heap.cached_bytes = 8 * MIB;
    budget_note_peak(&heap);
    cr_assert_not(heap.reloads);
    heap.active_bytes = 31 * MIB;
    budget_note_peak(&heap);
    cr_assert(heap.reloads, "half of the peak and more is gone, whatever caches hold");
    heap.active_bytes = heap.cached_bytes = 0;
}

Test(budget, a_program_that_stays_smaller_has_reloaded_after_two_windows) {
    heap.peak_window[0] = heap.peak_window[1] = 64 * MIB;
    heap.active_bytes = 30 * MIB;
    budget_note_peak(&heap);
    cr_assert(heap.reloads);
    heap.active_bytes = 40 * MIB;
    heap.dropped_ms -= 2 * BUDGET_WINDOW_MS - 100;
    budget_excess(&heap, MIB, MIB, true);
    budget_is_out_of_date(&heap, MIB, true);
    cr_assert(heap.reloads);
    heap.dropped_ms -= 100;
    budget_is_out_of_date(&heap, MIB, true);
    cr_assert_not(heap.reloads);
    heap.active_bytes = 0;
}

/* Gives back so much for the budget, a request of 1 MiB at a time. */
static void force(size_t n_bytes) {
    for (; n_bytes; n_bytes -= MIB)
        budget_note_forced(&heap, 2 * MIB, MIB);
}

Test(budget, a_steady_program_that_is_made_to_give_back_earns_slack) {
    make_dirty(130 * MIB);
    heap.active_bytes = 100 * MIB;
    heap.peak_window[0] = 128 * MIB;
    heap.reloads = false;
    size_t before = budget_excess(&heap, 8 * MIB, 8 * MIB, true);
    force(7 * MIB);
    cr_assert_eq(heap.earned_bytes, 0, "not the first time");
    force(MIB);
    cr_assert_eq(heap.earned_bytes, 4 * MIB, "a thirty-second for each sixteenth");
    cr_assert_eq(budget_excess(&heap, 8 * MIB, 8 * MIB, true), before - 4 * MIB);
    force(64 * MIB);
    cr_assert_eq(heap.earned_bytes, 16 * MIB, "an eighth at most");
    heap.reloads = true;
    heap.dropped_ms = os_clock_ms();
    cr_assert_gt(budget_excess(&heap, 8 * MIB, 8 * MIB, true), before, "not while it loads again");
    heap.active_bytes = 0;
}

Test(budget, a_growing_program_earns_nothing) {
    heap.peak_window[0] = 128 * MIB;
    heap.active_bytes = 128 * MIB;
    force(64 * MIB);
    cr_assert_eq(heap.earned_bytes, 0);
    heap.active_bytes = 0;
}

Test(budget, what_was_earned_fades) {
    heap.peak_window[0] = heap.peak_window[1] = 128 * MIB;
    heap.active_bytes = 100 * MIB;
    force(64 * MIB);
    make_dirty(MIB);
    for (int i = 0; i < 80; i++) {
        heap.window_start_ms -= BUDGET_WINDOW_MS;
        budget_excess(&heap, MIB, MIB, true);
        if (i == 1) cr_assert_eq(heap.earned_bytes, 12 * MIB, "a quarter for each window without a rise");
    }
    cr_assert_eq(heap.earned_bytes, 0);
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
