/* SPDX-License-Identifier: MIT */
/* space.h: the address space of a pool: one contiguous range that is mapped from the bottom up.
 *
 *   [ descriptors ... | counts | page map ... | page | base ............ frontier ......... base + span_max )
 *
 * Two ways to hold it:
 * - open (the preload library): a range in a part of the address space where nothing else is placed by
 *   default is planned but not reserved; memory is mapped exactly as the frontier rises. RLIMIT_AS,
 *   RLIMIT_DATA, strict overcommit, core dumps and mlockall therefore see what is in use and no more. If
 *   somebody else has mapped something there, mapping fails and the pool refuses from then on.
 * - reserved (pools made through the API, of which there may be many): an inaccessible reservation made at
 *   creation.
 *
 * Each of the three parts (the counts are mapped whole, with the map) is mapped from its bottom up as far as
 * it is in use, with equal attributes: three VMAs however often they grow, and nothing is charged, locked or
 * counted against a limit that is not needed. The page before base is never used: it is there so that the
 * first block, too, has a neighbour to be compared with (recycle.h).
 *
 * The counts say for each page of the page map, which describes a region of 4 MiB, how many of its entries
 * are not 0. Where the count is 0, the whole region lies inside one block: whoever looks for the block that
 * covers an address skips it. They run downwards from the page map, so that those of the first regions are in
 * a page that is in use anyway.
 *
 * Synchronization: base, span_max, page_map and extents are written once before the pool is published. Page
 * map and counts are written under the heap lock and read without it; those inside a live block do not
 * change. span grows under the heap lock, falls when the top is unmapped, and is read without it by everybody
 * (relaxed: a thread that holds a pointer into the pool got it through some synchronization with the thread
 * that raised span for it).
 */
#ifndef ZP_EXTENT_SPACE_H
#define ZP_EXTENT_SPACE_H

#include "extent/extent.h"

#include <stdatomic.h>

struct space {
    uintptr_t base;
    _Atomic size_t span; /* bytes that may hold blocks; one comparison with it tells who owns a pointer */
    _Atomic uint32_t *page_map; /* descriptor index of the extent that begins or ends at this page, else 0 */
    struct extent *extents;
    size_t span_max;
    bool reserved;
    void *reservation; /* of a reserved space: the mapping to unmap at the end */
    size_t reservation_bytes;
    bool has_gaps; /* some descriptors below n_extents could not be mapped */
    /* from the beginning of that mapping, where the counts are, to the page map */
    size_t map_lead_bytes;
    /* of the counts and the page map, mapped; and so far somebody is mapping them now without the heap
     * lock, 0 if nobody is: who sets that, with the lock held, may write map_bytes, and ends it without */
    _Atomic size_t map_bytes, map_growing_bytes;
    uint32_t n_extents; /* descriptors in mapped memory, handed out or not; heap lock */
    uint32_t n_extents_max;
};

/* Plan (open) or reserve a space of span_max bytes, a multiple of HUGE_BYTES. 0 or negative errno. */
int space_init(struct space *space, size_t span_max, bool reserved);
void space_destroy(struct space *space);

/* Make the range usable. Called without locks. 0 or negative errno; then nothing is
 * mapped there. */
int space_map(struct space *space, void *address, size_t length);

/* Does the page map cover the first n_bytes of the space? Heap lock held. Nobody may claim a range whose part
 * of the map is missing. */
bool space_reaches(const struct space *space, size_t n_bytes);

/* Make the page map cover them. 64 KiB of map describe 64 MiB of blocks, so the system call is rare. It may
 * wait for the page faults of all threads, so no lock is held over it. space_reach_begins needs the heap lock
 * and is false if another thread is extending the map; space_reach_ends follows without the lock. 0 or
 * negative errno. */
bool space_reach_begins(struct space *space, size_t n_bytes);
int space_reach_ends(struct space *space);
/* Both at once, where nobody waits for the lock. -EAGAIN if another thread is extending the map. */
int space_reach(struct space *space, size_t n_bytes);
/* In a forked child: the thread that was extending the map is not here. */
void space_forget_reach(struct space *space);

