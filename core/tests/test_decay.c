/* SPDX-License-Identifier: MIT */
/* test_decay.c: how idle memory ages. Time is passed in or set back, never waited for. */
#include <criterion/criterion.h>
#include <string.h>

#include "heap/decay.h"
#include "settled_fixture.h"
#include "support.h"

TestSuite(decay, .init = set_up, .fini = tear_down, .timeout = 60);

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
