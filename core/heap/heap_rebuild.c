/* SPDX-License-Identifier: MIT */
/* heap_rebuild.c: a forked child makes its heap anew from what tells the truth: the page map, and the
 * descriptors of live blocks.
 *
 * Whoever held the heap's lock in the parent, had extents on the way to the kernel, or cached blocks, does
 * not exist in the child. So nothing is believed but this: a block that the program holds has a descriptor of
 * state LIVE, which the page map names at its first page, and which nobody changes but its owner and, when it
 * grows or shrinks, the holder of the lock, page count last or first. All else is idle, wherever it was. Its
 * pages are shared with the parent, so that writing them costs a copy, more than fresh pages do: it goes back
 * to the kernel, and the child keeps nothing of what the parent had freed.
 *
 * It costs a walk over four bytes a page, a thousandth of what the fork itself has cost for these pages.
 */
#include "os/os.h"
#include "heap/budget.h"
#include "heap/heap_bins.h"

/* A run of pages between live blocks, while it grows. */
struct run {
    char *begin, *end;
    char *known_end;       /* so far descriptors say what is there */
    struct extent *extent; /* the first descriptor found in it: becomes that of the run */
    bool resident;         /* something in it may be, */
    bool special;          /* or has advice that must go, or was just being mapped or unmapped */
    bool hole, lost;       /* what it consists of; mapped memory if neither */
};

static void forget_lists(struct heap *heap) {
    struct bins *bins[] = {&heap->dirty, &heap->clean, &heap->holes};
    /* Whoever was filing an extent may have written the head and not yet the bit: the two lie in different
     * pages, and a write to one that the fork has already shared waits until the fork is over. So the bits
     * say nothing here. What is NULL is only read: it would be a page copied for nothing. */
    for (int i = 0; i < 3; i++) {
        for (unsigned cls = 0; cls < N_CLASSES; cls++)
            if (bins[i]->head[cls]) bins[i]->head[cls] = NULL;
        for (unsigned word = 0; word < BIN_WORDS; word++)
            bins[i]->nonempty[word] = 0;
    }
    age_list_init(&heap->by_age);
    age_list_init(&heap->muzzy_by_age);
    atomic_store_explicit(&heap->deferred, NULL, memory_order_relaxed);
    atomic_store_explicit(&heap->deferred_bytes, 0, memory_order_relaxed);
    heap->active_bytes = heap->dirty_bytes = heap->muzzy_bytes = heap->clean_bytes = heap->hole_bytes = 0;
    heap->cached_bytes = heap->unproven_bytes = 0;
    heap->n_holes = 0;
    heap->counters.n_moved_vmas = 0;
    heap->counters.bytes_pinned = 0;
}

/* A live block: enter it as it is. A page of the map within it may still name a neighbour that it was growing
 * over. */
static void keep_live(struct heap *heap, struct extent *extent, bool torn) {
    if (extent->used_pages > extent->n_pages || !extent->used_pages) extent->used_pages = extent->n_pages;
    /* Half-way through growing it may have joined dirty memory, which must not be taken for headroom, that is
     * zero. */
    if (torn && extent->used_pages < extent->n_pages &&
        os_purge((char *)extent->address + extent_active_bytes(extent),
                 extent_bytes(extent) - extent_active_bytes(extent)))
        extent->used_pages = extent->n_pages;
    extent->cls = (uint16_t)class_floor(extent->n_pages);
    size_t first = space_offset(&heap->space, extent->address) >> PAGE_SHIFT,
           last = first + extent->n_pages - 1;
    for (size_t page = first + 1; page < last; page++) {
        size_t region = space_region(page);
        if (atomic_load_explicit(space_count(&heap->space, region), memory_order_relaxed) == 0)
            page = space_first_page(region + 1) - 1; /* nothing is entered there */
        else if (atomic_load_explicit(&heap->space.page_map[page], memory_order_relaxed))
            space_set_page(&heap->space, (char *)heap->space.base + (page << PAGE_SHIFT), 0);
    }
    space_enter(&heap->space, extent);
    extent->unproven_pages = 0;
    extent->flags &= (uint16_t)~EXTENT_PINNED; /* a child inherits no locks */
    if (extent->flags & EXTENT_MOVED) heap->counters.n_moved_vmas++;
    heap->active_bytes += extent_active_bytes(extent);
}

static bool is_live_at(const struct heap *heap, const struct extent *extent, const char *at) {
    return extent != heap->space.extents && extent->address == at && extent_state(extent) == EXTENT_LIVE &&
           extent->n_pages > 0 && (size_t)extent->n_pages << PAGE_SHIFT <= heap->frontier - (uintptr_t)at;
}

