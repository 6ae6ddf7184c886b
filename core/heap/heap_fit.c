/* SPDX-License-Identifier: MIT */
/* heap_fit.c: which idle extent serves a request. See heap_bins.h. */
#include "heap/heap_bins.h"

/* Of the extents in a bin, which differ by less than a class, the lowest of the first few is taken: packing
 * towards low addresses keeps the top free, and a bound keeps the search O(1). */
#define FIT_SCAN 12

/* For joining dirty with clean memory: how many of the largest dirty extents are looked at, and the least
 * share of the request that must be dirty. */
#define EXTEND_SCAN 16
#define EXTEND_SHARE 8

/* Idle neighbours an extent may be joined with at once. */
#define REACH_STEPS 16

/* The first non-empty bin at or above cls, or N_CLASSES. */
static unsigned first_bin(const struct bins *bins, unsigned cls) {
    unsigned word = cls / 64;
    uint64_t bits = READ_RELAXED(bins->nonempty[word]) & (~(uint64_t)0 << (cls % 64));
    while (!bits) {
        if (++word == BIN_WORDS) return N_CLASSES;
        bits = READ_RELAXED(bins->nonempty[word]);
    }
    return word * 64 + (unsigned)__builtin_ctzll(bits);
}

struct extent *heap_bins_take(struct heap *heap, struct bins *bins, size_t n_pages) {
    if (n_pages > CLASS_MAX_PAGES) return NULL;
    /* The bin below holds some that are just large enough: blocks of this very size, most likely. */
    unsigned cls = class_of_pages(n_pages);
    struct extent *best = NULL;
    int n_seen = 0;
    if (class_pages(cls) != n_pages) {
        for (struct extent *e = bins->head[cls - 1]; e && n_seen < FIT_SCAN; e = e->next, n_seen++)
            if (e->n_pages >= n_pages && (!best || e->n_pages < best->n_pages)) best = e;
        if (best) {
            heap_bins_unfile(heap, bins, best);
            return best;
        }
    }
    cls = first_bin(bins, cls);
    if (cls >= N_CLASSES) return NULL;
    best = bins->head[cls];
    n_seen = 0;
    for (struct extent *e = best; e && n_seen < FIT_SCAN; e = e->next, n_seen++)
        if (e->address < best->address) best = e;
    heap_bins_unfile(heap, bins, best);
    return best;
}

bool heap_bins_has(const struct bins *bins, size_t n_pages) {
    return n_pages <= CLASS_MAX_PAGES && first_bin(bins, class_of_pages(n_pages)) < N_CLASSES;
}

/* The last non-empty bin below cls, or 0. */
static unsigned last_bin_below(const struct bins *bins, unsigned cls) {
    unsigned word = cls / 64;
    uint64_t bits = cls % 64 ? bins->nonempty[word] & (((uint64_t)1 << (cls % 64)) - 1) : 0;
    while (!bits) {
        if (word-- == 0) return 0;
        bits = bins->nonempty[word];
    }
    return word * 64 + log2_floor(bits);
}

size_t heap_bins_reach_right(struct heap *heap, const struct extent *extent, size_t n_pages, char **end) {
    size_t found = extent->n_pages;
    *end = extent_end(extent);
    for (int i = 0; i < REACH_STEPS && found < n_pages && (uintptr_t)*end < heap->frontier; i++) {
        struct extent *neighbour = space_lookup(&heap->space, *end);
        if (neighbour->address != *end) break;
        if (!extent_is_idle(neighbour)) break;
        found += neighbour->n_pages;
        *end = extent_end(neighbour);
    }
    return found;
}

static bool extensible(struct heap *heap, const struct extent *extent, size_t n_pages) {
    struct extent *left = heap_bins_idle_before(heap, extent, EXTENT_CLEAN);
    if (left && extent->n_pages + left->n_pages >= n_pages) return true;
    char *end;
    return heap_bins_reach_right(heap, extent, n_pages, &end) >= n_pages || (uintptr_t)end == heap->frontier;
}

struct extent *heap_bins_take_extensible(struct heap *heap, size_t n_pages) {
    unsigned cls = class_of_pages(n_pages);
    int n_seen = 0;
    while ((cls = last_bin_below(&heap->dirty, cls)) != 0)
        for (struct extent *e = heap->dirty.head[cls]; e; e = e->next) {
            /* A small piece is not worth splitting a large clean run for. */
            if (n_seen++ == EXTEND_SCAN || e->n_pages < n_pages / EXTEND_SHARE) return NULL;
            if (!extensible(heap, e, n_pages)) continue;
            heap_bins_unfile(heap, &heap->dirty, e);
            return e;
        }
    return NULL;
}
