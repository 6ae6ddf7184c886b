/* SPDX-License-Identifier: MIT */
/* heap.c: allocation and return of extents. See heap.h for structure, policy and locking. */
#include "heap/heap.h"

#include "os/os.h"
#include "heap/budget.h"
#include "heap/heap_bins.h"
#include "heap/heap_fresh.h"

#include <errno.h>

#define EXTENTS_STEP 1024u

int heap_init(struct heap *heap, size_t span_max, bool reserved) {
    COUNT_LOCK_KIND(&heap->lock, LOCK_HEAP);
    heap->retain_max_bytes = heap->limit_bytes = heap->unmarked_max_bytes = SIZE_MAX;
    age_list_init(&heap->by_age);
    age_list_init(&heap->muzzy_by_age);
    os_learn_purge();
    int error = space_init(&heap->space, span_max, reserved);
    if (error) return error;
    error = space_map_extents(&heap->space, 0, EXTENTS_STEP);
    if (error) {
        space_destroy(&heap->space);
        return error;
    }
    heap->space.n_extents = 1; /* descriptor 0 stays unused for ever */
    heap_bins_add_extents(heap, 1, EXTENTS_STEP - 1);
    WRITE_RELAXED(heap->frontier, heap->space.base);
    heap->window_start_ms = heap->decay_epoch_ms = os_clock_ms();
    return 0;
}

/* What one operation needs at most: a new extent, a front, a tail, and one for a partial purge on the way. */
#define DESCRIPTORS_NEEDED 6

/* With the lock held; drops and retakes it around the mapping. False if no memory is left for descriptors,
 * or, with *lock_lost set, if the lock could not be had again. */
static bool ensure_descriptors(struct heap *heap, bool *lock_lost) {
    if (likely(heap->n_unused >= DESCRIPTORS_NEEDED)) return true;
    uint32_t first = heap->space.n_extents;
    if (first + EXTENTS_STEP > heap->space.n_extents_max) return false;
    heap->space.n_extents += EXTENTS_STEP;
    lock_release(&heap->lock);
    /* A failure loses these numbers, not memory. */
    int error = space_map_extents(&heap->space, first, EXTENTS_STEP);
    if (error) WRITE_RELAXED(heap->space.has_gaps, true);
    if (!lock_acquire(&heap->lock)) {
        *lock_lost = true;
        return false;
    }
    if (!error) heap_bins_add_extents(heap, first, EXTENTS_STEP);
    return heap->n_unused >= DESCRIPTORS_NEEDED;
}

/* Before untouched memory is taken: give back what is over the budget. Lock held on entry; false if it was
 * lost. */
static bool enforce_budget(struct heap *heap, size_t n_bytes, size_t resident_bytes, bool proven) {
    size_t excess = budget_excess(heap, n_bytes, resident_bytes, proven);
    if (!excess) return true;
    if (proven) budget_note_forced(heap, excess, n_bytes);
    struct extent *list = heap_collect(heap, excess);
    lock_release(&heap->lock);
    heap_purge_list(heap, list);
    return lock_acquire(&heap->lock);
}

/* Absorb idle neighbours to the right until the extent has n_pages; they are known to be there. The first and
 * the last untouched page are noted. False if descriptors ran out. */
static bool absorb_right(struct heap *heap, struct extent *extent, size_t n_pages,
                         struct fresh_range *fresh) {
    while (extent->n_pages < n_pages) {
        struct extent *neighbour = space_lookup(&heap->space, extent_end(extent));
        size_t take = n_pages - extent->n_pages;
        struct bins *bins = heap_bins_of(heap, neighbour);
        bool clean = bins == &heap->clean;
        heap_bins_unfile(heap, bins, neighbour);
        if (take < neighbour->n_pages) {
            struct extent *rest = heap_bins_split(heap, neighbour, take);
            if (!rest) {
                heap_bins_file(heap, bins, neighbour);
                return false;
            }
            heap_bins_file(heap, bins, rest);
        }
        if (clean) {
            if (fresh->begin == fresh->end) fresh->begin = neighbour->address;
            fresh->end = extent_end(neighbour);
            fresh->n_bytes += extent_bytes(neighbour);
        }
        heap_bins_join(heap, extent, neighbour);
    }
    return true;
}

