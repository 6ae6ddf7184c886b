/* SPDX-License-Identifier: MIT */
/* heap_fresh.c: mapping untouched memory and filling it. See heap_fresh.h for the policy. */
#include "heap/heap_fresh.h"

#include "base/time.h"
#include "os/os.h"
#include "heap/heap_bins.h"

#include <errno.h>

/* Address space is taken in steps of an eighth of what there is, within these bounds: every step changes a
 * VMA, which all page faults in it wait for. With steps of 1 MiB eight threads stood still for a third of the
 * time. */
#define STEP_SHIFT 3
#define STEP_MIN_PAGES (MIB >> PAGE_SHIFT)
#define STEP_MAX_PAGES (64 * MIB >> PAGE_SHIFT)

/* Where a step is refused (limits, strict overcommit) exactly what is needed is asked for, for so long. */
#define STEP_REFUSED_MS 1000u

static size_t step_pages(const struct heap *heap) {
    if (READ_RELAXED(heap->address_limited)) return 1;
    if (heap->step_refused_ms && time_passed_ms(os_clock_ms(), heap->step_refused_ms) < STEP_REFUSED_MS)
        return 1;
    size_t used = (heap->frontier - heap->space.base) >> PAGE_SHIFT;
    return max_size(STEP_MIN_PAGES,
                    min_size(align_down(used >> STEP_SHIFT, HUGE_BYTES >> PAGE_SHIFT), STEP_MAX_PAGES));
}

static int map_pages(struct heap *heap, uintptr_t start, size_t bytes, bool small_pages) {
    int error = space_map(&heap->space, (void *)start, bytes);
    if (!error && small_pages) os_forbid_huge((void *)start, bytes);
    return error;
}

/* While nobody knows what rules here, memory is mapped as if it were advice: so its VMAs are of one kind if
 * that turns out to be true. */
static bool small_unless_asked(const struct heap *heap) {
    enum huge_pages kind = READ_RELAXED(heap->huge_pages);
    return kind == HUGE_BY_ADVICE || kind == HUGE_UNKNOWN;
}

/* So long somebody else is waited for who maps more of the page map. Every other way to memory would wait for
 * the same kernel lock. */
#define REACH_PATIENCE_NS 1000000000u

/* Make the page map cover so many bytes beyond the frontier. Drops the lock if there is something to map.
 * False if there is no room or no memory, or the lock was lost. */
static bool reach(struct heap *heap, size_t bytes, bool *lock_lost) {
    struct space *space = &heap->space;
    uint64_t end_ns = 0;
    while (bytes <= space->base + space->span_max - heap->frontier) {
        size_t n_bytes = heap->frontier + bytes - space->base;
        if (likely(space_reaches(space, n_bytes))) return true;
        bool begins = space_reach_begins(space, n_bytes);
        uint64_t now_ns = os_clock_ns();
        if (!end_ns) end_ns = now_ns + REACH_PATIENCE_NS;
        if (!begins && now_ns >= end_ns) return false;
        lock_release(&heap->lock);
        int error = begins ? space_reach_ends(space) : 0;
        if (!begins) lock_relax();
        if (!lock_acquire(&heap->lock)) {
            *lock_lost = true;
            return false;
        }
        if (error) return false;
    }
    return false;
}

/* Claim, map and publish n_pages beyond the frontier as a BUSY extent. NULL: no address space, no memory, or
 * the lock was lost. *error is what the kernel said, 0 if it was not asked. */
