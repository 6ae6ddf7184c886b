/* SPDX-License-Identifier: MIT */
/* extent.h: the descriptor of a run of pages, and the page map that finds it.
 *
 * All metadata is out of line: nothing is ever written into memory that the program freed, so a stale write
 * of the program cannot corrupt the pool.
 *
 * Invariants
 *   - every page of the space below the frontier belongs to exactly one extent, but pages whose mapping
 *     failed, which belong to none;
 *   - the page map names an extent at its first and its last page, and holds 0 at every page between, so that
 *     an interior pointer is recognised and a neighbour is found in O(1);
 *   - descriptor 0 is never used: its address is NULL, so it matches no pointer and lookups need no test for
 *     it.
 *
 * Who may touch what:
 * - state LIVE: the thread that frees the block; the page map entries of its pages are stable meanwhile. Of
 *   its flags recycle_note sets some, atomically, for whatever thread of the program changes the block;
 * - state CACHED: the owner of the list it is on (a thread cache's owner, or the shard's lock);
 * - all other states: the heap lock.
 * The fields older/newer belong to the heap lock while the extent is DIRTY and to the shard lock while it is
 * on a shard.
 */
#ifndef ZP_EXTENT_EXTENT_H
#define ZP_EXTENT_EXTENT_H

#include "base/bits.h"

enum extent_state {
    EXTENT_UNUSED, /* descriptor without pages; descriptor 0 always is one */
    EXTENT_LIVE,   /* the program holds it */
    EXTENT_CACHED, /* idle, on a thread cache or shard list: invisible to coalescing */
    EXTENT_DIRTY,  /* idle in the heap, resident */
    /* the same, and marked for the kernel to take when it is short of memory; contents undefined */
    EXTENT_MUZZY,
    EXTENT_CLEAN, /* idle in the heap, reads as zero, costs no memory */
    EXTENT_BUSY,  /* between lists: being mapped, purged or moved by the thread that took it off */
    EXTENT_HOLE,  /* idle in the heap, unmapped: addresses only, mapped anew when they are needed */
    EXTENT_LOST,  /* addresses that somebody else has taken, or may have; never used again */
};

enum extent_flag {
    EXTENT_ZERO = 1,    /* never written since it was mapped or purged; cleared when the block is freed */
    EXTENT_HUGE = 2,    /* huge pages were asked for; the advice must go when the pages go */
    EXTENT_GREW = 4,    /* realloc has grown this block before: worth address headroom next time */
    EXTENT_OBSERVE = 8, /* handed out fresh: on free, see how much of it was touched */
    EXTENT_CALLOC = 16, /* handed out zeroed */
    EXTENT_MOVED = 32,  /* pages were moved here by the kernel: a separate VMA */
    EXTENT_PINNED = 64, /* locked in RAM */
    EXTENT_HOT = 128,   /* CLOCK-Pro: hot */
    EXTENT_CHECK = 256, /* on free: has the program left VMA attributes on it? */
    /* the program has changed attributes of its pages: undo that before anybody else gets them */
    EXTENT_CHANGED = 512,
    EXTENT_REPLACED = 1024, /* the program has put other mappings or guards in their place: map them anew */
    EXTENT_EARLY = 2048,    /* on free: EXTENT_CHECK, if few have been checked so far */
    /* between heap and pool: what was untouched of it has been made resident; of a live block: all of it */
    EXTENT_POPULATED = 4096,
    EXTENT_MARKED = 8192,    /* between lists: to be filed as MUZZY, not as DIRTY */
    EXTENT_UNMAPPED = 16384, /* between lists: to be filed as HOLE */
};
_Static_assert((EXTENT_ZERO | EXTENT_HUGE | EXTENT_GREW | EXTENT_OBSERVE | EXTENT_CALLOC | EXTENT_MOVED |
                EXTENT_PINNED | EXTENT_HOT | EXTENT_CHECK | EXTENT_CHANGED | EXTENT_REPLACED | EXTENT_EARLY |
                EXTENT_POPULATED | EXTENT_MARKED | EXTENT_UNMAPPED) == 32767,
               "each its own bit");

