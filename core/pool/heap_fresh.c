/* SPDX-License-Identifier: MIT */
/* heap_fresh.c: mapping untouched memory and filling it. See heap_fresh.h for the policy. */
#include "pool/heap_fresh.h"

#include "os/os.h"
#include "pool/heap_bins.h"

#include <errno.h>

/* Address space is taken in steps of an eighth of what there is, within these bounds: every step changes a VMA, which all page
 * faults in it wait for. With steps of 1 MiB eight threads stood still for a third of the time. */
#define STEP_SHIFT 3
#define STEP_MIN_PAGES (MIB >> PAGE_SHIFT)
#define STEP_MAX_PAGES (64 * MIB >> PAGE_SHIFT)

static size_t step_pages(const struct heap *heap)
{
    size_t used = (heap->frontier - heap->space.base) >> PAGE_SHIFT;
    return max_size(STEP_MIN_PAGES, min_size(align_down(used >> STEP_SHIFT, HUGE_BYTES >> PAGE_SHIFT), STEP_MAX_PAGES));
}

static int map_pages(struct heap *heap, uintptr_t start, size_t bytes, bool small_pages)
{
    int error = space_map(&heap->space, (void *)start, bytes);
    if (!error && small_pages) os_forbid_huge((void *)start, bytes);
    return error;
}

struct extent *heap_fresh_frontier(struct heap *heap, size_t n_pages, bool *lock_lost)
{
    struct extent *extent = heap_bins_new_extent(heap);
    if (!extent) return NULL;
    size_t bytes = n_pages << PAGE_SHIFT;
    uintptr_t start = heap->frontier;
    if (heap->exhausted || bytes > heap->space.base + heap->space.span_max - start ||
        space_reach(&heap->space, start + bytes - heap->space.base)) {
        heap_bins_drop_extent(heap, extent);
        return NULL;
    }
    WRITE_RELAXED(heap->frontier, start + bytes);
    bool small_pages = heap->huge_pages == HUGE_BY_ADVICE;
    heap->n_mapping++;
    lock_release(&heap->lock);
    int error = map_pages(heap, start, bytes, small_pages);
    extent->address = (void *)start;
    WRITE_RELAXED(extent->n_pages, (uint32_t)n_pages);
    extent->cls = (uint16_t)class_floor(n_pages);
    extent->flags = EXTENT_ZERO;
    extent_set_state(extent, EXTENT_BUSY);
    if (!lock_acquire(&heap->lock)) {
        *lock_lost = true; /* n_mapping stays too high: then the space is never made uniform, and units are not filled */
        if (!error) heap_bins_defer(heap, extent);
        return NULL;
    }
    heap->n_mapping--;
    if (error) {
        if (heap->frontier == start + bytes) WRITE_RELAXED(heap->frontier, start);
        if (error == -EEXIST) heap->exhausted = true;
        heap_bins_drop_extent(heap, extent);
        return NULL;
    }
    heap_bins_publish(heap, extent);
    return extent;
}

struct extent *heap_fresh_take(struct heap *heap, size_t n_pages, size_t align_pages, bool *lock_lost)
{
    size_t need = n_pages + align_pages - 1;
    struct extent *extent = heap_bins_take(heap, &heap->clean, need);
    size_t step = step_pages(heap);
    if (!extent) extent = heap_fresh_frontier(heap, max_size(need, step), lock_lost);
    if (!extent && !*lock_lost && need < step) extent = heap_fresh_frontier(heap, need, lock_lost);
    if (!extent) return NULL;
    heap_bins_carve(heap, extent, n_pages, align_pages, &heap->clean);
    extent->flags |= EXTENT_ZERO;
    return extent;
}

/* --- filling --- */

/* Near the limit of a control group nothing is made resident before it is written. */
static bool has_room(const struct heap *heap, size_t bytes)
{
    size_t limit = READ_RELAXED(heap->limit_bytes);
    return limit == SIZE_MAX || heap->active_bytes + heap->dirty_bytes + bytes < limit / 2;
}