static struct extent *claim(struct heap *heap, size_t n_pages, bool *lock_lost, int *error) {
    *error = 0;
    size_t bytes = n_pages << PAGE_SHIFT;
    if (heap->exhausted || !reach(heap, bytes, lock_lost)) return NULL;
    struct extent *extent = heap_bins_new_extent(heap);
    if (!extent) return NULL;
    uintptr_t start = heap->frontier;
    WRITE_RELAXED(heap->frontier, start + bytes);
    bool small_pages = small_unless_asked(heap);
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
        if (heap->frontier == start + bytes) {
            WRITE_RELAXED(heap->frontier, start);
            heap_bins_drop_extent(heap, extent);
            return NULL;
        }
        /* Others have claimed what lies beyond, meanwhile. */
        extent->flags = 0;
        heap_bins_publish(heap, extent);
        if (*error == -EEXIST)
            extent_set_state(extent, EXTENT_LOST);
        else
            heap_bins_file(heap, &heap->holes, extent);
        return NULL;
    }
    heap_bins_publish(heap, extent);
    return extent;
}

struct extent *heap_fresh_frontier(struct heap *heap, size_t n_pages, bool *lock_lost) {
    size_t step = step_pages(heap);
    int error;
    if (n_pages < step) { /* what is in the way of a whole step may leave room for what is needed */
        struct extent *extent = claim(heap, step, lock_lost, &error);
        if (extent || *lock_lost) return extent;
        heap->step_refused_ms = (uint32_t)max_size(os_clock_ms(), 1);
    }
    struct extent *extent = claim(heap, n_pages, lock_lost, &error);
    if (error == -EEXIST && !*lock_lost) heap->exhausted = true;
    return extent;
}

/* A hole large enough, mapped anew, BUSY; NULL if there is none or it cannot be mapped. Lock as in
 * heap_fresh_frontier. */
static struct extent *map_hole(struct heap *heap, size_t n_pages, bool *lock_lost) {
    struct extent *extent = heap_bins_take(heap, &heap->holes, n_pages);
    if (!extent) return NULL;
    if (extent->n_pages > n_pages) {
        struct extent *rest = heap_bins_split(heap, extent, n_pages);
        if (rest) heap_bins_file(heap, &heap->holes, rest);
    }
    bool small_pages = small_unless_asked(heap);
    lock_release(&heap->lock);
    int error = map_pages(heap, (uintptr_t)extent->address, extent_bytes(extent), small_pages);
    extent->flags = error ? EXTENT_UNMAPPED : EXTENT_ZERO;
    if (!lock_acquire(&heap->lock)) {
        *lock_lost = true;
        heap_bins_defer(heap, extent);
        return NULL;
    }
    if (!error) return extent;
    extent->flags = 0;
    if (error == -EEXIST)
        extent_set_state(extent, EXTENT_LOST); /* somebody else has been placed there */
    else
        heap_bins_file(heap, &heap->holes, extent);
    return NULL;
}

struct extent *heap_fresh_take(struct heap *heap, size_t n_pages, size_t align_pages, bool *lock_lost) {
    size_t need = n_pages + align_pages - 1;
    struct extent *extent = heap_bins_take(heap, &heap->clean, need);
    if (!extent) {
        extent = map_hole(heap, need, lock_lost);
        if (*lock_lost) return NULL;
    }
    if (!extent) extent = heap_fresh_frontier(heap, need, lock_lost);
    if (!extent) return NULL;
    if (!heap_bins_carve(heap, extent, n_pages, align_pages, &heap->clean)) {
        heap_bins_file(heap, &heap->clean, extent);
        return NULL;
    }
    extent->flags |= EXTENT_ZERO;
    return extent;
}

/* --- filling --- */

/* Near the limit of a control group nothing is made resident before it is written. */
static bool has_room(const struct heap *heap, size_t bytes) {
    size_t limit = READ_RELAXED(heap->limit_bytes);
    return limit == SIZE_MAX || heap->active_bytes + heap->dirty_bytes + bytes < limit / 2;
}

/* The clean memory from the end of an extent to the next multiple of 2 MiB, taken off its bin; NULL if there
 * is none. */
