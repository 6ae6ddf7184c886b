/* SPDX-License-Identifier: MIT */
/* heap_bins.c: splitting, merging and filing extents. heap_fit.c finds them. */
#include "heap/heap_bins.h"

#include "os/os.h"

void heap_bins_add_extents(struct heap *heap, uint32_t first, uint32_t count) {
    if (first + count > heap->space.n_extents) heap->space.n_extents = first + count;
    for (; heap->untouched < heap->untouched_end; heap->untouched++) {
        struct extent *extent = &heap->space.extents[heap->untouched];
        extent->next = heap->unused;
        heap->unused = extent;
    }
    heap->untouched = first;
    heap->untouched_end = first + count;
    heap->n_unused += count;
}

struct extent *heap_bins_new_extent(struct heap *heap) {
    struct extent *extent = heap->unused;
    if (extent)
        heap->unused = extent->next;
    else if (heap->untouched < heap->untouched_end)
        extent = &heap->space.extents[heap->untouched++];
    else
        return NULL;
    heap->n_unused--;
    extent->next = NULL;
    extent->policy = 0;
    WRITE_RELAXED(extent->unproven_pages, 0);
    return extent;
}

void heap_bins_drop_extent(struct heap *heap, struct extent *extent) {
    extent_set_state(extent, EXTENT_UNUSED);
    WRITE_RELAXED(extent->address, NULL);
    extent->flags = 0;
    extent->next = heap->unused;
    heap->unused = extent;
    heap->n_unused++;
}

void heap_bins_publish(struct heap *heap, struct extent *extent) {
    size_t span = (uintptr_t)extent_end(extent) - heap->space.base;
    if (span > atomic_load_explicit(&heap->space.span, memory_order_relaxed))
        atomic_store_explicit(&heap->space.span, span, memory_order_relaxed);
    space_enter(&heap->space, extent);
}

static void resize(struct extent *extent, size_t n_pages) {
    WRITE_RELAXED(extent->n_pages, (uint32_t)n_pages);
    extent->cls = (uint16_t)class_floor(n_pages);
}

struct extent *heap_bins_split(struct heap *heap, struct extent *extent, size_t n_pages) {
    struct extent *rest = heap_bins_new_extent(heap);
    if (!rest) return NULL;
    WRITE_RELAXED(rest->address, (char *)extent->address + (n_pages << PAGE_SHIFT));
    resize(rest, extent->n_pages - n_pages);
    rest->used_pages = rest->n_pages;
    rest->flags = extent->flags & (EXTENT_ZERO | EXTENT_HUGE | EXTENT_MOVED | EXTENT_PINNED | EXTENT_MARKED);
    rest->last_use_ms = extent->last_use_ms;
    if (rest->flags & EXTENT_MOVED) __atomic_fetch_add(&heap->counters.n_moved_vmas, 1, __ATOMIC_RELAXED);
    extent_set_state(rest, EXTENT_BUSY);
    resize(extent, n_pages);
    space_enter(&heap->space, extent);
    space_enter(&heap->space, rest);
    return rest;
}

void heap_bins_join(struct heap *heap, struct extent *left, struct extent *right) {
    /* The two pages at the seam become interior. The left side may be live: its first page names it at every
     * moment, since a process forked right now finds it by that (heap_rebuild.c). */
    if (left->n_pages > 1) space_set_page(&heap->space, (char *)right->address - 1, 0);
    /* where that is all there is, it is written again below */
    space_set_page(&heap->space, right->address, 0);
    if (left->flags & right->flags & EXTENT_MOVED)
        __atomic_fetch_sub(&heap->counters.n_moved_vmas, 1, __ATOMIC_RELAXED);
    left->flags |= right->flags & (EXTENT_HUGE | EXTENT_MOVED | EXTENT_PINNED);
    if (!(right->flags & EXTENT_MARKED)) left->flags &= (uint16_t)~EXTENT_MARKED;
    resize(left, (size_t)left->n_pages + right->n_pages);
    space_enter(&heap->space, left);
    heap_bins_drop_extent(heap, right);
}