/* Grow an extent that is on no list over its right neighbours and the frontier. Drops the lock while mapping;
 * sets *lock_lost if it could not be had again. */
static bool grow_right(struct heap *heap, struct extent *extent, size_t n_pages, struct fresh_range *fresh,
                       bool *lock_lost) {
    char *end;
    size_t found = heap_bins_reach_right(heap, extent, n_pages, &end);
    if (found < n_pages && (uintptr_t)end == heap->frontier) {
        struct extent *more = heap_fresh_frontier(heap, n_pages - found, lock_lost);
        if (*lock_lost) return false;
        if (more) heap_bins_file(heap, &heap->clean, more);
        found = heap_bins_reach_right(heap, extent, n_pages, &end); /* the lock was dropped meanwhile */
    }
    return found >= n_pages && absorb_right(heap, extent, n_pages, fresh);
}

/* The same to the left, over one clean neighbour. Returns the joined extent, or NULL if that does not
 * suffice. */
static struct extent *grow_left(struct heap *heap, struct extent *extent, size_t n_pages,
                                struct fresh_range *fresh) {
    struct extent *left = heap_bins_idle_before(heap, extent, EXTENT_CLEAN);
    size_t missing = n_pages - extent->n_pages;
    if (!left || left->n_pages < missing) return NULL;
    heap_bins_unfile(heap, &heap->clean, left);
    if (left->n_pages > missing) {
        struct extent *near = heap_bins_split(heap, left, left->n_pages - missing);
        heap_bins_file(heap, &heap->clean, left);
        if (!near) return NULL;
        left = near;
    }
    *fresh =
        (struct fresh_range){.begin = left->address, .end = extent_end(left), .n_bytes = extent_bytes(left)};
    heap_bins_join(heap, left, extent);
    return left;
}

static void count_by_size(struct heap *heap, size_t n_pages, size_t n_fresh_pages) {
    __typeof__(&heap->counters.by_size[0]) size = &heap->counters.by_size[log2_floor(n_pages)];
    uint64_t *n = n_fresh_pages == 0        ? &size->n_dirty
                  : n_fresh_pages < n_pages ? &size->n_mixed
                                            : &size->n_fresh;
    ADD_RELAXED(*n, 1);
    ADD_RELAXED(size->bytes_warm, (n_pages - n_fresh_pages) << PAGE_SHIFT);
    ADD_RELAXED(size->bytes_fresh, n_fresh_pages << PAGE_SHIFT);
}

/* No dirty extent is large enough: look for one that is together with its neighbours, so that what it lacks,
 * not the whole request, is taken from untouched memory. Of the largest dirty extents the first that works is
 * taken. */
static struct extent *take_mixed(struct heap *heap, const struct heap_request *request,
                                 struct fresh_range *fresh, bool *lock_lost) {
    size_t n_pages = request->n_pages;
    struct extent *extent = heap_bins_take_extensible(heap, n_pages);
    if (!extent) return NULL;
    /* one that is large enough by itself, beyond what heap_bins_take has looked at */
    heap_bins_carve(heap, extent, n_pages, 1, &heap->dirty);
    extent->flags &= (uint16_t)~EXTENT_ZERO;
    if (!grow_right(heap, extent, n_pages, fresh, lock_lost)) {
        *fresh = (struct fresh_range){0}; /* what is noted there goes back to a bin */
        if (*lock_lost) {
            heap_bins_defer(heap, extent);
            return NULL;
        }
        struct extent *joined = grow_left(heap, extent, n_pages, fresh);
        if (!joined) {
            heap_bins_file(heap, &heap->dirty, extent);
            return NULL;
        }
        extent = joined;
    }
    extent->flags &= (uint16_t) ~(EXTENT_ZERO | EXTENT_MARKED);
    /* Not before: the idle neighbours might be what is given back. All its pages count with the request,
     * being on no list. */
    if (!request->left_empty && !enforce_budget(heap, n_pages << PAGE_SHIFT, n_pages << PAGE_SHIFT, true)) {
        *lock_lost = true;
        heap_bins_defer(heap, extent);
        return NULL;
    }
    ADD_RELAXED(heap->counters.n_mixed, 1);
    count_by_size(heap, n_pages, fresh->n_bytes >> PAGE_SHIFT);
    ADD_RELAXED(heap->counters.bytes_fresh, fresh->n_bytes);
    return extent;
}

