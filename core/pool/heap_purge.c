/* SPDX-License-Identifier: MIT */
/* heap_purge.c: giving memory back to the kernel, and checking the heap. */
#include "base/probe.h"
#include "os/os.h"
#include "pool/heap_bins.h"

/* An extent is cut for a partial purge only if what remains is worth a system call of its own later. */
#define PARTIAL_MIN_PAGES 64

static struct extent *collect(struct heap *heap, size_t n_bytes, const uint32_t *before_ms)
{
    struct extent *list = NULL;
    size_t collected = 0;
    struct extent *extent;
    while (collected < n_bytes && (extent = age_oldest(&heap->by_age))) {
        if (before_ms && (int32_t)(extent->last_use_ms - *before_ms) > 0) break;
        heap_bins_unfile(heap, &heap->dirty, extent);
        size_t want = pages_of(n_bytes - collected);
        if (want < PARTIAL_MIN_PAGES) want = PARTIAL_MIN_PAGES;
        if (extent->n_pages > want + PARTIAL_MIN_PAGES) {
            /* Purge the upper part: low addresses are reused first. */
            struct extent *upper = heap_bins_split(heap, extent, extent->n_pages - want);
            if (upper) {
                age_insert_after(&heap->by_age, extent);
                heap_bins_link(heap, &heap->dirty, extent);
                extent = upper;
            }
        }
        collected += extent_bytes(extent);
        extent->next = list;
        list = extent;
    }
    return list;
}

/* The page map's own pages that describe nothing but the inside of this extent hold zeros: they can go as well. The extent is
 * off all lists, so nobody else writes there meanwhile. */
static void purge_map(struct space *space, const struct extent *extent)
{
    size_t first = space_offset(space, extent->address) >> PAGE_SHIFT;
    size_t from = align_up((size_t)(space->page_map + first + 1), PAGE_BYTES);
    size_t to = align_down((size_t)(space->page_map + first + extent->n_pages - 1), PAGE_BYTES);
    if (from < to) os_purge((void *)from, to - from);
}

struct extent *heap_collect(struct heap *heap, size_t n_bytes) { return collect(heap, n_bytes, NULL); }

struct extent *heap_collect_older(struct heap *heap, size_t n_bytes, uint32_t before_ms)
{
    return collect(heap, n_bytes, &before_ms);
}

/* One extent; its VMA attributes are reset too if we or a move have changed them. */
static bool purge_one(struct extent *extent)
{
    size_t bytes = extent_bytes(extent);
    if (extent->flags & (EXTENT_HUGE | EXTENT_MOVED | EXTENT_PINNED))
        return os_remap_fresh(extent->address, bytes) == 0 || os_purge(extent->address, bytes) == 0;
    return os_purge(extent->address, bytes) == 0;
}

size_t heap_purge_list(struct heap *heap, struct extent *list)
{
    size_t purged = 0;
    uint64_t n_purges = 0;
    size_t unpinned = 0;
    for (struct extent *e = list; e; e = e->next) {
        if (e->flags & EXTENT_PINNED) unpinned += extent_bytes(e);
        bool purged_one = purge_one(e); /* looks at EXTENT_MOVED */
        heap_forget_move(heap, e);
        if (purged_one) {
            purge_map(&heap->space, e);
            purged += extent_bytes(e);
            n_purges++;
            e->flags = EXTENT_ZERO;
        } else {
            e->flags = 0;
        }
        e->used_pages = e->n_pages;
    }
    if (!list) return 0;
    PROBE2(purge, purged, n_purges);
    bool locked = lock_acquire(&heap->lock);
    while (list) {
        struct extent *next = list->next;
        if (locked)
            heap_bins_insert_idle(heap, list);
        else
            heap_bins_defer(heap, list);
        list = next;
    }
    if (locked) {
        ADD_RELAXED(heap->counters.n_purges, n_purges);
        ADD_RELAXED(heap->counters.bytes_purged, purged);
        lock_release(&heap->lock);
    }
    if (unpinned) __atomic_fetch_sub(&heap->counters.bytes_pinned, unpinned, __ATOMIC_RELAXED);
    return purged;
}

/* An extent of so many pages has whole pages of the map to itself. */
#define MAP_MIN_PAGES (2 * PAGE_BYTES / sizeof(uint32_t))

/* Pieces that were purged one by one and have merged since leave those pages of the map resident on which their ends were. */
static void purge_map_of_clean(struct heap *heap)
{
    struct extent *list = NULL, *extent;
    if (!lock_acquire(&heap->lock)) return;
    for (unsigned cls = class_of_pages(MAP_MIN_PAGES); cls < N_CLASSES; cls++)
        while ((extent = heap->clean.head[cls])) {
            heap_bins_unfile(heap, &heap->clean, extent);
            extent->next = list;
            list = extent;
        }
    lock_release(&heap->lock);
    for (extent = list; extent; extent = extent->next)
        purge_map(&heap->space, extent);
    bool locked = list && lock_acquire(&heap->lock);
    while (list) {
        extent = list;
        list = list->next;
        extent->flags |= EXTENT_ZERO;
        if (locked)
            heap_bins_insert_idle(heap, extent);
        else
            heap_bins_defer(heap, extent);
    }
    if (locked) lock_release(&heap->lock);
}

size_t heap_trim(struct heap *heap, size_t keep_bytes)
{
    if (!lock_acquire(&heap->lock)) return 0;
    heap_bins_drain_deferred(heap);
    struct extent *list = NULL;
    if (heap->dirty_bytes > keep_bytes) list = heap_collect(heap, heap->dirty_bytes - keep_bytes);
    lock_release(&heap->lock);
    size_t purged = heap_purge_list(heap, list);
    purge_map_of_clean(heap);
    return purged;
}

