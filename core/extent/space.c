/* SPDX-License-Identifier: MIT */
/* space.c: finding and mapping the pool's address range. */
#include "extent/space.h"

#include "os/os.h"

#include <errno.h>

/* Open spaces lie where nobody else claims addresses: docs/address-space.md has the list. Above is what
 * begins at 32 TiB (SPDK, mimalloc's huge pages, the race detector of Go), below the views of Java's ZGC up
 * to 20 TiB. */
#define OPEN_LOW ((uintptr_t)22 << 40)
#define OPEN_HIGH ((uintptr_t)31 << 40)
#define OPEN_TRIES 8
#define MAP_STEP_BYTES (64 * KIB)
/* Between the page map and the first block; its last page is the first block's neighbour. */
#define GAP_BYTES HUGE_BYTES
struct layout {
    size_t extents_bytes, lead_bytes, map_bytes, total_bytes;
};

/* One descriptor per two pages is enough for blocks of one page separated by free ones. */
static struct layout plan(size_t span_max) {
    struct layout layout;
    size_t n_pages = span_max >> PAGE_SHIFT;
    layout.extents_bytes = align_up((n_pages + 2) * sizeof(struct extent), HUGE_BYTES);
    size_t counts_bytes = (space_region(n_pages) + 1) * sizeof(uint16_t);
    layout.lead_bytes = SPACE_MAP_COLOUR_BYTES;
    if (counts_bytes > SPACE_MAP_COLOUR_BYTES)
        layout.lead_bytes += align_up(counts_bytes - SPACE_MAP_COLOUR_BYTES, PAGE_BYTES);
    layout.map_bytes = align_up(layout.lead_bytes + n_pages * sizeof(uint32_t), HUGE_BYTES);
    layout.total_bytes = layout.extents_bytes + layout.map_bytes + GAP_BYTES + span_max;
    return layout;
}

static void place(struct space *space, uintptr_t bottom, struct layout layout) {
    space->extents = (struct extent *)bottom;
    space->page_map = (_Atomic uint32_t *)(bottom + layout.extents_bytes + layout.lead_bytes);
    space->map_lead_bytes = layout.lead_bytes;
    space->base = bottom + layout.extents_bytes + layout.map_bytes + GAP_BYTES;
    atomic_init(&space->map_bytes, 0);
}

static char *map_start(const struct space *space) {
    return (char *)space->page_map - space->map_lead_bytes;
}

static void *page_before(const struct space *space) {
    return (void *)(space->base - PAGE_BYTES);
}

static int map_beginning(struct space *space) {
    int error = space_map(space, page_before(space), PAGE_BYTES);
    if (error) return error;
    error = space_reach(space, 1);
    if (error && !space->reserved) os_unmap(page_before(space), PAGE_BYTES);
    return error;
}

int space_init(struct space *space, size_t span_max, bool reserved) {
    struct layout layout = plan(span_max);
    space->span_max = span_max;
    space->reserved = reserved;
    space->n_extents_max = (uint32_t)min_size(layout.extents_bytes / sizeof(struct extent), UINT32_MAX);
    int error = -ENOMEM;
    if (reserved) {
        space->reservation_bytes = layout.total_bytes + HUGE_BYTES;
        error = os_reserve(space->reservation_bytes, &space->reservation);
        if (error) return error;
        place(space, align_up((uintptr_t)space->reservation, HUGE_BYTES), layout);
        error = map_beginning(space);
        if (error) space_destroy(space);
        return error;
    }
    for (int attempt = 0; attempt < OPEN_TRIES; attempt++) {
        uintptr_t room = OPEN_HIGH - OPEN_LOW - layout.total_bytes;
        place(space, OPEN_LOW + align_down(os_random() % room, HUGE_BYTES), layout);
        error = map_beginning(space);
        if (!error) return 0;
    }
    return error;
}

void space_destroy(struct space *space) {
    if (space->reserved) {
        os_unmap(space->reservation, space->reservation_bytes);
    } else {
        /* Only what was mapped: the rest of the planned range may be somebody else's by now. */
        if (space->n_extents)
            os_unmap(space->extents, align_up(space->n_extents * sizeof(struct extent), PAGE_BYTES));
        os_unmap(map_start(space), space->map_bytes);
        size_t span = atomic_load_explicit(&space->span, memory_order_relaxed);
        os_unmap(page_before(space), PAGE_BYTES + span);
    }
}

int space_map(struct space *space, void *address, size_t length) {
    return space->reserved ? os_remap_fresh(address, length) : os_map_at(address, length);
}

static size_t map_bytes_for(const struct space *space, size_t n_bytes) {
    return align_up(space->map_lead_bytes + pages_of(n_bytes) * sizeof(uint32_t), MAP_STEP_BYTES);
}

bool space_reaches(const struct space *space, size_t n_bytes) {
    /* acquire: pairs with space_reach_ends */
    return map_bytes_for(space, n_bytes) <= atomic_load_explicit(&space->map_bytes, memory_order_acquire);
}

