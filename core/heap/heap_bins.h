/* SPDX-License-Identifier: MIT */
/* heap_bins.h: the moving parts of the extent heap. Every function needs the heap lock, except
 * heap_bins_defer. */
#ifndef ZP_HEAP_HEAP_BINS_H
#define ZP_HEAP_HEAP_BINS_H

#include "heap/heap.h"

/* Descriptors. new_extent returns NULL when none is left. */
void heap_bins_add_extents(struct heap *heap, uint32_t first, uint32_t count);
struct extent *heap_bins_new_extent(struct heap *heap);
void heap_bins_drop_extent(struct heap *heap, struct extent *extent);

/* Enter newly mapped memory in the page map and let the ownership test cover it. */
void heap_bins_publish(struct heap *heap, struct extent *extent);

/* Cut an extent that is on no list after n_pages; returns the rest (same flags), or NULL without
 * descriptors. */
struct extent *heap_bins_split(struct heap *heap, struct extent *extent, size_t n_pages);

/* Append the right neighbour, which is on no list, to an extent and drop its descriptor. */
void heap_bins_join(struct heap *heap, struct extent *left, struct extent *right);

/* File an extent that is on no list under dirty or clean, merging it with neighbours of the same kind. A
 * dirty one is the newest afterwards. */
void heap_bins_file(struct heap *heap, struct bins *bins, struct extent *extent);
/* EXTENT_MARKED says that it was muzzy, and goes with what is split off: it must go itself where the extent
 * is handed out. */
void heap_bins_unfile(struct heap *heap, struct bins *bins, struct extent *extent);

/* File an extent that is on no list and has no memory any more. */
void heap_bins_file_hole(struct heap *heap, struct extent *extent);

/* The bins of an idle extent that is mapped. */
static inline struct bins *heap_bins_of(struct heap *heap, const struct extent *extent) {
    return extent_is_resident_idle(extent) ? &heap->dirty : &heap->clean;
}

/* So many pages of a block that is out of the heap are not known to be used; no more than it uses. */
void heap_bins_set_unproven(struct heap *heap, struct extent *extent, size_t n_pages);

/* Put an extent that is on no bin into its own, as it is; a dirty one is on the list by age already. */
void heap_bins_link(struct heap *heap, struct bins *bins, struct extent *extent);

/* How many pages an extent would have with the idle neighbours to its right, looking no further than n_pages.
 * *end is where they end, which may be the frontier. */
size_t heap_bins_reach_right(struct heap *heap, const struct extent *extent, size_t n_pages, char **end);

/* Take the best fit of at least n_pages off the bins, state BUSY; NULL if there is none. */
struct extent *heap_bins_take(struct heap *heap, struct bins *bins, size_t n_pages);

/* Would that find one? False where only a search could tell. Without the lock it is a hint. */
bool heap_bins_has(const struct bins *bins, size_t n_pages);

/* Cut the front and the tail off a taken extent, so that the rest is aligned and has n_pages. Both go back to
 * bins of their kind. If descriptors ran out, the extent stays larger than asked for; false if it is not
 * aligned then. Not where ensure_descriptors has succeeded at the same hold of the lock. */
bool heap_bins_carve(struct heap *heap, struct extent *extent, size_t n_pages, size_t align_pages,
                     struct bins *bins);

/* The idle extent of this state that ends where an extent begins, or NULL. */
struct extent *heap_bins_idle_before(struct heap *heap, const struct extent *extent, uint8_t state);

/* The same for one that begins where an extent ends. */
struct extent *heap_bins_idle_after(struct heap *heap, const struct extent *extent, uint8_t state);

/* Take, of the largest dirty extents, one that would have n_pages together with its idle neighbours or the
 * frontier. */
struct extent *heap_bins_take_extensible(struct heap *heap, size_t n_pages);

/* File a block that the program or a cache has returned: used part dirty, unused address headroom clean. */
void heap_bins_insert_idle(struct heap *heap, struct extent *extent);

/* The same for one that has counted as handed out. */
void heap_bins_return(struct heap *heap, struct extent *extent);

/* Without the lock: fetch what a return will look at, the neighbours' descriptors, so that others do not wait
 * for the memory. What is read may be out of date by the time the lock is held; nothing is concluded from
 * it. */
static inline void heap_prefetch(const struct heap *heap, const struct extent *extent) {
    const struct space *space = &heap->space;
    if (space_owns(space, (char *)extent->address - 1))
        __builtin_prefetch(space_lookup(space, (char *)extent->address - 1));
    if (space_owns(space, extent_end(extent))) __builtin_prefetch(space_lookup(space, extent_end(extent)));
}

/* Lock-free: leave an extent for the next holder of the lock. EXTENT_ZERO in its flags says that it is
 * clean. */
void heap_bins_defer(struct heap *heap, struct extent *extent);
void heap_bins_drain_deferred(struct heap *heap);

/* Without the lock: take back what has been left, unless somebody holds the lock: he will. */
void heap_bins_serve(struct heap *heap);

/* Release the lock, and take back what was left meanwhile: who leaves a block serves afterwards, and finds
 * the lock held. There is no barrier between the release and the look, so it can happen that neither of
 * the two takes a block back; it waits for the next holder, or for decay_tick.
 * (core/tests/models/deferred.pml) */
static inline void heap_bins_unlock(struct heap *heap) {
    lock_release(&heap->lock);
    if (unlikely(atomic_load_explicit(&heap->deferred, memory_order_relaxed))) heap_bins_serve(heap);
}

/* Blocks are left to the holder as long as all that lie there count for less than this: they count as
 * active meanwhile, and one hold of the lock takes all of them back. A small block counts for more than it
 * is, so the list is short, too. */
#define DEFER_MAX_BYTES MIB
#define DEFER_LEAST_BYTES (DEFER_MAX_BYTES / 16)
static inline size_t heap_bins_deferred_weight(const struct extent *extent) {
    return max_size(extent_bytes(extent), DEFER_LEAST_BYTES);
}

#endif