/* The state that an extent has in these bins. */
static uint8_t state_in(const struct heap *heap, const struct bins *bins, const struct extent *extent) {
    if (bins == &heap->clean) return EXTENT_CLEAN;
    if (bins == &heap->holes) return EXTENT_HOLE;
    return extent->flags & EXTENT_MARKED ? EXTENT_MUZZY : EXTENT_DIRTY;
}

/* An extent of this state comes (n = 1) or goes (n = -1). */
static void account(struct heap *heap, uint8_t state, size_t bytes, int n) {
    size_t by = n > 0 ? bytes : -bytes;
    switch (state) {
    case EXTENT_MUZZY:
        ADD_RELAXED(heap->muzzy_bytes, by); /* and */
        __attribute__((fallthrough));
    case EXTENT_DIRTY:
        ADD_RELAXED(heap->dirty_bytes, by);
        break;
    case EXTENT_CLEAN:
        ADD_RELAXED(heap->clean_bytes, by);
        break;
    default:
        ADD_RELAXED(heap->hole_bytes, by);
        ADD_RELAXED(heap->n_holes, (uint32_t)n);
    }
}

void heap_bins_link(struct heap *heap, struct bins *bins, struct extent *extent) {
    uint8_t state = state_in(heap, bins, extent);
    extent->flags &= (uint16_t)~EXTENT_MARKED;
    bin_push(&bins->head[extent->cls], extent);
    uint64_t *word = &bins->nonempty[extent->cls / 64];
    WRITE_RELAXED(*word, *word | (uint64_t)1 << (extent->cls % 64));
    extent_set_state(extent, state);
    account(heap, state, extent_bytes(extent), 1);
}

void heap_bins_unfile(struct heap *heap, struct bins *bins, struct extent *extent) {
    bin_remove(&bins->head[extent->cls], extent);
    if (!bins->head[extent->cls]) {
        uint64_t *word = &bins->nonempty[extent->cls / 64];
        WRITE_RELAXED(*word, *word & ~((uint64_t)1 << (extent->cls % 64)));
    }
    if (bins == &heap->dirty) age_remove(extent);
    account(heap, extent_state(extent), extent_bytes(extent), -1);
    /* what of it is filed again untouched still is */
    if (extent_state(extent) == EXTENT_MUZZY) extent->flags |= EXTENT_MARKED;
    extent_set_state(extent, EXTENT_BUSY);
}

/* Whatever the page map names there; NULL beyond the claimed range. */
static inline struct extent *neighbour_at(struct heap *heap, const char *address) {
    if ((uintptr_t)address < heap->space.base || !space_owns(&heap->space, address)) return NULL;
    return space_lookup(&heap->space, address);
}

/* Does it begin, or end, at this byte? The page map may name one that lies elsewhere. */
static inline bool is_beside(const struct extent *neighbour, const char *address, bool must_begin) {
    return must_begin ? neighbour->address == address : extent_end(neighbour) == address + 1;
}

static struct extent *idle_neighbour(struct heap *heap, const char *address, bool must_begin, uint8_t state) {
    struct extent *neighbour = neighbour_at(heap, address);
    if (!neighbour || extent_state(neighbour) != state) return NULL;
    return is_beside(neighbour, address, must_begin) ? neighbour : NULL;
}

/* Locked and unlocked pages are not merged: the count of locked bytes goes by extents. */
static bool same_pinning(const struct extent *a, const struct extent *b) {
    return ((a->flags ^ b->flags) & EXTENT_PINNED) == 0;
}

/* A dirty extent takes a muzzy neighbour with it that is not much larger. What is marked is marked again
 * then, so not with every small neighbour; but kept apart for good they would leave requests to untouched
 * memory that fit into both. */