static struct extent *claim_rest(struct heap *heap, const struct extent *extent) {
    struct extent *right = heap_bins_idle_after(heap, extent, EXTENT_CLEAN);
    size_t n_pages =
        (align_up((uintptr_t)extent_end(extent), HUGE_BYTES) - (uintptr_t)extent_end(extent)) >> PAGE_SHIFT;
    if (!right || n_pages == 0 || right->flags & (EXTENT_HUGE | EXTENT_MOVED)) return NULL;
    heap_bins_unfile(heap, &heap->clean, right);
    if (right->n_pages <= n_pages) return right;
    struct extent *beyond = heap_bins_split(heap, right, n_pages);
    if (beyond)
        heap_bins_file(heap, &heap->clean, beyond);
    else
        heap_bins_file(heap, &heap->clean, right), right = NULL;
    return right;
}

static bool huge_is_faster(const struct heap *heap) {
    uint32_t small = READ_RELAXED(heap->fill_ns[0]);
    return !small || READ_RELAXED(heap->fill_ns[1]) <= small;
}

bool heap_fresh_wants_huge(const struct heap *heap, size_t n_pages) {
    if (READ_RELAXED(heap->fill_ns[1]) < FRESH_GOOD_NS) return true;
    bool try_other = !READ_RELAXED(heap->fill_ns[0]) ||
                     READ_RELAXED(heap->one_kind_pages) >=
                         (FRESH_RETRY_EVERY - 1) * max_size(n_pages, HUGE_BYTES >> PAGE_SHIFT);
    return huge_is_faster(heap) != try_other;
}

void heap_fresh_learn(struct heap *heap, bool huge, size_t n_pages, struct fresh_timing timing) {
    bool other = huge != huge_is_faster(heap);
    WRITE_RELAXED(heap->one_kind_pages, other ? 0 : READ_RELAXED(heap->one_kind_pages) + (uint32_t)n_pages);
    if (timing.fill_ns > timing.thread_ns + timing.thread_ns / 2) return; /* it has waited */
    uint32_t before = READ_RELAXED(heap->fill_ns[huge]);
    uint32_t now =
        (uint32_t)max_size(1, min_size((timing.fill_ns + timing.touch_ns) / n_pages, UINT32_MAX / 2));
    /* Half and half, and bounded: a hypervisor may have taken the processor away, which no clock of ours
     * tells. */
    WRITE_RELAXED(heap->fill_ns[huge],
                  before ? (uint32_t)((before + min_size(now, (size_t)8 * before) + 1) / 2) : now);
}

static bool chooses_huge(const struct heap *heap, size_t n_pages) {
    return READ_RELAXED(heap->huge_pages) == HUGE_BY_ADVICE && heap_fresh_wants_huge(heap, n_pages);
}

static bool fills_units(const struct heap *heap, const struct heap_request *request, bool huge) {
    return request->will_be_filled && (huge || READ_RELAXED(heap->huge_pages) == HUGE_UNASKED) &&
           !heap->pinned &&
           heap->active_bytes >= FRESH_UNIT_MIN_BYTES * (size_t)(READ_RELAXED(heap->n_growing) + 1);
}

bool heap_fresh_fills_units(const struct heap *heap, const struct heap_request *request) {
    return fills_units(heap, request, chooses_huge(heap, request->n_pages));
}

struct fresh_range heap_fresh_plan(struct heap *heap, const struct heap_request *request,
                                   struct extent *extent, struct fresh_range untouched) {
    struct fresh_range range = {
        .begin = untouched.begin, .end = untouched.begin, .huge = chooses_huge(heap, request->n_pages)};
    size_t bytes = (size_t)(untouched.end - untouched.begin);
    if (!request->will_be_filled || bytes == 0 || heap->pinned || extent->flags & EXTENT_HUGE ||
        !has_room(heap, bytes + HUGE_BYTES))
        return range;
    range.end = untouched.end;
    if (range.end != extent_end(extent) || !fills_units(heap, request, range.huge)) return range;
    range.rest = claim_rest(heap, extent);
    if (range.rest) __atomic_fetch_add(&heap->n_growing, 1, __ATOMIC_RELAXED);
    return range;
}