bool space_reach_begins(struct space *space, size_t n_bytes) {
    /* acquire: the last thread that mapped has written map_bytes */
    if (atomic_load_explicit(&space->map_growing_bytes, memory_order_acquire)) return false;
    size_t bytes = max_size(map_bytes_for(space, n_bytes),
                            atomic_load_explicit(&space->map_bytes, memory_order_relaxed));
    atomic_store_explicit(&space->map_growing_bytes, bytes, memory_order_relaxed);
    return true;
}

int space_reach_ends(struct space *space) {
    size_t had = atomic_load_explicit(&space->map_bytes, memory_order_relaxed);
    size_t wanted = atomic_load_explicit(&space->map_growing_bytes, memory_order_relaxed);
    int error = wanted > had ? space_map(space, map_start(space) + had, wanted - had) : 0;
    if (!error) atomic_store_explicit(&space->map_bytes, wanted, memory_order_release);
    atomic_store_explicit(&space->map_growing_bytes, 0, memory_order_release);
    return error;
}

int space_reach(struct space *space, size_t n_bytes) {
    if (likely(space_reaches(space, n_bytes))) return 0;
    return space_reach_begins(space, n_bytes) ? space_reach_ends(space) : -EAGAIN;
}

void space_forget_reach(struct space *space) {
    size_t had = atomic_load_explicit(&space->map_bytes, memory_order_relaxed);
    size_t wanted = atomic_load_explicit(&space->map_growing_bytes, memory_order_relaxed);
    /* It may be mapped already; in an open space nobody is placed over what is. */
    if (wanted > had && !space->reserved) os_unmap(map_start(space) + had, wanted - had);
    atomic_store_explicit(&space->map_growing_bytes, 0, memory_order_relaxed);
}

int space_map_extents(struct space *space, uint32_t first, uint32_t count) {
    return space_map(space, space->extents + first, (size_t)count * sizeof(struct extent));
}

/* --- from an address inside a block to the block --- */

#define NOTHING SIZE_MAX

/* The last page from first to page whose entry is not 0; NOTHING if there is none. */
static size_t last_entry(const struct space *space, size_t first, size_t page) {
    const _Atomic uint32_t *map = space->page_map;
    for (;; page--) {
        /* Two entries at a time; first is even. */
        while (page % 2 &&
               !__atomic_load_n((const uint64_t *)(const void *)&map[page - 1], __ATOMIC_RELAXED)) {
            if (page - 1 == first) return NOTHING;
            page -= 2;
        }
        if (atomic_load_explicit(&map[page], memory_order_relaxed)) return page;
        if (page == first) return NOTHING;
    }
}

/* The last region before this one whose count is not 0; NOTHING if there is none. */
static size_t busy_region_before(const struct space *space, size_t region) {
    while (region-- > 0) {
        /* Four at once, of regions falling from one whose number is a multiple of four and three more. */
        while (region % 4 == 3 && !__atomic_load_n((const uint64_t *)(const void *)space_count(space, region),
                                                   __ATOMIC_RELAXED)) {
            if (region == 3) return NOTHING;
            region -= 4;
        }
        if (atomic_load_explicit(space_count(space, region), memory_order_relaxed)) return region;
    }
    return NOTHING;
}

struct extent *space_find(const struct space *space, const void *p) {
    size_t page = space_offset(space, p) >> PAGE_SHIFT, region = space_region(page);
    size_t found = atomic_load_explicit(space_count(space, region), memory_order_relaxed)
                       ? last_entry(space, space_first_page(region), page)
                       : NOTHING;
    while (found == NOTHING) {
        region = busy_region_before(space, region);
        if (region == NOTHING) return NULL;
        found = last_entry(space, space_first_page(region), space_first_page(region + 1) - 1);
    }
    return &space->extents[atomic_load_explicit(&space->page_map[found], memory_order_relaxed)];
}

/* The entries of a region, of the first n_pages, that are not 0. */
static uint16_t count_region(const struct space *space, size_t region, size_t n_pages) {
    uint16_t n = 0;
    for (size_t page = space_first_page(region); page < space_first_page(region + 1) && page < n_pages;
         page++)
        n = (uint16_t)(n + (atomic_load_explicit(&space->page_map[page], memory_order_relaxed) != 0));
    return n;
}

void space_recount(struct space *space, size_t n_bytes) {
    size_t n_pages = pages_of(n_bytes);
    for (size_t region = 0; space_first_page(region) < n_pages; region++) {
        _Atomic uint16_t *count = space_count(space, region);
        uint16_t n = count_region(space, region, n_pages);
        if (n != atomic_load_explicit(count, memory_order_relaxed))
            atomic_store_explicit(count, n, memory_order_relaxed);
    }
}

bool space_counts_agree(const struct space *space, size_t n_bytes) {
    size_t n_pages = pages_of(n_bytes);
    for (size_t region = 0; space_first_page(region) < n_pages; region++)
        if (count_region(space, region, n_pages) !=
            atomic_load_explicit(space_count(space, region), memory_order_relaxed))
            return false;
    return true;
}
