/* SPDX-License-Identifier: MIT */
/* tcache_fast.h: the fast paths of a thread cache, inline, so that the preload library can put them into
 * malloc and free themselves. All but tcache_take_block are called with the section entered.
 */
#ifndef ZP_CACHE_TCACHE_FAST_H
#define ZP_CACHE_TCACHE_FAST_H

#include "cache/tcache.h"

_Static_assert(TCACHE_BIN_PAGES <= CLASS_TABLE_PAGES, "what has bins is in the table");

/* Keeps the compiler from computing an address anew at each use. */
#define IN_A_REGISTER(pointer) __asm__("" : "+r"(pointer))

/* Take a block of a class below TCACHE_BIG_CLASS off its stack, or NULL. Entered. */
static inline struct extent *tcache_pop(struct tcache *tcache, unsigned cls) {
    struct tcache_bin *bin = &tcache->bins[cls];
    IN_A_REGISTER(bin);
    struct extent *extent = bin->head;
    if (unlikely(!extent)) return NULL;
    bin->head = extent->next;
    ADD_OWN(bin->room, 1);
    SUB_OWN(tcache->n_pages, extent->n_pages);
    ADD_OWN(tcache->n_hits[cls], 1);
    return extent;
}

/* Entered, and there is a block in it. */
static inline struct extent *tcache_serve_slot(struct tcache_slot *slot, void **address) {
    struct extent *extent = slot->extent;
    *address = slot->address;
    WRITE_RELAXED(slot->extent, NULL);
    ADD_OWN(slot->n_hits, 1);
    extent_set_state(extent, EXTENT_LIVE);
    return extent;
}

/* Take a block for n_bytes, at least 1, from a thread cache, or NULL; *address is where it begins. */
static inline struct extent *tcache_take_block(struct tcache *tcache, size_t n_bytes, void **address) {
    struct extent *extent = NULL;
    if (!tcache_enter(tcache)) return NULL;
    if (likely(tcache_slot_fits(&tcache->small, n_bytes)) && likely(tcache->small.extent)) {
        extent = tcache_serve_slot(&tcache->small, address);
    } else if (likely(tcache_slot_fits(&tcache->big, n_bytes)) && likely(tcache->big.extent)) {
        extent = tcache_serve_slot(&tcache->big, address);
    } else if (n_bytes <= TCACHE_BIN_PAGES * PAGE_BYTES &&
               (extent = tcache_pop(tcache, class_of_few_pages(((n_bytes - 1) >> PAGE_SHIFT) + 1)))) {
        *address = extent->address;
        extent_set_state(extent, EXTENT_LIVE);
    }
    tcache_leave(tcache);
    COUNT_IF(extent, gets_tcache);
    COUNT_GET(extent);
    return extent;
}

/* A slot is about to hold a block of another size than the last one, good for requests of up to n_fit - 1
 * pages less. Entered. */
static inline void tcache_fit_slot(struct tcache *tcache, struct tcache_slot *slot,
                                   const struct extent *extent, uint32_t n_fit) {
    if (slot->cls != extent->cls) {
        ADD_OWN(tcache->n_hits[slot->cls], slot->n_hits);
        WRITE_RELAXED(slot->n_hits, 0);
        WRITE_RELAXED(slot->cls, extent->cls);
    }
    uint32_t n_pages = slot->n_pages = extent->n_pages;
    slot->fit_from = ((size_t)(n_pages - n_fit) << PAGE_SHIFT) + 1;
    slot->fit_bytes = (size_t)n_fit << PAGE_SHIFT;
}

/* Entered; the slot is empty, and extent, which begins at p, is of the size that it held last. */
static inline void tcache_fill_slot(struct tcache_slot *slot, struct extent *extent, void *p) {
    WRITE_RELAXED(slot->extent, extent);
    slot->address = p;
    extent_set_state(extent, EXTENT_CACHED);
}

/* A block, live or cached, onto the stack of its class. False if that or the cache has no room. Entered. */
static inline bool tcache_push(struct tcache *tcache, struct extent *extent) {
    struct tcache_bin *bin = &tcache->bins[extent->cls];
    IN_A_REGISTER(bin);
    uint32_t n_pages = tcache->n_pages + extent->n_pages, room = bin->room;
    if (!room || n_pages > READ_RELAXED(tcache->limit_pages)) return false;
    extent->next = bin->head;
    extent_set_state(extent, EXTENT_CACHED);
    bin->head = extent;
    WRITE_RELAXED(bin->room, room - 1);
    WRITE_RELAXED(tcache->n_pages, n_pages);
    return true;
}

/* Does the limit allow one more block in bins, or in the slot before them? It holds for each put, so that who
 * lives in the slot hears of a lower one. Entered. */
static inline bool tcache_has_room(const struct tcache *tcache, uint32_t n_pages) {
    return tcache->n_pages + n_pages <= READ_OPERAND(tcache->limit_pages);
}

/* Put a live block, which begins at p, into the slot that held one of its size before; false if that is not
 * free or has no room. Entered. */
static inline bool tcache_put_back(struct tcache *tcache, struct extent *extent, void *p) {
    uint32_t n_pages = extent->n_pages;
    if (likely(n_pages == tcache->small.n_pages) && likely(!tcache->small.extent) &&
        likely(tcache_has_room(tcache, n_pages))) {
        tcache_fill_slot(&tcache->small, extent, p);
        return true;
    }
    /* Likely, or the compiler lets this one jump back and forth. */
    if (likely(n_pages == tcache->big.n_pages) && likely(!tcache->big.extent) &&
        likely(READ_OPERAND(tcache->big_slot_unchecked))) {
        tcache_fill_slot(&tcache->big, extent, p);
        return true;
    }
    return false;
}

/* Put a block, live or cached, of a size that has a bin into the slot, whatever that holds or held; false if
 * there is no room. Entered. */
static inline bool tcache_put_small(struct tcache *tcache, struct extent *extent, void *p) {
    _Static_assert(TCACHE_BIN_PAGES == 4 * CLASS_STEPS, "classes that have bins are one or two pages wide");
    if (!tcache_has_room(tcache, extent->n_pages)) return false;
    /* The block returned last, whose memory is the warmest, goes into the slot and the one before it on its
     * stack. */
    struct extent *before = tcache->small.extent;
    if (before) {
        if (!tcache_push(tcache, before)) return false;
        WRITE_RELAXED(tcache->small.extent, NULL);
    }
    if (tcache->small.n_pages != extent->n_pages)
        tcache_fit_slot(tcache, &tcache->small, extent, 1 + (extent->n_pages > 2 * CLASS_STEPS));
    tcache_fill_slot(&tcache->small, extent, p);
    return true;
}

/* The same for the others: good for requests that are up to 1/16 smaller, and have no bin. The caller has
 * checked the block, or seen that none is needed (big_slot_unchecked). */
static inline bool tcache_put_big(struct tcache *tcache, struct extent *extent, void *p) {
    if (tcache->big.extent) return false;
    if (tcache->big.n_pages != extent->n_pages) {
        size_t n_fit = min_size(extent->n_pages / (CLASS_STEPS + 1) + 1, extent->n_pages - TCACHE_BIN_PAGES);
        tcache_fit_slot(tcache, &tcache->big, extent, (uint32_t)n_fit);
    }
    tcache_fill_slot(&tcache->big, extent, p);
    return true;
}

#endif