uint64_t heap_fresh_touch_ns(const char *page) {
    uint64_t sorted[FRESH_TOUCHES];
    for (int i = 0; i < FRESH_TOUCHES; i++) {
        uint64_t before = os_clock_ns();
        (void)*(const volatile char *)(page + ((size_t)i << PAGE_SHIFT));
        uint64_t ns = os_clock_ns() - before;
        int at = i;
        for (; at > 0 && sorted[at - 1] > ns; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = ns;
    }
    return sorted[FRESH_TOUCHES / 2];
}

/* What is filled by huge pages tells what those take if most of it is whole units, and what small ones take
 * if none is. */
static void learn_from(struct heap *heap, char *begin, char *end, bool huge, struct fresh_timing timing) {
    size_t bytes = (size_t)(end - begin), n_pages = bytes >> PAGE_SHIFT;
    uintptr_t unit = align_up((uintptr_t)begin, HUGE_BYTES), last = align_down((uintptr_t)end, HUGE_BYTES);
    size_t by_huge = huge && unit < last ? last - unit : 0;
    if (by_huge ? by_huge < bytes / 2 : bytes < FRESH_TIMED_BYTES) return;
    const char *middle = begin + (n_pages / 2 << PAGE_SHIFT);
    timing.touch_ns = n_pages * heap_fresh_touch_ns(middle);
    heap_fresh_learn(heap, by_huge > 0, n_pages, timing);
}

static int fill(struct heap *heap, char *begin, char *end, bool huge) {
    size_t bytes = (size_t)(end - begin);
    /* a filter may forbid the clock */
    if (READ_RELAXED(heap->huge_pages) != HUGE_BY_ADVICE || os_restricted) return os_fill(begin, bytes, huge);
    uint64_t begin_thread_ns = os_thread_ns(), begin_ns = os_clock_ns();
    int error = os_fill(begin, bytes, huge);
    struct fresh_timing timing = {.fill_ns = os_clock_ns() - begin_ns,
                                  .thread_ns = os_thread_ns() - begin_thread_ns};
    if (!error) learn_from(heap, begin, end, huge, timing);
    return error;
}

int heap_fresh_fill_block(struct heap *heap, const struct extent *extent) {
    bool huge = chooses_huge(heap, extent->used_pages);
    if (huge && !READ_RELAXED(heap->has_huge)) WRITE_RELAXED(heap->has_huge, true);
    return fill(heap, extent->address, (char *)extent->address + extent_active_bytes(extent), huge);
}

bool heap_fresh_fill(struct heap *heap, const struct fresh_range *range) {
    if (range->begin == range->end) return false;
    struct extent *rest = range->rest;
    char *end = rest ? extent_end(rest) : range->end;
    if (range->huge && !READ_RELAXED(heap->has_huge)) WRITE_RELAXED(heap->has_huge, true);
    int error = fill(heap, range->begin, end, range->huge);
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

void heap_fresh_learn_machine(struct heap *heap) {
    if (READ_RELAXED(heap->huge_pages) != HUGE_UNKNOWN) return;
    WRITE_RELAXED(heap->several_nodes, os_has_several_nodes());
    WRITE_RELAXED(heap->huge_pages, os_huge_pages());
}

void heap_fresh_prepare(struct heap *heap) {
    heap->huge_pages = os_restricted ? HUGE_NEVER : HUGE_UNKNOWN;
    heap_fresh_learn_machine(heap);
    /* The page before base, too, the first block's neighbour (space.h). */
    if (small_unless_asked(heap)) os_forbid_huge((void *)(heap->space.base - PAGE_BYTES), PAGE_BYTES);
}

void heap_fresh_fork_child(struct heap *heap) {
    WRITE_RELAXED(heap->n_growing, 0);
}