/* Is there warm room for a block that grows to n_pages? */
static bool has_room(const struct heap *heap, size_t n_pages) {
    return !heap->pinned && heap_bins_has(&heap->dirty, ROOM_FACTOR * n_pages);
}

/* A request is served from a dirty extent that was found large enough. */
static void take_dirty(struct heap *heap, struct extent *extent, size_t n_pages, size_t align_pages) {
    heap_bins_carve(heap, extent, n_pages, align_pages, &heap->dirty);
    extent->flags &= (uint16_t) ~(EXTENT_ZERO | EXTENT_MARKED);
    ADD_RELAXED(heap->counters.n_dirty_hits, 1);
    count_by_size(heap, n_pages, 0);
}

void heap_prove(struct heap *heap, struct extent *extent) {
    if (!READ_RELAXED(extent->unproven_pages) || !lock_acquire(&heap->lock)) return;
    heap_bins_set_unproven(heap, extent, 0);
    lock_release(&heap->lock);
}

void heap_prove_seen(struct heap *heap, struct extent *extent, const void *address, size_t n_pages) {
    if (heap->space.reserved || n_pages < BUDGET_UNPROVEN_PAGES || !READ_RELAXED(extent->unproven_pages))
        return;
    if (!lock_acquire(&heap->lock)) return;
    bool is_out = extent_state(extent) == EXTENT_LIVE || extent_state(extent) == EXTENT_CACHED;
    if (is_out && extent->address == address && extent->n_pages == n_pages)
        heap_bins_set_unproven(heap, extent, 0);
    lock_release(&heap->lock);
}

void heap_unprove(struct heap *heap, struct extent *extent) {
    if (!lock_acquire(&heap->lock)) return;
    heap_bins_set_unproven(heap, extent, extent->used_pages);
    lock_release(&heap->lock);
}

static void after_fresh(struct heap *heap, struct extent *extent, const struct heap_request *request) {
    size_t huge_start = align_up((uintptr_t)extent->address, HUGE_BYTES);
    size_t huge_end = align_down((uintptr_t)extent->address + (request->n_pages << PAGE_SHIFT), HUGE_BYTES);
    if (request->fresh_huge && huge_start < huge_end) {
        extent->flags |= EXTENT_HUGE;
        WRITE_RELAXED(heap->has_huge, true);
        os_advise_huge((void *)huge_start, huge_end - huge_start);
    }
    if (heap->pinned) {
        if (os_lock(extent->address, extent_bytes(extent)) == 0) {
            extent->flags |= EXTENT_PINNED;
            __atomic_fetch_add(&heap->counters.bytes_pinned, extent_bytes(extent), __ATOMIC_RELAXED);
        } else {
            __atomic_fetch_add(&heap->counters.n_pin_failures, 1, __ATOMIC_RELAXED);
        }
    }
}