/* 0 or negative errno. Attributes go by a new mapping only; without them the shorter call does. */
static int make_clean(void *begin, size_t n_bytes, bool special) {
    return special && os_remap_fresh(begin, n_bytes) == 0 ? 0 : os_purge(begin, n_bytes);
}

/* File what lies between two live blocks. */
static void end_run(struct heap *heap, struct run *run) {
    if (run->begin == run->end) return;
    size_t n_pages = (size_t)(run->end - run->begin) >> PAGE_SHIFT;
    struct extent *extent = run->extent ? run->extent : heap_bins_new_extent(heap);
    if (!extent) return; /* these addresses belong to no extent then; they are not missed */
    bool lost = run->lost;
    if (run->resident && make_clean(run->begin, n_pages << PAGE_SHIFT, run->special)) {
        os_unmap(run->begin, n_pages << PAGE_SHIFT);
        lost = true;
    }
    WRITE_RELAXED(extent->address, run->begin);
    WRITE_RELAXED(extent->n_pages, (uint32_t)n_pages);
    extent->cls = (uint16_t)class_floor(n_pages);
    extent->used_pages = (uint32_t)n_pages;
    extent->flags = 0;
    extent->policy = 0;
    extent_set_state(extent, EXTENT_BUSY);
    space_enter(&heap->space, extent);
    if (lost)
        extent_set_state(extent, EXTENT_LOST);
    else if (run->hole)
        heap_bins_link(heap, &heap->holes, extent);
    else
        /* it has no neighbours of its kind: runs end where kinds meet */
        heap_bins_link(heap, &heap->clean, extent);
}

/* A page that begins no live block. Runs end where mapped memory, holes and lost addresses meet. What no
 * descriptor tells of was claimed, and perhaps mapped, by who is not here. */
static void add_page(struct heap *heap, struct run *run, char *at) {
    struct extent *extent = space_lookup(&heap->space, at);
    if (extent != heap->space.extents) space_set_page(&heap->space, at, 0);
    bool begins = extent != heap->space.extents && extent->address == at && extent != run->extent;
    if (begins && extent_state(extent) != EXTENT_LIVE) {
        uint8_t state = extent_state(extent);
        bool hole = state == EXTENT_HOLE, lost = state == EXTENT_LOST;
        bool special =
            !hole && !lost && (state == EXTENT_BUSY || extent->flags & (EXTENT_HUGE | EXTENT_MOVED));
        bool resident = !hole && !lost && (state != EXTENT_CLEAN || special);
        bool same = run->extent && run->hole == hole && run->lost == lost;
        run->resident |= same && resident;
        run->special |= same && special;
        if (!same) {
            end_run(heap, run);
            *run = (struct run){at, at, extent_end(extent), extent, resident, special, hole, lost};
        } else {
            run->known_end = extent_end(extent);
            heap_bins_drop_extent(heap, extent);
        }
    } else if (run->begin == run->end || (at >= run->known_end && !run->lost)) {
        end_run(heap, run);
        *run = (struct run){.begin = at, .end = at, .lost = true};
    }
    run->end = at + PAGE_BYTES;
}

void heap_rebuild(struct heap *heap) {
    bool torn = atomic_load_explicit(&heap->lock.held, memory_order_relaxed) != 0;
    atomic_store_explicit(&heap->lock.held, 1, memory_order_relaxed); /* for who looks; nobody else is here */
    /* the list may be, and what was being counted; new descriptors are mapped where these are missed */
    if (torn) {
        heap->unused = NULL;
        heap->n_unused = heap->untouched_end - heap->untouched;
        space_recount(&heap->space, heap->frontier - heap->space.base);
    }
    space_forget_reach(&heap->space);
    forget_lists(heap);
    struct run run = {0};
    run.begin = run.end = (char *)heap->space.base;
    for (char *at = run.begin; (uintptr_t)at < heap->frontier;) {
        struct extent *extent = space_lookup(&heap->space, at);
        if (is_live_at(heap, extent, at)) {
            end_run(heap, &run);
            keep_live(heap, extent, torn);
            at = extent_end(extent);
            run = (struct run){.begin = at, .end = at};
        } else {
            add_page(heap, &run, at);
            at += PAGE_BYTES;
        }
    }
    end_run(heap, &run);
    WRITE_RELAXED(heap->n_growing, 0);
    heap->settled_bytes = heap->peak_window[0] = heap->peak_window[1] = heap->active_bytes;
    heap->held_window[0] = heap->held_window[1] = heap->active_bytes;
    heap->decay_seen_bytes = 0;
    for (unsigned i = 0; i < DECAY_STEPS; i++)
        heap->decay_backlog[i] = 0;
    lock_release(&heap->lock);
}
