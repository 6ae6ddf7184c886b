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

/* Where a step is refused (limits, strict overcommit) exactly what is needed is asked for, for so long. */
#define STEP_REFUSED_MS 1000u

static size_t step_pages(const struct heap *heap)
{
    if (heap->step_refused_ms && os_clock_ms() - heap->step_refused_ms < STEP_REFUSED_MS) return 1;
    size_t used = (heap->frontier - heap->space.base) >> PAGE_SHIFT;
    return max_size(STEP_MIN_PAGES, min_size(align_down(used >> STEP_SHIFT, HUGE_BYTES >> PAGE_SHIFT), STEP_MAX_PAGES));
}

static int map_pages(struct heap *heap, uintptr_t start, size_t bytes, bool small_pages)
{
    int error = space_map(&heap->space, (void *)start, bytes);
    if (!error && small_pages) os_forbid_huge((void *)start, bytes);
    return error;
}

/* As heap_fresh_frontier, and *error is what the kernel said, 0 if it was not asked. */
static struct extent *claim(struct heap *heap, size_t n_pages, bool *lock_lost, int *error)
{
    *error = 0;
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
    lock_release(&heap->lock);
    *error = map_pages(heap, start, bytes, small_pages);
    WRITE_RELAXED(extent->address, (void *)start);
    WRITE_RELAXED(extent->n_pages, (uint32_t)n_pages);
    extent->cls = (uint16_t)class_floor(n_pages);
    extent->flags = EXTENT_ZERO;
    extent_set_state(extent, EXTENT_BUSY);
    if (!lock_acquire(&heap->lock)) {
        *lock_lost = true;
        if (!*error) heap_bins_defer(heap, extent);
        return NULL;
    }
    if (*error) {
        if (heap->frontier == start + bytes) WRITE_RELAXED(heap->frontier, start);
        heap_bins_drop_extent(heap, extent);
        return NULL;
    }
    heap_bins_publish(heap, extent);
    return extent;
}

struct extent *heap_fresh_frontier(struct heap *heap, size_t n_pages, bool *lock_lost)
{
    int error;
    struct extent *extent = claim(heap, n_pages, lock_lost, &error);
    if (error == -EEXIST && !*lock_lost) heap->exhausted = true;
    return extent;
}

struct extent *heap_fresh_take(struct heap *heap, size_t n_pages, size_t align_pages, bool *lock_lost)
{
    size_t need = n_pages + align_pages - 1;
    struct extent *extent = heap_bins_take(heap, &heap->clean, need);
    size_t step = step_pages(heap);
    if (!extent && need < step) {
        int ignored; /* what is in the way of a whole step may leave room for what is needed */
        extent = claim(heap, step, lock_lost, &ignored);
        if (!extent && !*lock_lost) heap->step_refused_ms = os_clock_ms() | 1;
    }
    if (!extent && !*lock_lost) extent = heap_fresh_frontier(heap, need, lock_lost);
    if (!extent) return NULL;
    if (!heap_bins_carve(heap, extent, n_pages, align_pages, &heap->clean)) {
        heap_bins_file(heap, &heap->clean, extent);
        return NULL;
    }
    extent->flags |= EXTENT_ZERO;
    return extent;
}

/* --- filling --- */

#define READ_ATOMIC(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define WRITE_ATOMIC(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)

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

bool heap_fresh_wants_huge(const struct heap *heap)
{
    uint32_t small = READ_ATOMIC(heap->fill_ns[0]), huge = READ_ATOMIC(heap->fill_ns[1]);
    if (huge < FRESH_GOOD_NS) return true;
    if (!small) return false;
    bool is_retry = READ_ATOMIC(heap->n_fills) % FRESH_RETRY_EVERY == FRESH_RETRY_EVERY - 1;
    return (huge <= small) != is_retry;
}

void heap_fresh_learn(struct heap *heap, bool huge, size_t n_pages, uint64_t ns)
{
    uint32_t before = READ_ATOMIC(heap->fill_ns[huge]);
    uint32_t now = (uint32_t)max_size(1, min_size(ns / n_pages, UINT32_MAX / 2));
    /* Half and half: one fill during which others had the processor is soon forgotten. */
    WRITE_ATOMIC(heap->fill_ns[huge], before ? (before + now + 1) / 2 : now);
    WRITE_ATOMIC(heap->n_fills, READ_ATOMIC(heap->n_fills) + 1);
}

bool heap_fresh_fills_units(const struct heap *heap, const struct heap_request *request)
{
    bool whole_units = (heap->huge_pages == HUGE_BY_ADVICE && heap_fresh_wants_huge(heap)) || heap->huge_pages == HUGE_UNASKED;
    return request->will_be_filled && whole_units && !heap->pinned &&
           heap->active_bytes >= FRESH_UNIT_MIN_BYTES * (size_t)(READ_RELAXED(heap->n_growing) + 1);
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
    if (range.rest) __atomic_fetch_add(&heap->n_growing, 1, __ATOMIC_RELAXED);
    return range;
}

/* Is most of it whole units? Only then does it tell what huge pages take; and what small ones take, if it is filled by those. */
static bool tells(const char *begin, const char *end)
{
    uintptr_t unit = align_up((uintptr_t)begin, HUGE_BYTES), last = align_down((uintptr_t)end, HUGE_BYTES);
    return unit < last && last - unit >= (size_t)(end - begin) / 2;
}

static int fill(struct heap *heap, char *begin, char *end)
{
    size_t bytes = (size_t)(end - begin);
    bool weigh = heap->huge_pages == HUGE_BY_ADVICE && !os_restricted && tells(begin, end); /* a filter may forbid the clock */
    bool huge = heap->huge_pages == HUGE_BY_ADVICE && heap_fresh_wants_huge(heap);
    if (!weigh) return os_fill(begin, bytes, huge);
    uint64_t begin_ns = os_clock_ns();
    int error = os_fill(begin, bytes, huge);
    if (!error) heap_fresh_learn(heap, huge, bytes >> PAGE_SHIFT, os_clock_ns() - begin_ns);
    return error;
}

bool heap_fresh_fill(struct heap *heap, const struct fresh_range *range)
{
    if (range->begin == range->end) return false;
    struct extent *rest = range->rest;
    char *end = rest ? extent_end(rest) : range->end;
    int error = fill(heap, range->begin, end);
    if (!rest) return !error;
    __atomic_fetch_sub(&heap->n_growing, 1, __ATOMIC_RELAXED);
    /* After any other error a part may be resident, and what is filed as clean is never given back. */
    if (error != -EINVAL) rest->flags &= (uint16_t)~EXTENT_ZERO;
    rest->used_pages = rest->n_pages;
    if (lock_acquire(&heap->lock)) {
        heap_bins_insert_idle(heap, rest);
        lock_release(&heap->lock);
    } else {
        heap_bins_defer(heap, rest);
    }
    return !error;
}

void heap_fresh_prepare(struct heap *heap)
{
    heap->huge_pages = os_restricted ? HUGE_NEVER : os_huge_pages();
    heap->several_nodes = !os_restricted && os_has_several_nodes();
    /* The page before base, too, the first block's neighbour (space.h). */
    if (heap->huge_pages == HUGE_BY_ADVICE) os_forbid_huge((void *)(heap->space.base - PAGE_BYTES), PAGE_BYTES);
}

void heap_fresh_fork_child(struct heap *heap) { WRITE_RELAXED(heap->n_growing, 0); }