struct extent *heap_alloc(struct heap *heap, const struct heap_request *request) {
    size_t n_pages = request->n_pages, align = request->align_pages;
    if (request->free_first) heap_prefetch(heap, request->free_first);
    if (!lock_acquire(&heap->lock)) {
        if (request->free_first) heap_bins_defer(heap, request->free_first);
        __atomic_fetch_add(&heap->counters.n_refused, 1, __ATOMIC_RELAXED);
        return NULL;
    }
    heap_bins_drain_deferred(heap);
    COUNT_IF(request->free_first, to_heap);
    if (request->free_first) heap_bins_return(heap, request->free_first);
    struct extent *extent = NULL;
    struct fresh_range fresh = {0};
    bool lock_lost = false;
    if (!ensure_descriptors(heap, &lock_lost)) goto refused;
    if (request->warm_only) {
        extent = heap_bins_take(heap, &heap->dirty, n_pages + align - 1);
        if (!extent) {
            heap_bins_unlock(heap);
            return NULL;
        }
        take_dirty(heap, extent, n_pages, align);
    }
    bool roomy = request->grows && has_room(heap, n_pages);
    if (!extent && request->over && !roomy && !request->left_empty &&
        (request->headroom_pages || !heap_bins_has(&heap->dirty, n_pages + align - 1)) &&
        (budget_is_out_of_date(heap, n_pages << PAGE_SHIFT, request->proven) ||
         (request->caller_holds &&
          budget_excess(heap, n_pages << PAGE_SHIFT, n_pages << PAGE_SHIFT, request->proven)))) {
        *request->over = true;
        lock_release(&heap->lock);
        return NULL;
    }
    if (extent) {
        /* warm_only */
    } else if (roomy) {
        extent = heap_bins_take(heap, &heap->dirty, ROOM_FACTOR * n_pages);
        take_dirty(heap, extent, n_pages, 1);
    } else if (!request->headroom_pages) {
        extent = heap_bins_take(heap, &heap->dirty, n_pages + align - 1);
        if (extent) {
            take_dirty(heap, extent, n_pages, align);
        } else if (align == 1 && !heap->pinned) {
            extent = take_mixed(heap, request, &fresh, &lock_lost);
            if (lock_lost) goto refused;
        }
    }
    if (!extent) {
        size_t bytes = n_pages << PAGE_SHIFT;
        if (!request->left_empty &&
            !enforce_budget(heap, bytes,
                            heap_fresh_fills_units(heap, request) ? max_size(bytes, HUGE_BYTES) : bytes,
                            request->proven)) {
            lock_lost = true;
            goto refused;
        }
        size_t fresh_align = request->fresh_huge ? max_size(align, HUGE_BYTES >> PAGE_SHIFT) : align;
        extent = heap_fresh_take(heap, n_pages + request->headroom_pages, fresh_align, &lock_lost);
        if (!extent && !lock_lost && fresh_align != align)
            extent = heap_fresh_take(heap, n_pages, align, &lock_lost);
        if (!extent && !lock_lost && request->headroom_pages)
            extent = heap_fresh_take(heap, n_pages, align, &lock_lost);
        /* limits: what is dirty and too small for this may still free address space */
        if (!extent && !lock_lost) {
            extent = heap_bins_take(heap, &heap->dirty, n_pages + align - 1);
            if (extent && !heap_bins_carve(heap, extent, n_pages, align, &heap->dirty)) {
                heap_bins_file(heap, &heap->dirty, extent);
                extent = NULL;
            }
            if (extent) extent->flags &= (uint16_t) ~(EXTENT_ZERO | EXTENT_MARKED);
        }
        if (!extent) goto refused;
        if (extent->flags & EXTENT_ZERO) {
            ADD_RELAXED(heap->counters.n_fresh, 1);
            count_by_size(heap, n_pages, n_pages);
            ADD_RELAXED(heap->counters.bytes_fresh, n_pages << PAGE_SHIFT);
            fresh.begin = extent->address;
            fresh.end = fresh.begin + (n_pages << PAGE_SHIFT);
            fresh.n_bytes = n_pages << PAGE_SHIFT;
        }
    }
    /* Only memory that has never been written may be left unused behind a block: it will be filed as clean
     * again. */
    bool headroom = request->headroom_pages && (extent->flags & EXTENT_ZERO) && extent->n_pages > n_pages;
    extent->used_pages = headroom ? (uint32_t)n_pages : extent->n_pages;
    ADD_RELAXED(heap->active_bytes, extent_active_bytes(extent));
    heap_bins_set_unproven(heap, extent,
                           request->left_empty ? extent->used_pages
                           : request->proven   ? 0
                                               : fresh.n_bytes >> PAGE_SHIFT);
    budget_note_peak(heap);
    if (request->fresh_bytes) *request->fresh_bytes = fresh.n_bytes;
    fresh = heap_fresh_plan(heap, request, extent, fresh);
    heap_bins_unlock(heap);
    if (heap_fresh_fill(heap, &fresh)) extent->flags |= EXTENT_POPULATED;
    if (extent->flags & EXTENT_ZERO) after_fresh(heap, extent, request);
    return extent;

refused:
    __atomic_fetch_add(&heap->counters.n_refused, 1, __ATOMIC_RELAXED);
    if (!lock_lost) lock_release(&heap->lock);
    return NULL;
}