struct extent {
    void *address;
    struct extent *next, *prev; /* bin, cache or shard list */
    union {
        struct {
            struct extent *older, *newer; /* resident extents in the heap, and shard contents, by age */
        };
        /* of a block out of the heap and on no shard: untouched when it was handed out, and not known to be
         * used since; 0 before it goes to a shard; heap lock. account.c reads it of blocks of others, which
         * may go to a list meanwhile: so `older` is written as one word, and the answer cut to the block's
         * size there */
        uint32_t unproven_pages;
    };
    uint32_t n_pages;
    uint32_t used_pages; /* of a live block: what the program may use; the rest is address headroom */
    union {
        uint32_t last_use_ms; /* of an idle block: when it was put here */
        uint32_t caller;      /* of a live block with EXTENT_CALLOC: who asked for it (zero.h) */
    };
    uint16_t cls; /* class_floor(n_pages) */
    uint8_t state;
    uint8_t policy; /* CLOCK-Pro: reference and test bits */
    /* Of a live block with EXTENT_CHANGED: only the protection of these pages of it was changed;
     * changed_pages 0: anything of any page. Without that flag they mean nothing. Written with the flags, as
     * one word, by recycle_note. */
    uint16_t flags, changed_pages;
    uint32_t changed_from;
};
_Static_assert(sizeof(struct extent) == 64 && offsetof(struct extent, flags) == 56,
               "one cache line, and the last word of it");

/* Neighbours look at the state under the heap lock while the owner of a block flips it between LIVE and
 * CACHED without: neither is what they look for. */
static inline uint8_t extent_state(const struct extent *extent) {
    return READ_RELAXED(extent->state);
}
static inline void extent_set_state(struct extent *extent, uint8_t state) {
    WRITE_RELAXED(extent->state, state);
}

/* Idle in the heap: resident; or mapped at least. Holes are neither. */
static inline bool extent_is_resident_idle(const struct extent *extent) {
    return extent_state(extent) == EXTENT_DIRTY || extent_state(extent) == EXTENT_MUZZY;
}
static inline bool extent_is_idle(const struct extent *extent) {
    return extent_is_resident_idle(extent) || extent_state(extent) == EXTENT_CLEAN;
}

static inline size_t extent_bytes(const struct extent *extent) {
    return (size_t)READ_RELAXED(extent->n_pages) << PAGE_SHIFT;
}

/* What a block counts for while it is out of the heap: its address headroom costs nothing. */
static inline size_t extent_active_bytes(const struct extent *extent) {
    return (size_t)extent->used_pages << PAGE_SHIFT;
}

static inline char *extent_end(const struct extent *extent) {
    return (char *)extent->address + extent_bytes(extent);
}

/* --- circular lists by age, with a sentinel --- */

static inline void age_list_init(struct extent *sentinel) {
    sentinel->older = sentinel->newer = sentinel;
}

/* The sentinel's older is the newest extent, its newer the oldest. */
static inline void age_push_newest(struct extent *sentinel, struct extent *extent) {
    WRITE_RELAXED(extent->older, sentinel->older);
    extent->newer = sentinel;
    sentinel->older->newer = extent;
    sentinel->older = extent;
}

static inline void age_insert_after(struct extent *older, struct extent *extent) {
    WRITE_RELAXED(extent->older, older);
    extent->newer = older->newer;
    WRITE_RELAXED(older->newer->older, extent);
    older->newer = extent;
}

static inline void age_remove(struct extent *extent) {
    extent->older->newer = extent->newer;
    WRITE_RELAXED(extent->newer->older, extent->older);
    WRITE_RELAXED(extent->older, NULL); /* and with it unproven_pages */
}

static inline struct extent *age_oldest(struct extent *sentinel) {
    return sentinel->newer == sentinel ? NULL : sentinel->newer;
}

/* --- doubly linked bins with a plain head --- */

static inline void bin_push(struct extent **head, struct extent *extent) {
    extent->prev = NULL;
    extent->next = *head;
    if (*head) (*head)->prev = extent;
    *head = extent;
}

static inline void bin_remove(struct extent **head, struct extent *extent) {
    if (extent->prev)
        extent->prev->next = extent->next;
    else
        *head = extent->next;
    if (extent->next) extent->next->prev = extent->prev;
}

#endif