/* Map descriptors [first, first + count). Called without locks by the thread that claimed them. */
int space_map_extents(struct space *space, uint32_t first, uint32_t count);

/* Bytes from base of a pointer; anything >= span is foreign. */
static inline size_t space_offset(const struct space *space, const void *p) {
    return (uintptr_t)p - space->base;
}

static inline bool space_owns(const struct space *space, const void *p) {
    return space_offset(space, p) < READ_OPERAND(space->span);
}

/* The extent that begins or ends in this page; descriptor 0 if none does. p must be owned. */
static inline struct extent *space_lookup(const struct space *space, const void *p) {
    size_t page = space_offset(space, p) >> PAGE_SHIFT;
    return &space->extents[atomic_load_explicit(&space->page_map[page], memory_order_relaxed)];
}

/* The page map begins so far into its first page: the entries of the first blocks are then not in the cache
 * set where the first line of each page of these blocks is, which a program that steps through pages uses up
 * by itself. */
#define SPACE_MAP_COLOUR_BYTES (40 * CACHE_LINE)

#define SPACE_REGION_PAGES_LOG2 (PAGE_SHIFT - 2)
#define SPACE_REGION_OFFSET (SPACE_MAP_COLOUR_BYTES / sizeof(uint32_t))
/* The first page of a region; the first region is shorter than the others. */
static inline size_t space_first_page(size_t region) {
    return region ? (region << SPACE_REGION_PAGES_LOG2) - SPACE_REGION_OFFSET : 0;
}
static inline size_t space_region(size_t page) {
    return (page + SPACE_REGION_OFFSET) >> SPACE_REGION_PAGES_LOG2;
}

/* The number of entries of a region that are not 0. */
static inline _Atomic uint16_t *space_count(const struct space *space, size_t region) {
    return (_Atomic uint16_t *)space->page_map - 1 - region;
}

static inline void space_set_page(struct space *space, const void *p, uint32_t index) {
    size_t page = space_offset(space, p) >> PAGE_SHIFT;
    _Atomic uint16_t *count = space_count(space, space_region(page));
    uint16_t n = atomic_load_explicit(count, memory_order_relaxed);
    /* Reading an untouched page would be a page fault of its own before that of writing. */
    uint32_t before = n ? atomic_load_explicit(&space->page_map[page], memory_order_relaxed) : 0;
    atomic_store_explicit(&space->page_map[page], index, memory_order_relaxed);
    if (!before == !index) return;
    atomic_store_explicit(count, (uint16_t)(index ? n + 1 : n - 1), memory_order_relaxed);
}

/* The extent to which the page of p belongs if that is live; of other pages whatever begins or ends nearest
 * before it, or NULL. p must be owned. Takes no lock; any thread, any handler. A block of 64 GiB costs about
 * a microsecond. */
struct extent *space_find(const struct space *space, const void *p);

/* In a forked child whose parent was just writing them: count anew. */
void space_recount(struct space *space, size_t n_bytes);

/* For tests: do the counts of the first n_bytes agree with the page map? Heap lock held. */
bool space_counts_agree(const struct space *space, size_t n_bytes);

static inline uint32_t space_index(const struct space *space, const struct extent *extent) {
    return (uint32_t)(extent - space->extents);
}

/* Is this one of the space's descriptors? What was found where blocks are kept is mapped, then; another's may
 * not be read. */
static inline bool space_describes(const struct space *space, const struct extent *extent) {
    return ((uintptr_t)extent - (uintptr_t)space->extents) / sizeof *extent < READ_RELAXED(space->n_extents);
}

/* Enter an extent at its first and last page. */
static inline void space_enter(struct space *space, struct extent *extent) {
    uint32_t index = space_index(space, extent);
    space_set_page(space, extent->address, index);
    space_set_page(space, extent_end(extent) - 1, index);
}

#endif
