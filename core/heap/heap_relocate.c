/* SPDX-License-Identifier: MIT */
/* heap_relocate.c: moving a live block to new addresses without ever having both. See heap.h for locking.
 *
 * Where addresses are limited a block that grows may find no room for its old and its new self. The kernel
 * can move a mapping and make it longer in one call, which is charged for what is new only, to addresses
 * where nothing is mapped: a hole, or what lies beyond the frontier.
 */
#include "os/os.h"
#include "heap/budget.h"
#include "heap/heap_bins.h"

/* With the lock held: addresses for n_pages where nothing is mapped, BUSY; NULL if there are none. */
static struct extent *take_addresses(struct heap *heap, size_t n_pages) {
    struct extent *extent = heap_bins_take(heap, &heap->holes, n_pages);
    if (extent) {
        heap_bins_carve(heap, extent, n_pages, 1, &heap->holes);
        return extent;
    }
    size_t bytes = n_pages << PAGE_SHIFT;
    uintptr_t start = heap->frontier;
    if (heap->exhausted || bytes > heap->space.base + heap->space.span_max - start ||
        space_reach(&heap->space, start + bytes - heap->space.base))
        return NULL;
    extent = heap_bins_new_extent(heap);
    if (!extent) return NULL;
    WRITE_RELAXED(heap->frontier, start + bytes);
    WRITE_RELAXED(extent->address, (void *)start);
    WRITE_RELAXED(extent->n_pages, (uint32_t)n_pages);
    extent->cls = (uint16_t)class_floor(n_pages);
    extent_set_state(extent, EXTENT_BUSY);
    heap_bins_publish(heap, extent);
    return extent;
}

/* What is not mapped goes back as a hole. */
static void give_addresses(struct heap *heap, struct extent *extent) {
    extent->flags = EXTENT_UNMAPPED;
    if (!lock_acquire(&heap->lock)) {
        heap_bins_defer(heap, extent);
        return;
    }
    heap_bins_file_hole(heap, extent);
    lock_release(&heap->lock);
}

struct extent *heap_relocate(struct heap *heap, struct extent *extent, size_t n_pages) {
    if (heap->space.reserved || heap->pinned || !lock_acquire(&heap->lock)) return NULL;
    struct extent *to = heap->n_unused >= 2 ? take_addresses(heap, n_pages) : NULL;
    lock_release(&heap->lock);
    if (!to) return NULL;
    if (os_relocate(extent->address, extent_bytes(extent), to->address, n_pages << PAGE_SHIFT)) {
        give_addresses(heap, to);
        return NULL;
    }
    __atomic_fetch_add(&heap->counters.n_moved_vmas, 1, __ATOMIC_RELAXED);
    to->flags = EXTENT_MOVED | EXTENT_GREW;
    to->used_pages = to->n_pages;
    to->unproven_pages = 0;
    heap_forget_move(heap, extent);
    extent->flags = EXTENT_UNMAPPED;
    if (lock_acquire(&heap->lock)) {
        ADD_RELAXED(heap->active_bytes, extent_active_bytes(to) - extent_active_bytes(extent));
        SUB_RELAXED(heap->unproven_bytes, (size_t)extent->unproven_pages << PAGE_SHIFT);
        budget_note_peak(heap);
        heap_bins_file_hole(heap, extent);
        lock_release(&heap->lock);
    } else {
        extent_set_state(extent, EXTENT_BUSY); /* counts go wrong by one block, which does no harm */
        heap_bins_defer(heap, extent);
    }
    extent_set_state(to, EXTENT_LIVE);
    return to;
}
