/* SPDX-License-Identifier: MIT */
/* heap_free.c: return of extents, alone and in lists. See heap.h for locking. */
#include "os/os.h"
#include "heap/heap_bins.h"

/* Blocks returned at one hold of the lock: others must not wait for a long list. */
#define FREE_BATCH 16

/* Lock held. Returns what is left of the list. */
static struct extent *insert_some(struct heap *heap, struct extent *list) {
    for (int i = 0; list && i < FREE_BATCH; i++) {
        struct extent *next = list->next;
        COUNT(to_heap);
        heap_bins_return(heap, list);
        list = next;
    }
    return list;
}

static void defer_all(struct heap *heap, struct extent *list) {
    while (list) {
        struct extent *next = list->next;
        heap_bins_defer(heap, list);
        list = next;
    }
}

/* Somebody holds the lock and may have been preempted: leave blocks to him rather than wait, as many as
 * may lie there. Returns the rest. */
static struct extent *leave_some(struct heap *heap, struct extent *list) {
    if (heap->retain_max_bytes != SIZE_MAX) return list; /* that bound is enforced with the lock held */
    while (list && heap_bins_deferred_weight(list) +
                           atomic_load_explicit(&heap->deferred_bytes, memory_order_relaxed) <=
                       DEFER_MAX_BYTES) {
        struct extent *next = list->next;
        heap_bins_defer(heap, list);
        list = next;
    }
    heap_bins_serve(heap);
    return list;
}

static void prefetch_some(const struct heap *heap, const struct extent *list) {
    for (int i = 0; list && i < FREE_BATCH; i++, list = list->next)
        heap_prefetch(heap, list);
}

void heap_free_list(struct heap *heap, struct extent *list) {
    while (list) {
        prefetch_some(heap, list);
        if (!lock_acquire_briefly(&heap->lock)) {
            list = leave_some(heap, list);
            if (!list) return;
            if (!lock_acquire(&heap->lock)) {
                defer_all(heap, list);
                return;
            }
        }
        heap_bins_drain_deferred(heap);
        list = insert_some(heap, list);
        struct extent *excess = NULL;
        if (unlikely(heap->dirty_bytes > heap->retain_max_bytes))
            excess = heap_collect(heap, heap->dirty_bytes - heap->retain_max_bytes);
        heap_bins_unlock(heap);
        if (unlikely(excess)) heap_purge_list(heap, excess);
    }
}

void heap_free(struct heap *heap, struct extent *extent) {
    extent->next = NULL;
    heap_free_list(heap, extent);
}

ssize_t heap_move_pages(struct heap *heap, struct extent *from, struct extent *to, size_t n_pages) {
    ssize_t moved = os_move_pages(from->address, to->address, n_pages << PAGE_SHIFT);
    if (moved <= 0) return moved;
    __atomic_fetch_add(&heap->counters.n_moved_blocks, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&heap->counters.n_moved_vmas, 1, __ATOMIC_RELAXED);
    to->flags |= EXTENT_MOVED | EXTENT_GREW;
    return moved;
}

void heap_forget_move(struct heap *heap, struct extent *extent) {
    if (extent->flags & EXTENT_MOVED) __atomic_fetch_sub(&heap->counters.n_moved_vmas, 1, __ATOMIC_RELAXED);
    extent->flags &= (uint16_t)~EXTENT_MOVED;
}

void heap_lose(struct heap *heap, struct extent *extent) {
    bool unmapped = os_unmap(extent->address, extent_bytes(extent)) == 0;
    heap_forget_move(heap, extent);
    extent->flags = 0;
    /* Without the lock it counts as handed out for ever, which does no harm. */
    bool locked = lock_acquire(&heap->lock);
    if (locked) {
        SUB_RELAXED(heap->active_bytes, extent_active_bytes(extent));
        heap_bins_set_unproven(heap, extent, 0);
    }
    if (locked && unmapped)
        heap_bins_file_hole(heap, extent);
    else
        extent_set_state(extent, EXTENT_LOST);
    if (locked) lock_release(&heap->lock);
}
