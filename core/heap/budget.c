/* SPDX-License-Identifier: MIT */
/* budget.c: the bound on idle memory. See budget.h for the policy. */
#include "heap/budget.h"

#include "base/time.h"
#include "os/os.h"

size_t budget_live(const struct heap *heap) {
    size_t active = READ_RELAXED(heap->active_bytes),
           not_used = READ_RELAXED(heap->cached_bytes) + READ_RELAXED(heap->unproven_bytes);
    return active - min_size(not_used, active);
}

static void roll_window(struct heap *heap, uint32_t now) {
    uint32_t elapsed = time_passed_ms(now, heap->window_start_ms);
    if (elapsed < BUDGET_WINDOW_MS) return;
    size_t live = budget_live(heap);
    heap->peak_window[1] = elapsed < 2 * BUDGET_WINDOW_MS ? heap->peak_window[0] : live;
    heap->peak_window[0] = live;
    heap->held_window[1] = elapsed < 2 * BUDGET_WINDOW_MS ? heap->held_window[0] : live;
    heap->held_window[0] = live;
    heap->settled_bytes = min_size(heap->settled_bytes, max_size(heap->peak_window[1], live));
    heap->window_start_ms = now;
    if (!heap->has_earned) heap->earned_bytes -= (heap->earned_bytes + 3) / 4;
    heap->has_earned = false;
    heap->forced_bytes = 0;
}

static size_t known_peak(const struct heap *heap) {
    return max_size(heap->peak_window[0], heap->peak_window[1]);
}

/* Caches may have grown since somebody looked: then what seems to be live is idle. So the peak rises no
 * further than this without a look. */
static size_t believable(const struct heap *heap) {
    return heap->settled_bytes + max_size(BUDGET_SLOP_BYTES, heap->settled_bytes >> BUDGET_SLOP_SHIFT);
}

/* Looked at whenever a block is handed out: who drops all and takes it again asks for no untouched memory
 * before the end. What caches held may have come back since they were counted, so it is not taken off. */
static void note_drop(struct heap *heap, size_t n_bytes) {
    size_t active = READ_RELAXED(heap->active_bytes);
    size_t proven = active - min_size(READ_RELAXED(heap->unproven_bytes), active);
    if (proven + n_bytes >= known_peak(heap) / 2) return;
    heap->reloads = true;
    heap->dropped_ms = os_clock_ms();
}

/* What is loaded again may be a little larger each time; what stays as large as it was is loaded. The peak
 * before the drop is forgotten after two windows. */
static bool has_reloaded(const struct heap *heap, size_t live, size_t peak, uint32_t now) {
    size_t held = max_size(peak, max_size(heap->held_window[0], heap->held_window[1]));
    uint32_t since_ms = time_passed_ms(now, heap->dropped_ms);
    if (live < held) return since_ms >= 2 * BUDGET_WINDOW_MS;
    return live - held > held / BUDGET_RELOAD_MORE || since_ms >= BUDGET_WINDOW_MS;
}

void budget_note_peak(struct heap *heap) {
    size_t held = budget_live(heap), live = min_size(held, believable(heap));
    if (live > heap->peak_window[0]) heap->peak_window[0] = live;
    if (held > heap->held_window[0]) heap->held_window[0] = held;
    note_drop(heap, 0);
    if (heap->active_bytes > heap->counters.active_peak)
        WRITE_RELAXED(heap->counters.active_peak, heap->active_bytes);
}

/* Of at least 1. A Newton iteration from above falls until it has arrived. */
static uint64_t square_root(uint64_t value) {
    uint64_t root = (uint64_t)1 << (log2_floor(value) / 2 + 1);
    for (uint64_t next = root - 1; next < root; next = (root + value / root) / 2)
        root = next;
    return root;
}