/* The clean memory from the end of an extent to the next multiple of 2 MiB, taken off its bin; NULL if there is none. */
static struct extent *claim_rest(struct heap *heap, const struct extent *extent)
{
    struct extent *right = heap_bins_idle_after(heap, extent, EXTENT_CLEAN);
    size_t n_pages = (align_up((uintptr_t)extent_end(extent), HUGE_BYTES) - (uintptr_t)extent_end(extent)) >> PAGE_SHIFT;
    if (!right || n_pages == 0 || right->flags & (EXTENT_HUGE | EXTENT_MOVED)) return NULL;
    heap_bins_unfile(heap, &heap->clean, right);
    if (right->n_pages <= n_pages) return right;
    struct extent *beyond = heap_bins_split(heap, right, n_pages);
    if (beyond) heap_bins_file(heap, &heap->clean, beyond);
    else heap_bins_file(heap, &heap->clean, right), right = NULL;
    return right;
}

bool heap_fresh_fills_units(const struct heap *heap, const struct heap_request *request)
{
    bool whole_units = heap->huge_pages == HUGE_BY_ADVICE || heap->huge_pages == HUGE_UNASKED;
    return request->will_be_filled && whole_units && !heap->pinned &&
           heap->active_bytes >= FRESH_UNIT_MIN_BYTES * (heap->n_growing + 1);
}

struct fresh_range heap_fresh_plan(struct heap *heap, const struct heap_request *request, struct extent *extent,
                                   struct fresh_range untouched)
{
    struct fresh_range range = {untouched.begin, untouched.begin, NULL};
    size_t bytes = (size_t)(untouched.end - untouched.begin);
    if (!request->will_be_filled || bytes == 0 || heap->pinned || extent->flags & EXTENT_HUGE || !has_room(heap, bytes + HUGE_BYTES))
        return range;
    range.end = untouched.end;
    if (range.end != extent_end(extent) || !heap_fresh_fills_units(heap, request)) return range;
    range.rest = claim_rest(heap, extent);
    heap->n_growing += range.rest != NULL;
    return range;
}

bool heap_fresh_fill(struct heap *heap, const struct fresh_range *range)
{
    if (range->begin == range->end) return false;
    struct extent *rest = range->rest;
    char *end = rest ? extent_end(rest) : range->end;
    int error = os_fill(range->begin, (size_t)(end - range->begin), heap->huge_pages == HUGE_BY_ADVICE);
    if (!rest) return !error;
    if (!error) rest->flags &= (uint16_t)~EXTENT_ZERO;
    rest->used_pages = rest->n_pages;
    if (!lock_acquire(&heap->lock)) {
        heap_bins_defer(heap, rest);
        return !error; /* n_growing stays too high: then less is filled beforehand */
    }
    heap_bins_insert_idle(heap, rest);
    heap->n_growing--;
    lock_release(&heap->lock);
    return !error;
}

void heap_fresh_prepare(struct heap *heap)
{
    if (READ_RELAXED(heap->huge_pages) != HUGE_UNKNOWN) return;
    enum huge_pages found = os_restricted ? HUGE_NEVER : os_huge_pages();
    if (!lock_acquire(&heap->lock)) return;
    /* Who maps at this moment has been told otherwise; the next call will do. */
    bool now = heap->huge_pages == HUGE_UNKNOWN && heap->n_mapping == 0;
    if (now) WRITE_RELAXED(heap->huge_pages, found);
    uintptr_t from = heap->space.base - PAGE_BYTES, to = heap->frontier; /* with the page before base, its neighbour (space.h) */
    lock_release(&heap->lock);
    if (now && found == HUGE_BY_ADVICE) os_forbid_huge((void *)from, to - from);
}

void heap_fresh_fork_child(struct heap *heap)
{
    heap->n_growing = 0;
    heap->n_mapping = 0;
}
