/* SPDX-License-Identifier: MIT */
/* space.h: the address space of a pool: one contiguous range that is mapped from the bottom up.
 *
 *   [ descriptors ... | page map ... | page | base ............ frontier ......... base + span_max )
 *
 * Two ways to hold it:
 *   open      (the preload library) a range in a part of the address space where nothing else is placed by default is
 *             planned but not reserved; memory is mapped exactly as the frontier rises. RLIMIT_AS, RLIMIT_DATA,
 *             strict overcommit, core dumps and mlockall therefore see what is in use and no more. If somebody else
 *             has mapped something there, mapping fails and the pool refuses from then on.
 *   reserved  (pools made through the API, of which there may be many) an inaccessible reservation made at creation.
 *
 * Each of the three parts is mapped from its bottom up as far as it is in use, with equal attributes: three VMAs however
 * often they grow, and nothing is charged, locked or counted against a limit that is not needed. The page before base is never used:
 * it is there so that the first block, too, has a neighbour to be compared with (recycle.h).
 *
 * Synchronization: base, span_max, page_map and extents are written once before the pool is published. span grows under
 * the heap lock, falls when the top is unmapped, and is read without it by everybody (relaxed: a thread that holds a pointer into the pool got it
 * through some synchronization with the thread that raised span for it).
 */
#ifndef ZP_POOL_SPACE_H
#define ZP_POOL_SPACE_H

#include "pool/extent.h"

#include <stdatomic.h>

struct space {
    uintptr_t base;
    _Atomic size_t span;         /* bytes that may hold blocks: the ownership test is one compare with it */
    _Atomic uint32_t *page_map;  /* descriptor index of the extent that begins or ends at this page, else 0 */
    struct extent *extents;
    size_t span_max;
    bool reserved;
    void *reservation;           /* of a reserved space: what to unmap in the end */
    size_t reservation_bytes;
    size_t map_bytes;            /* of the page map, mapped; heap lock */
    bool has_gaps;               /* some descriptors below n_extents could not be mapped */
    uint32_t n_extents;          /* descriptors in mapped memory, handed out or not; heap lock */
    uint32_t n_extents_max;
};

/* Plan (open) or reserve a space of span_max bytes, a multiple of HUGE_BYTES. 0 or negative errno. */
int space_init(struct space *space, size_t span_max, bool reserved);
void space_destroy(struct space *space);

/* Make the range usable. Called without locks, except by space_reach. 0 or negative errno; then nothing is mapped there. */
int space_map(struct space *space, void *address, size_t length);

/* Make the page map cover the first n_bytes of the space. Called with the heap lock held: nobody may claim a range while its part
 * of the map is still missing. 64 KiB of map describe 64 MiB of blocks, so the call this makes is rare. */
int space_reach(struct space *space, size_t n_bytes);

/* Map descriptors [first, first + count). Called without locks by the thread that claimed them. */
int space_map_extents(struct space *space, uint32_t first, uint32_t count);

/* Bytes from base of a pointer; anything >= span is foreign. */
static inline size_t space_offset(const struct space *space, const void *p)
{
    return (uintptr_t)p - space->base;
}

static inline bool space_owns(const struct space *space, const void *p)
{
    return space_offset(space, p) < READ_OPERAND(space->span);
}

/* The extent that begins or ends in this page; descriptor 0 if none does. p must be owned. */
static inline struct extent *space_lookup(const struct space *space, const void *p)
{
    size_t page = space_offset(space, p) >> PAGE_SHIFT;
    return &space->extents[atomic_load_explicit(&space->page_map[page], memory_order_relaxed)];
}

static inline void space_set_page(struct space *space, const void *p, uint32_t index)
{
    size_t page = space_offset(space, p) >> PAGE_SHIFT;
    atomic_store_explicit(&space->page_map[page], index, memory_order_relaxed);
}

static inline uint32_t space_index(const struct space *space, const struct extent *extent)
{
    return (uint32_t)(extent - space->extents);
}

/* Is this one of the space's descriptors? What was found where blocks are kept is mapped, then; another's may not be read. */
static inline bool space_describes(const struct space *space, const struct extent *extent)
{
    return ((uintptr_t)extent - (uintptr_t)space->extents) / sizeof *extent < READ_RELAXED(space->n_extents);
}

/* Enter an extent at its first and last page. */
static inline void space_enter(struct space *space, struct extent *extent)
{
    uint32_t index = space_index(space, extent);
    space_set_page(space, extent->address, index);
    space_set_page(space, extent_end(extent) - 1, index);
}

#endif