/* See budget.h. */
static size_t slack_of(size_t n_bytes, size_t peak) {
    size_t cap = max_size(BUDGET_SLACK_BYTES, peak / BUDGET_SLACK_SHARE);
    size_t least = min_size(peak / 128 * 21, cap), most = min_size(peak / 32 * 7, cap);
    if (n_bytes < BUDGET_LARGE_BYTES) return least;
    if (n_bytes >= peak / 16) return most; /* the root is above that */
    return max_size(
        least, min_size(most, square_root((n_bytes >> PAGE_SHIFT) * (peak >> PAGE_SHIFT)) << PAGE_SHIFT));
}

/* How much idle memory there is too much, with n_bytes more of untouched memory: caches and heap together. */
static size_t too_much(struct heap *heap, size_t n_bytes, size_t resident_bytes, bool proven) {
    uint32_t now = os_clock_ms();
    roll_window(heap, now);
    size_t live = budget_live(heap) + (proven ? n_bytes : 0);
    size_t peak = max_size(known_peak(heap), min_size(live, believable(heap)));
    note_drop(heap, proven ? n_bytes : 0);
    if (has_reloaded(heap, live, peak, now)) heap->reloads = false;
    size_t floor = peak + BUDGET_FLOOR_BYTES + heap->retain_bytes, slack = slack_of(n_bytes, peak);
    if (!heap->reloads) floor += heap->earned_bytes;
    size_t budget = floor + (heap->reloads ? min_size(slack, peak / BUDGET_RELOAD_SHARE) : slack);
    /* Near the limit of the cgroup idle memory is worth less than the program's life. */
    size_t limit = READ_RELAXED(heap->limit_bytes);
    limit -= limit >> 3;
    if (budget > limit) budget = limit;
    size_t total = heap->active_bytes + n_bytes + heap->dirty_bytes;
    size_t excess = total > budget ? total - budget : 0;
    size_t small_budget = floor + peak / 32 * 3;
    if (n_bytes < BUDGET_LARGE_BYTES && total > small_budget)
        excess = max_size(excess, min_size(total - small_budget, 2 * resident_bytes));
    return excess;
}

size_t budget_excess(struct heap *heap, size_t n_bytes, size_t resident_bytes, bool proven) {
    if (heap->dirty_bytes == 0) return 0;
    size_t excess = too_much(heap, n_bytes, resident_bytes, proven);
    if (heap->dirty_bytes > heap->retain_max_bytes)
        excess = max_size(excess, heap->dirty_bytes - heap->retain_max_bytes);
    return min_size(excess, heap->dirty_bytes);
}

void budget_note_forced(struct heap *heap, size_t forced_bytes, size_t n_bytes) {
    size_t peak = known_peak(heap);
    if (heap->reloads || budget_live(heap) + n_bytes > peak) return; /* it grows, or may */
    heap->forced_bytes += min_size(forced_bytes, n_bytes);
    if (heap->forced_bytes < max_size(peak / BUDGET_EARN_EVERY_SHARE, BUDGET_EARN_EVERY_BYTES)) return;
    size_t most = max_size(peak / BUDGET_EARNED_SHARE, BUDGET_EARNED_BYTES);
    heap->earned_bytes =
        min_size(most, heap->earned_bytes + max_size(peak / BUDGET_EARN_SHARE, BUDGET_EARN_BYTES));
    heap->forced_bytes = 0;
    heap->has_earned = true;
}

bool budget_is_out_of_date(struct heap *heap, size_t n_bytes, bool proven) {
    size_t over = too_much(heap, n_bytes, n_bytes, proven);
    return over > heap->dirty_bytes ||
           (over && budget_live(heap) + (proven ? n_bytes : 0) > believable(heap));
}

size_t budget_settle(struct heap *heap, size_t n_bytes, bool proven, size_t cached_bytes) {
    WRITE_RELAXED(heap->cached_bytes, cached_bytes);
    roll_window(heap, os_clock_ms());
    heap->settled_bytes = max_size(budget_live(heap) + (proven ? n_bytes : 0), heap->settled_bytes);
    size_t excess = too_much(heap, n_bytes, n_bytes, proven);
    return excess > heap->dirty_bytes ? excess - heap->dirty_bytes : 0;
}