#define MUZZY_FACTOR 4

static struct extent *neighbour_to_join(struct heap *heap, const struct extent *extent, const char *address,
                                        bool must_begin, uint8_t state) {
    struct extent *neighbour = neighbour_at(heap, address);
    if (!neighbour) return NULL;
    uint8_t its = extent_state(neighbour);
    bool joins = its == state || (state == EXTENT_DIRTY && its == EXTENT_MUZZY &&
                                  neighbour->n_pages / MUZZY_FACTOR <= extent->n_pages);
    return joins && is_beside(neighbour, address, must_begin) ? neighbour : NULL;
}

static void file_alone(struct heap *heap, struct bins *bins, struct extent *extent, uint8_t state) {
    if (bins == &heap->dirty)
        age_push_newest(state == EXTENT_MUZZY ? &heap->muzzy_by_age : &heap->by_age, extent);
    heap_bins_link(heap, bins, extent);
}

void heap_bins_file(struct heap *heap, struct bins *bins, struct extent *extent) {
    uint8_t state = state_in(heap, bins, extent);
    /* Behind a muzzy neighbour that was too large for the next one there may be that one, dirty: so as far as
     * it goes. */
    struct extent *right, *left;
    while ((right = neighbour_to_join(heap, extent, extent_end(extent), true, state)) &&
           same_pinning(extent, right)) {
        heap_bins_unfile(heap, bins, right);
        heap_bins_join(heap, extent, right);
    }
    while ((left = neighbour_to_join(heap, extent, (char *)extent->address - 1, false, state)) &&
           same_pinning(extent, left)) {
        heap_bins_unfile(heap, bins, left);
        heap_bins_join(heap, left, extent);
        extent = left;
    }
    file_alone(heap, bins, extent, state);
}

void heap_bins_file_hole(struct heap *heap, struct extent *extent) {
    extent->flags = 0;
    heap_bins_file(heap, &heap->holes, extent);
}

bool heap_bins_carve(struct heap *heap, struct extent *extent, size_t n_pages, size_t align_pages,
                     struct bins *bins) {
    if (align_pages > 1) {
        size_t address = (uintptr_t)extent->address;
        size_t front = (align_up(address, align_pages << PAGE_SHIFT) - address) >> PAGE_SHIFT;
        if (front) {
            struct extent *rest = heap_bins_split(heap, extent, front);
            if (rest) {
                /* The caller holds the front: file that and go on with the aligned rest. */
                struct extent swap = *extent;
                WRITE_RELAXED(extent->address, rest->address);
                WRITE_RELAXED(extent->n_pages, rest->n_pages);
                extent->cls = rest->cls;
                WRITE_RELAXED(rest->address, swap.address);
                WRITE_RELAXED(rest->n_pages, swap.n_pages);
                rest->cls = swap.cls;
                space_enter(&heap->space, extent);
                space_enter(&heap->space, rest);
                heap_bins_file(heap, bins, rest);
            }
        }
    }
    if ((uintptr_t)extent->address % (align_pages << PAGE_SHIFT)) return false;
    if (extent->n_pages > n_pages) {
        struct extent *rest = heap_bins_split(heap, extent, n_pages);
        /* Dirty extents come here from their bins, at the same hold of the lock: what lies behind them did
         * not join the whole. */
        if (rest && bins == &heap->dirty)
            file_alone(heap, bins, rest, state_in(heap, bins, rest));
        else if (rest)
            heap_bins_file(heap, bins, rest);
    }
    return true;
}

struct extent *heap_bins_idle_before(struct heap *heap, const struct extent *extent, uint8_t state) {
    return idle_neighbour(heap, (char *)extent->address - 1, false, state);
}

struct extent *heap_bins_idle_after(struct heap *heap, const struct extent *extent, uint8_t state) {
    return idle_neighbour(heap, extent_end(extent), true, state);
}

