/* SPDX-License-Identifier: MIT */
/* heap_purge.c: giving memory back to the kernel, and checking the heap. */
#include "sync/probe.h"
#include "base/time.h"
#include "os/os.h"
#include "heap/heap_bins.h"

#include <limits.h>
#include <sys/uio.h>

/* An extent is cut for a partial purge only if what remains is worth a system call of its own later. */
#define PARTIAL_MIN_PAGES 64

/* Extents marked behind one hold of the lock. */
#define MARK_BATCH 256

/* Extents taken off the heap, linked by next, and their bytes. */
struct collected {
    struct extent *list;
    size_t bytes;
    unsigned n, n_max;
};

/* Take extents off one list by age, the oldest first, until n_bytes are off; with before_ms none that was
 * used after that. */
static void collect_from(struct heap *heap, struct extent *by_age, size_t n_bytes, const uint32_t *before_ms,
                         struct collected *out) {
    struct extent *extent;
    while (out->bytes < n_bytes && out->n < out->n_max && (extent = age_oldest(by_age))) {
        if (before_ms && time_is_later(extent->last_use_ms, *before_ms)) break;
        out->n++;
        heap_bins_unfile(heap, &heap->dirty, extent);
        size_t want = pages_of(n_bytes - out->bytes);
        if (want < PARTIAL_MIN_PAGES) want = PARTIAL_MIN_PAGES;
        if (extent->n_pages > want + PARTIAL_MIN_PAGES) {
            /* Purge the upper part: low addresses are reused first. */
            struct extent *upper = heap_bins_split(heap, extent, extent->n_pages - want);
            if (upper) {
                age_insert_after(by_age, extent);
                heap_bins_link(heap, &heap->dirty, extent);
                extent = upper;
            }
        }
        out->bytes += extent_bytes(extent);
        extent->next = out->list;
        out->list = extent;
    }
}

static struct extent *collect(struct heap *heap, size_t n_bytes, const uint32_t *before_ms) {
    struct collected collected = {.n_max = UINT_MAX};
    collect_from(heap, &heap->muzzy_by_age, n_bytes, before_ms, &collected); /* what rests longest */
    collect_from(heap, &heap->by_age, n_bytes, before_ms, &collected);
    return collected.list;
}

/* The page map's own pages that describe nothing but the inside of this extent hold zeros: they can go as
 * well. The extent is off all lists, so nobody else writes there meanwhile. */
static void purge_map(struct space *space, const struct extent *extent) {
    size_t first = space_offset(space, extent->address) >> PAGE_SHIFT;
    size_t from = align_up((size_t)(space->page_map + first + 1), PAGE_BYTES);
    size_t to = align_down((size_t)(space->page_map + first + extent->n_pages - 1), PAGE_BYTES);
    if (from < to) os_purge((void *)from, to - from);
}

struct extent *heap_collect(struct heap *heap, size_t n_bytes) {
    return collect(heap, n_bytes, NULL);
}

struct extent *heap_collect_older(struct heap *heap, size_t n_bytes, uint32_t before_ms) {
    return collect(heap, n_bytes, &before_ms);
}

/* We have not changed its VMA's attributes, nor has a move. */
static bool is_plain(const struct extent *extent) {
    return !(extent->flags & (EXTENT_HUGE | EXTENT_MOVED | EXTENT_PINNED));
}

/* One extent; its VMA attributes are reset too if we or a move have changed them. */
static bool purge_one(struct extent *extent) {
    size_t bytes = extent_bytes(extent);
    if (!is_plain(extent))
        return os_remap_fresh(extent->address, bytes) == 0 || os_purge(extent->address, bytes) == 0;
    return os_purge(extent->address, bytes) == 0;
}

/* Purge the first extents of a list by one call, as many as lie there that are plain. Returns the first
 * one that has to be purged by itself: the list's own first one if that was not possible. */
static const struct extent *purge_several(const struct extent *list) {
    struct iovec ranges[OS_PURGE_MOST];
    unsigned n = 0;
    const struct extent *e = list;
    for (; e && n < OS_PURGE_MOST && is_plain(e); e = e->next)
        ranges[n++] = (struct iovec){e->address, extent_bytes(e)};
    return n > 1 && os_purge_several(ranges, n) ? e : list;
}

