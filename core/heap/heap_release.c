/* SPDX-License-Identifier: MIT */
/* heap_release.c: giving addresses back, not only memory. See heap.h for locking.
 *
 * Addresses matter where they are limited (RLIMIT_AS, RLIMIT_DATA) or charged (strict overcommit). What is
 * unmapped below the frontier stays in the heap as a hole (EXTENT_HOLE): nobody else is placed there by
 * default, so it is mapped anew when it is needed. Each hole splits a VMA, of which a process may have some
 * 65,000, so their number is bounded.
 */
#include "os/os.h"
#include "heap/heap_bins.h"

#include <errno.h>

/* Smaller pieces are not worth a VMA each. */
#define RELEASE_MIN_PAGES 16

/* The extent that ends at the frontier, or NULL if none does (a claim is being mapped). */
static struct extent *top_extent(struct heap *heap) {
    if (heap->frontier == heap->space.base) return NULL;
    struct extent *top = space_lookup(&heap->space, (void *)(heap->frontier - 1));
    return top->address && (uintptr_t)extent_end(top) == heap->frontier ? top : NULL;
}

/* With the lock held: lower the frontier over the holes just below it. */
static void drop_top_holes(struct heap *heap) {
    struct extent *top;
    while ((top = top_extent(heap)) && extent_state(top) == EXTENT_HOLE) {
        heap_bins_unfile(heap, &heap->holes, top);
        char *start = top->address;
        space_set_page(&heap->space, start, 0);
        space_set_page(&heap->space, extent_end(top) - 1, 0);
        WRITE_RELAXED(heap->frontier, (uintptr_t)start);
        /* Others may get these addresses now, and free there what is none of ours. Nobody holds a block
         * beyond. */
        atomic_store_explicit(&heap->space.span, (uintptr_t)start - heap->space.base, memory_order_relaxed);
        heap_bins_drop_extent(heap, top);
    }
}

/* The largest extent of these bins, or NULL if that is too small. */
static struct extent *largest(const struct bins *bins) {
    for (unsigned word = BIN_WORDS; word-- > 0;) {
        if (!bins->nonempty[word]) continue;
        struct extent *extent = bins->head[word * 64 + log2_floor(bins->nonempty[word])];
        return extent->n_pages >= RELEASE_MIN_PAGES ? extent : NULL;
    }
    return NULL;
}

/* Is there a hole beside it, or nothing above? Then unmapping it makes no further VMA. */
static bool costs_no_vma(struct heap *heap, struct extent *extent) {
    return (uintptr_t)extent_end(extent) == heap->frontier ||
           heap_bins_idle_after(heap, extent, EXTENT_HOLE) ||
           heap_bins_idle_before(heap, extent, EXTENT_HOLE);
}

/* With the lock held: what to unmap next, off its list; NULL if nothing is worth it. At the top, where it
 * leaves no hole, else the largest, clean memory first, since it need not be faulted in again. n_coming:
 * chosen before, so soon holes. */
static struct extent *choose(struct heap *heap, size_t n_bytes, uint32_t n_coming) {
    struct extent *extent = top_extent(heap);
    if (!extent || !extent_is_idle(extent)) {
        extent = largest(&heap->clean);
        if (!extent) extent = largest(&heap->dirty);
        if (!extent || (heap->n_holes + n_coming >= HEAP_HOLES_MAX && !costs_no_vma(heap, extent)))
            return NULL;
    }
    struct bins *bins = heap_bins_of(heap, extent);
    heap_bins_unfile(heap, bins, extent);
    if (bins == &heap->clean) extent->flags |= EXTENT_ZERO; /* should the kernel refuse */
    size_t n_pages = pages_of(n_bytes);
    if (extent->n_pages <= n_pages + RELEASE_MIN_PAGES) return extent;
    struct extent *upper = heap_bins_split(heap, extent, extent->n_pages - n_pages);
    if (!upper) return extent;
    heap_bins_file(heap, bins, extent);
    return upper;
}

/* Extents unmapped behind one hold of the lock. */
#define RELEASE_BATCH 16

/* Without the lock: unmap them. Returns the bytes unmapped; what the kernel refuses keeps its memory. */
static size_t unmap_list(struct heap *heap, struct extent *list, bool *refused) {
    size_t released = 0;
    for (struct extent *e = list; e; e = e->next) {
        if (*refused || os_unmap(e->address, extent_bytes(e))) {
            *refused = true; /* no VMA left to split with, so it will be for the others */
            continue;
        }
        heap_forget_move(heap, e);
        e->flags = EXTENT_UNMAPPED;
        released += extent_bytes(e);
    }
    return released;
}

/* With the lock held. */
static void file_unmapped(struct heap *heap, struct extent *list) {
    while (list) {
        struct extent *next = list->next;
        if (list->flags & EXTENT_UNMAPPED) {
            heap_bins_file_hole(heap, list);
        } else {
            heap_bins_insert_idle(heap, list);
        }
        list = next;
    }
    drop_top_holes(heap);
}

size_t heap_release(struct heap *heap, size_t n_bytes) {
    size_t released = 0;
    bool refused = false;
    if (heap->space.reserved) return 0;
    while (released < n_bytes && !refused) {
        if (!lock_acquire(&heap->lock)) break;
        heap_bins_drain_deferred(heap);
        struct extent *list = NULL, *extent;
        size_t taken = 0;
        for (uint32_t n = 0; n < RELEASE_BATCH && released + taken < n_bytes; n++) {
            if (!(extent = choose(heap, n_bytes - released - taken, n))) break;
            taken += extent_bytes(extent);
            extent->used_pages = extent->n_pages;
            extent->next = list;
            list = extent;
        }
        lock_release(&heap->lock);
        if (!list) break;
        released += unmap_list(heap, list, &refused);
        if (!lock_acquire(&heap->lock)) {
            for (struct extent *next; list; list = next) {
                next = list->next;
                heap_bins_defer(heap, list);
            }
            break;
        }
        file_unmapped(heap, list);
        lock_release(&heap->lock);
    }
    return released;
}

void heap_release_top(struct heap *heap) {
    if (heap->space.reserved || !lock_acquire(&heap->lock)) return;
    bool refused = false;
    struct extent *top = top_extent(heap);
    if (top && extent_state(top) == EXTENT_CLEAN && top->n_pages >= RELEASE_MIN_PAGES) {
        heap_bins_unfile(heap, &heap->clean, top);
        top->flags |= EXTENT_ZERO;
        top->used_pages = top->n_pages;
        top->next = NULL;
        lock_release(&heap->lock);
        unmap_list(heap, top, &refused);
        if (!lock_acquire(&heap->lock)) {
            heap_bins_defer(heap, top);
            return;
        }
        file_unmapped(heap, top);
    }
    drop_top_holes(heap);
    lock_release(&heap->lock);
}