void heap_bins_insert_idle(struct heap *heap, struct extent *extent) {
    extent_set_state(extent, EXTENT_BUSY);
    if (extent->flags & EXTENT_ZERO) {
        extent->flags &= EXTENT_ZERO | EXTENT_HUGE | EXTENT_MOVED | EXTENT_PINNED;
        heap_bins_file(heap, &heap->clean, extent);
        return;
    }
    if (extent->used_pages && extent->used_pages < extent->n_pages) {
        struct extent *headroom = heap_bins_split(heap, extent, extent->used_pages);
        if (headroom) {
            heap_forget_move(heap, headroom); /* what was moved lies before it */
            heap_bins_file(heap, &heap->clean, headroom);
        }
    }
    extent->flags &= EXTENT_HUGE | EXTENT_MOVED | EXTENT_PINNED;
    extent->policy = 0;
    extent->last_use_ms = os_clock_ms();
    heap_bins_file(heap, &heap->dirty, extent);
}

void heap_bins_set_unproven(struct heap *heap, struct extent *extent, size_t n_pages) {
    n_pages = min_size(n_pages, extent->used_pages);
    ADD_RELAXED(heap->unproven_bytes, (n_pages - extent->unproven_pages) << PAGE_SHIFT);
    WRITE_RELAXED(extent->unproven_pages, (uint32_t)n_pages);
}

/* A block comes back: what was not known of it does not matter any more. */
static void leave(struct heap *heap, struct extent *extent) {
    SUB_RELAXED(heap->active_bytes, extent_active_bytes(extent));
    heap_bins_set_unproven(heap, extent, 0);
}

void heap_bins_return(struct heap *heap, struct extent *extent) {
    leave(heap, extent);
    heap_bins_insert_idle(heap, extent);
}

void heap_bins_defer(struct heap *heap, struct extent *extent) {
    /* before it is on the list, where it is anybody's */
    atomic_fetch_add_explicit(&heap->deferred_bytes, heap_bins_deferred_weight(extent), memory_order_relaxed);
    struct extent *head = atomic_load_explicit(&heap->deferred, memory_order_relaxed);
    do
        extent->next = head;
    while (!atomic_compare_exchange_weak_explicit(&heap->deferred, &head, extent, memory_order_release,
                                                  memory_order_relaxed));
}

void heap_bins_drain_deferred(struct heap *heap) {
    if (likely(!atomic_load_explicit(&heap->deferred, memory_order_relaxed))) return;
    struct extent *list = atomic_exchange_explicit(&heap->deferred, NULL, memory_order_acquire);
    size_t n_bytes = 0;
    while (list) {
        struct extent *next = list->next;
        n_bytes += heap_bins_deferred_weight(list);
        if (list->flags & EXTENT_UNMAPPED) {
            heap_bins_file_hole(heap, list);
            list = next;
            continue;
        }
        /* freshly mapped or purged, or joined: never counted as active */
        if (extent_state(list) == EXTENT_BUSY) {
            list->used_pages = list->n_pages; /* what is not known to be zero is dirty to its end */
            heap_bins_publish(heap, list);
        } else {
            leave(heap, list);
        }
        heap_bins_insert_idle(heap, list);
        list = next;
    }
    atomic_fetch_sub_explicit(&heap->deferred_bytes, n_bytes, memory_order_relaxed);
}

/* Others may go on leaving blocks while these are taken back. Nobody works for others for ever: what is left
 * after so many times waits for the next holder. */
#define SERVE_TIMES 4

void heap_bins_serve(struct heap *heap) {
    for (int i = 0; i < SERVE_TIMES && atomic_load_explicit(&heap->deferred, memory_order_relaxed); i++) {
        if (unlikely(os_fault_lock()) || !lock_try(&heap->lock)) return;
        heap_bins_drain_deferred(heap);
        lock_release(&heap->lock);
    }
}
