/* SPDX-License-Identifier: MIT */
/* decay.c: the decay curve. See decay.h. */
#include "heap/decay.h"

#include "base/time.h"
#include "heap/heap_bins.h"

static uint32_t step_ms(const struct heap *heap) {
    uint64_t total = (uint64_t)heap->decay_ms + DECAY_GRACE_MS;
    return total / DECAY_STEPS ? (uint32_t)(total / DECAY_STEPS) : 1;
}

/* The share of bytes of age step i that may be kept, in 1/1024. */
static size_t kept_share(const struct heap *heap, unsigned step) {
    uint64_t age_ms = (uint64_t)(step + 1) * step_ms(heap);
    if (age_ms <= DECAY_GRACE_MS) return 1024;
    uint64_t x = (age_ms - DECAY_GRACE_MS) * 1024 / (heap->decay_ms ? heap->decay_ms : 1);
    if (x >= 1024) return 0;
    return 1024 - (size_t)(x * x * (3 * 1024 - 2 * x) / (1024 * 1024));
}

/* What the curve allows; the lock is held. */
static size_t allowed_bytes(const struct heap *heap) {
    size_t allowed = 0;
    for (unsigned i = 0; i < DECAY_STEPS; i++)
        allowed += heap->decay_backlog[i] / 1024 * kept_share(heap, i);
    return allowed;
}

static void advance(struct heap *heap, unsigned n_steps) {
    for (; n_steps; n_steps--) {
        for (unsigned i = DECAY_STEPS - 1; i > 0; i--)
            heap->decay_backlog[i] = heap->decay_backlog[i - 1];
        heap->decay_backlog[0] = 0;
    }
    /* When in the interval the memory became idle is not known; the newest step gives it the benefit. */
    size_t dirty = heap->dirty_bytes;
    heap->decay_backlog[0] = dirty > heap->decay_seen_bytes ? dirty - heap->decay_seen_bytes : 0;
    heap->decay_seen_bytes = dirty;
}

static bool has_unmarked(const struct heap *heap) {
    return !READ_RELAXED(heap->cannot_mark) && !heap->pinned &&
           READ_RELAXED(heap->dirty_bytes) > READ_RELAXED(heap->muzzy_bytes);
}

bool decay_due(const struct heap *heap, uint32_t now_ms) {
    if (has_unmarked(heap) && time_passed_ms(now_ms, READ_RELAXED(heap->marked_ms)) >= DECAY_MARK_MS)
        return true;
    return heap->decay_ms && time_passed_ms(now_ms, READ_RELAXED(heap->decay_epoch_ms)) >= step_ms(heap);
}

/* Mark what has rested so long. Returns when that is wanted again, 0 if nothing is left to mark. */
static unsigned mark(struct heap *heap, uint32_t now_ms) {
    if (!has_unmarked(heap)) return 0;
    uint32_t elapsed = time_passed_ms(now_ms, READ_RELAXED(heap->marked_ms));
    if (elapsed < DECAY_MARK_MS) return DECAY_MARK_MS - elapsed;
    WRITE_RELAXED(heap->marked_ms, now_ms);
    heap_mark(heap, SIZE_MAX, now_ms - DECAY_MARK_MS);
    return has_unmarked(heap) ? DECAY_MARK_MS : 0;
}

static unsigned purge(struct heap *heap, uint32_t now_ms) {
    if (!heap->decay_ms) return 0;
    uint32_t step = step_ms(heap);
    if (!lock_acquire(&heap->lock)) return step;
    /* what a handler or a thread without the lock left: nobody else may come for it */
    heap_bins_drain_deferred(heap);
    uint32_t elapsed = time_passed_ms(now_ms, heap->decay_epoch_ms);
    if (elapsed < step) {
        bool at_rest = heap->dirty_bytes <= heap->retain_bytes;
        lock_release(&heap->lock);
        return at_rest ? 0 : step - elapsed;
    }
    unsigned n_steps = elapsed / step;
    ADD_RELAXED(heap->decay_epoch_ms, n_steps * step);
    advance(heap, n_steps > DECAY_STEPS ? DECAY_STEPS + 1 : n_steps);
    size_t allowed = max_size(allowed_bytes(heap), heap->retain_bytes);
    struct extent *list = NULL;
    /* Memory in steady use may be idle at every tick; what was used within the grace stays whatever the curve
     * says. */
    if (heap->dirty_bytes > allowed)
        list = heap_collect_older(heap, heap->dirty_bytes - allowed, now_ms - DECAY_GRACE_MS);
    heap->decay_seen_bytes = heap->dirty_bytes;
    bool left = heap->dirty_bytes > heap->retain_bytes;
    lock_release(&heap->lock);
    heap_purge_list(heap, list);
    /* At rest: addresses count, too, where they are limited or where all that is mapped is charged. */
    if (!left) heap_release_top(heap);
    return left ? step : 0;
}

unsigned decay_tick(struct heap *heap, uint32_t now_ms) {
    unsigned until_purge = purge(heap, now_ms); /* first: what goes need not be marked */
    return time_sooner(mark(heap, now_ms), until_purge);
}