bool heap_extend(struct heap *heap, struct extent *extent, size_t n_pages, size_t *warm_pages) {
    bool lock_lost = false;
    if (!lock_acquire(&heap->lock)) return false;
    size_t had = extent->n_pages;
    size_t untouched = n_pages - min_size(n_pages, extent->used_pages); /* its headroom is, too */
    size_t n_new = untouched;
    if (extent->n_pages >= n_pages) {
        lock_lost =
            untouched && !enforce_budget(heap, untouched << PAGE_SHIFT, untouched << PAGE_SHIFT, false);
    } else if (ensure_descriptors(heap, &lock_lost)) {
        struct extent *right = heap_bins_idle_after(heap, extent, EXTENT_DIRTY);
        if (!right) right = heap_bins_idle_after(heap, extent, EXTENT_MUZZY);
        untouched -= right ? min_size(n_pages - extent->n_pages, right->n_pages) : 0;
        bool better_moved = untouched && room_is_wanted(n_pages, had) && has_room(heap, n_pages);
        if (!better_moved) {
            lock_lost =
                untouched && !enforce_budget(heap, untouched << PAGE_SHIFT, untouched << PAGE_SHIFT, false);
            struct fresh_range ignored = {0};
            if (!lock_lost) grow_right(heap, extent, n_pages, &ignored, &lock_lost);
        }
    }
    if (lock_lost) return false;
    bool grown = extent->n_pages >= n_pages;
    if (!grown && extent->n_pages != had) {
        /* Half-way: what was joined may be dirty, and must not be taken for headroom later. */
        SUB_RELAXED(heap->active_bytes, extent_active_bytes(extent));
        extent->used_pages = extent->n_pages;
        ADD_RELAXED(heap->active_bytes, extent_active_bytes(extent));
    } else if (grown) {
        SUB_RELAXED(heap->active_bytes, extent_active_bytes(extent));
        extent->flags &= (uint16_t)~EXTENT_ZERO;
        extent->used_pages = (uint32_t)n_pages;
        ADD_RELAXED(heap->active_bytes, extent_active_bytes(extent));
        ADD_RELAXED(heap->counters.n_grown_in_place, 1);
        /* That it grows shows that what it had is used. */
        heap_bins_set_unproven(heap, extent, n_pages >= BUDGET_UNPROVEN_PAGES ? untouched : 0);
        if (warm_pages) *warm_pages = n_new - untouched;
        budget_note_peak(heap);
    }
    lock_release(&heap->lock);
    return grown;
}

void heap_shrink(struct heap *heap, struct extent *extent, size_t n_pages) {
    bool lock_lost = false;
    if (!lock_acquire(&heap->lock)) return;
    if (ensure_descriptors(heap, &lock_lost)) {
        SUB_RELAXED(heap->active_bytes, extent_active_bytes(extent));
        extent->flags &= (uint16_t)~EXTENT_ZERO; /* it is live: nobody knows what is in it */
        size_t was_used = extent->used_pages;
        struct extent *rest = heap_bins_split(heap, extent, n_pages);
        if (rest) {
            extent->used_pages = (uint32_t)n_pages;
            rest->used_pages = (uint32_t)(was_used - n_pages);
            /* what it grew by last, or all of it: in the tail as a rule */
            size_t unproven = extent->unproven_pages;
            heap_bins_set_unproven(heap, extent, unproven - min_size(unproven, was_used - n_pages));
            heap_bins_insert_idle(heap, rest);
        }
        ADD_RELAXED(heap->active_bytes, extent_active_bytes(extent));
    }
    if (!lock_lost) lock_release(&heap->lock);
}