size_t heap_purge_list(struct heap *heap, struct extent *list) {
    size_t purged = 0;
    uint64_t n_purges = 0;
    size_t unpinned = 0;
    const struct extent *alone = NULL; /* what lies before it has been purged */
    for (struct extent *e = list; e; e = e->next) {
        if (e->flags & EXTENT_PINNED) unpinned += extent_bytes(e);
        if (e == list || e == alone) alone = purge_several(e);
        bool purged_one = e != alone || purge_one(e); /* looks at EXTENT_MOVED */
        if (e == alone) alone = e->next;
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

/* Pieces that were purged one by one and have merged since leave those pages of the map resident on which
 * their ends were. */
static void purge_map_of_clean(struct heap *heap) {
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

/* Where huge pages are in use only whole ones are marked, since the kernel would split the others: unless a
 * limit makes memory scarce. What is left out is less than two of them an extent. */
static int mark_one(const struct heap *heap, const struct extent *extent) {
    uintptr_t begin = (uintptr_t)extent->address, end = (uintptr_t)extent_end(extent);
    if (READ_RELAXED(heap->has_huge) && READ_RELAXED(heap->limit_bytes) == SIZE_MAX) {
        begin = align_up(begin, HUGE_BYTES);
        end = align_down(end, HUGE_BYTES);
        if (begin >= end) return 0;
    }
    return os_mark_reclaimable((void *)begin, end - begin);
}

size_t heap_mark(struct heap *heap, size_t n_bytes, uint32_t before_ms) {
    if (READ_RELAXED(heap->cannot_mark) || heap->pinned ||
        READ_RELAXED(heap->dirty_bytes) == READ_RELAXED(heap->muzzy_bytes))
        return 0;
    if (!lock_acquire(&heap->lock)) return 0;
    struct collected collected = {.n_max = MARK_BATCH};
    collect_from(heap, &heap->by_age, n_bytes, &before_ms, &collected);
    lock_release(&heap->lock);
    for (struct extent *e = collected.list; e; e = e->next) {
        if (!READ_RELAXED(heap->cannot_mark) && mark_one(heap, e) == 0)
            e->flags |= EXTENT_MARKED;
        else
            WRITE_RELAXED(heap->cannot_mark, true); /* an old kernel, or locked memory */
    }
    bool locked = collected.list && lock_acquire(&heap->lock);
    for (struct extent *e = collected.list, *next; e; e = next) {
        next = e->next;
        if (!locked) {
            e->flags &= (uint16_t)~EXTENT_MARKED;
            heap_bins_defer(heap, e);
        } else {
            heap_bins_file(heap, &heap->dirty, e); /* it keeps its age: not heap_bins_insert_idle */
        }
    }
    if (locked) lock_release(&heap->lock);
    return collected.bytes;
}

size_t heap_trim(struct heap *heap, size_t keep_bytes) {
    if (!lock_acquire(&heap->lock)) return 0;
    heap_bins_drain_deferred(heap);
    struct extent *list = NULL;
    if (heap->dirty_bytes > keep_bytes) list = heap_collect(heap, heap->dirty_bytes - keep_bytes);
    lock_release(&heap->lock);
    size_t purged = heap_purge_list(heap, list);
    purge_map_of_clean(heap);
    return purged;
}

/* In which bins an extent belongs: dirty, clean, holes; -1: in none. */
static int kind_of(const struct extent *e) {
    return extent_is_resident_idle(e)        ? 0
           : extent_state(e) == EXTENT_CLEAN ? 1
           : extent_state(e) == EXTENT_HOLE  ? 2
                                             : -1;
}

const char *heap_check(struct heap *heap) {
    const char *broken = NULL;
    if (!lock_acquire(&heap->lock)) return "heap lock is held";
    heap_bins_drain_deferred(heap);
    struct space *space = &heap->space;
    size_t dirty = 0, muzzy = 0, clean = 0, holes = 0, active = 0;
    uint8_t before = EXTENT_UNUSED;
    for (uintptr_t at = space->base; at < heap->frontier && !broken;) {
        struct extent *e = space_lookup(space, (void *)at);
        if (!e->address) { /* a claim whose mapping failed */
            at += PAGE_BYTES;
            before = EXTENT_UNUSED;
            continue;
        }
        if ((uintptr_t)e->address != at || e->n_pages == 0)
            broken = "extents do not tile the space";
        else if (space_lookup(space, extent_end(e) - 1) != e)
            broken = "last page not entered";
        else if (e->cls != class_floor(e->n_pages))
            broken = "class does not match size";
        else if (extent_state(e) == before && kind_of(e) >= 0 && !heap->pinned)
            broken = "idle neighbours not merged";
        else if (e->n_pages > 2 && space_lookup(space, (char *)e->address + PAGE_BYTES)->address)
            broken = "interior page entered";
        if (extent_is_resident_idle(e)) dirty += extent_bytes(e);
        if (extent_state(e) == EXTENT_MUZZY) muzzy += extent_bytes(e);
        if (extent_state(e) == EXTENT_CLEAN) clean += extent_bytes(e);
        if (extent_state(e) == EXTENT_HOLE) holes += extent_bytes(e);
        if (extent_state(e) == EXTENT_LIVE || extent_state(e) == EXTENT_CACHED)
            active += extent_active_bytes(e);
        before = extent_state(e);
        at += extent_bytes(e);
    }
    if (!broken && !space_counts_agree(space, heap->frontier - space->base))
        broken = "page map entries miscounted";
    if (!broken && (dirty != heap->dirty_bytes || muzzy != heap->muzzy_bytes))
        broken = "dirty bytes miscounted";
    if (!broken && (clean != heap->clean_bytes || holes != heap->hole_bytes))
        broken = "clean bytes or holes miscounted";
    if (!broken && active > heap->active_bytes) broken = "active bytes miscounted";
    size_t aged = 0;
    for (struct extent *e = heap->by_age.newer; e != &heap->by_age; e = e->newer)
        aged += extent_bytes(e);
    for (struct extent *e = heap->muzzy_by_age.newer; e != &heap->muzzy_by_age; e = e->newer)
        aged += extent_bytes(e);
    if (!broken && aged != dirty) broken = "age list does not hold the dirty extents";
    for (unsigned cls = 0; cls < N_CLASSES && !broken; cls++)
        for (int kind = 0; kind < 3 && !broken; kind++) {
            struct bins *bins = (struct bins *[]){&heap->dirty, &heap->clean, &heap->holes}[kind];
            bool marked = bins->nonempty[cls / 64] >> (cls % 64) & 1;
            if (marked != (bins->head[cls] != NULL)) broken = "bin bitmap wrong";
            for (struct extent *e = bins->head[cls]; e && !broken; e = e->next)
                if (e->cls != cls || kind_of(e) != kind) broken = "extent in wrong bin";
        }
    lock_release(&heap->lock);
    return broken;
}