/* Smaller pieces are not worth a VMA each. */
#define RELEASE_MIN_PAGES 16

/* The extent that ends at the frontier, or NULL if none does (a claim is being mapped). */
static struct extent *top_extent(struct heap *heap)
{
    if (heap->frontier == heap->space.base) return NULL;
    struct extent *top = space_lookup(&heap->space, (void *)(heap->frontier - 1));
    return top->address && (uintptr_t)extent_end(top) == heap->frontier ? top : NULL;
}

/* Lower the frontier to the start of an unmapped extent at the top. */
static void drop_top(struct heap *heap, struct extent *top)
{
    char *start = top->address;
    space_set_page(&heap->space, start, 0);
    space_set_page(&heap->space, extent_end(top) - 1, 0);
    WRITE_RELAXED(heap->frontier, (uintptr_t)start);
    /* Others may get these addresses now, and free there what is none of ours. Nobody holds a block beyond. */
    atomic_store_explicit(&heap->space.span, (uintptr_t)start - heap->space.base, memory_order_relaxed);
    heap_bins_drop_extent(heap, top);
}

/* Unmap a clean extent and leave it as a hole. Under the lock, one of the two exceptions (heap.h): another thread must not map
 * the range anew before it is gone. This runs only when the process is out of memory or address space. */
static bool unmap_clean(struct heap *heap, struct extent *extent)
{
    heap_bins_unfile(heap, &heap->clean, extent);
    if (os_unmap(extent->address, extent_bytes(extent))) {
        heap_bins_file(heap, &heap->clean, extent);
        return false;
    }
    heap_forget_move(heap, extent);
    extent->flags = 0;
    extent_set_state(extent, EXTENT_LOST);
    return true;
}

void heap_release_top(struct heap *heap)
{
    if (heap->space.reserved || !lock_acquire(&heap->lock)) return;
    struct extent *top;
    while ((top = top_extent(heap))) {
        bool hole = extent_state(top) == EXTENT_LOST;
        bool worth_it = extent_state(top) == EXTENT_CLEAN && top->n_pages >= RELEASE_MIN_PAGES;
        if (!hole && !(worth_it && unmap_clean(heap, top))) break;
        drop_top(heap, top);
    }
    lock_release(&heap->lock);
}

size_t heap_release(struct heap *heap)
{
    if (heap->space.reserved || !lock_acquire(&heap->lock)) return 0;
    size_t released = 0;
    bool refused = false;
    for (unsigned cls = N_CLASSES - 1; cls >= class_floor(RELEASE_MIN_PAGES) && !refused; cls--) {
        struct extent *extent;
        while (!refused && (extent = heap->clean.head[cls])) {
            size_t bytes = extent_bytes(extent);
            refused = !unmap_clean(heap, extent); /* no VMA left to split with: so it will be for the others */
            if (!refused) released += bytes;
        }
    }
    struct extent *top;
    while ((top = top_extent(heap)) && extent_state(top) == EXTENT_LOST)
        drop_top(heap, top);
    lock_release(&heap->lock);
    return released;
}

const char *heap_check(struct heap *heap)
{
    const char *broken = NULL;
    if (!lock_acquire(&heap->lock)) return "heap lock is held";
    heap_bins_drain_deferred(heap);
    struct space *space = &heap->space;
    size_t dirty = 0, active = 0;
    uint8_t before = EXTENT_UNUSED;
    for (uintptr_t at = space->base; at < heap->frontier && !broken;) {
        struct extent *e = space_lookup(space, (void *)at);
        if (!e->address) { /* a claim whose mapping failed */
            at += PAGE_BYTES;
            before = EXTENT_UNUSED;
            continue;
        }
        if ((uintptr_t)e->address != at || e->n_pages == 0) broken = "extents do not tile the space";
        else if (space_lookup(space, extent_end(e) - 1) != e) broken = "last page not entered";
        else if (e->cls != class_floor(e->n_pages)) broken = "class does not match size";
        else if (extent_state(e) == before && (before == EXTENT_DIRTY || before == EXTENT_CLEAN) && !heap->pinned)
            broken = "idle neighbours not merged";
        else if (e->n_pages > 2 && space_lookup(space, (char *)e->address + PAGE_BYTES)->address)
            broken = "interior page entered";
        if (extent_state(e) == EXTENT_DIRTY) dirty += extent_bytes(e);
        if (extent_state(e) == EXTENT_LIVE || extent_state(e) == EXTENT_CACHED) active += extent_active_bytes(e);
        before = extent_state(e);
        at += extent_bytes(e);
    }
    if (!broken && dirty != heap->dirty_bytes) broken = "dirty bytes miscounted";
    if (!broken && active > heap->active_bytes) broken = "active bytes miscounted";
    size_t aged = 0;
    for (struct extent *e = heap->by_age.newer; e != &heap->by_age; e = e->newer)
        aged += extent_bytes(e);
    if (!broken && aged != dirty) broken = "age list does not hold the dirty extents";
    for (unsigned cls = 0; cls < N_CLASSES && !broken; cls++)
        for (int kind = 0; kind < 2 && !broken; kind++) {
            struct bins *bins = kind ? &heap->clean : &heap->dirty;
            bool marked = bins->nonempty[cls / 64] >> (cls % 64) & 1;
            if (marked != (bins->head[cls] != NULL)) broken = "bin bitmap wrong";
            for (struct extent *e = bins->head[cls]; e && !broken; e = e->next)
                if (e->cls != cls || extent_state(e) != (kind ? EXTENT_CLEAN : EXTENT_DIRTY)) broken = "extent in wrong bin";
        }
    lock_release(&heap->lock);
    return broken;
}
