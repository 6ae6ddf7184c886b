/* SPDX-License-Identifier: MIT */
/* recycle.h: memory that is used again must not carry over what its last owner did to it.
 *
 * munmap forgets mlock, mprotect, MADV_DONTFORK, MADV_WIPEONFORK, MADV_DONTDUMP, guards, overlays by
 * MAP_FIXED; a recycled block keeps them.
 *
 * Told. The preload library interposes the calls that do such things and notes them here. A block that was
 * noted is put right when it is freed, when realloc gives a part of it back and when realloc leaves it,
 * whatever its size. Where all that was done is that some pages were protected, as guards of stacks are, the
 * block remembers which: they alone are put right, and the program that undoes it itself leaves a block like
 * any other.
 *
 * Asked. System calls that a program makes past the C library are not noted, nor is anything in pools made
 * through the API. The kernel can be asked: one mremap that cannot succeed says whether the block lies in one
 * VMA with its neighbours. It takes the lock of the process's address space, 0.2 us alone and far more where
 * threads meet at it, so it is a sample only:
 * - the first RECYCLE_CHECK_ALL blocks of at least RECYCLE_MIN_BYTES that are freed after coming from heap or
 *   shard, and until then all that the thread caches' big slots take: programs that treat their memory so do
 *   it from the start;
 * - after that every RECYCLE_CHECK_EVERYth block from the heap, and a big slot once a second where the
 *   background thread runs and is not narrow (helper.c);
 * - a block that is found changed is put right, and if that shows that the program did it, every block of at
 *   least RECYCLE_MIN_BYTES is checked at every free from then on, until RECYCLE_QUIET checks in a row have
 *   found nothing. Where it was one of those that thread caches keep in bins (up to 256 KiB), neither the
 *   bins nor the slot before them take any that large meanwhile.
 *
 * What remains: a program that begins to do so by raw system calls after that may see one such block recycled
 * unmended. Guards (MADV_GUARD_INSTALL) made so are not found at all, since the kernel does not tell of
 * them.
 */
#ifndef ZP_LEARN_RECYCLE_H
#define ZP_LEARN_RECYCLE_H

#include "cache/tcache.h"

#define RECYCLE_MIN_BYTES TCACHE_GROW_FROM
#define RECYCLE_CHECK_ALL 64
#define RECYCLE_CHECK_EVERY 509 /* prime: programs repeat themselves in all kinds of rounds */
#define RECYCLE_QUIET 1024      /* 0.5 ms of checks */

struct recycle {
    struct tcaches *caches; /* of the pool, with its shards and heap */
    /* > 0: the program changes blocks without our being told, so every free is checked until so many more
     * checks have found nothing */
    uint32_t check_every_free;
    size_t unwatched_limit_bytes; /* caches->limit_bytes before that */
    struct extent *last_noted;    /* recycle_note begins to look here */
    uint32_t n_checks;
};

static inline bool recycle_begins(const struct recycle *recycle) {
    return READ_RELAXED(recycle->n_checks) < RECYCLE_CHECK_ALL;
}

/* A block leaves the heap or a shard: decide whether its next free is to check it. Before the first frees it
 * is not known which will be the first. */
static inline void recycle_mark(struct recycle *recycle, struct extent *extent) {
    if (extent_bytes(extent) < RECYCLE_MIN_BYTES) return;
    if (READ_RELAXED(recycle->check_every_free)) {
        extent->flags |= EXTENT_CHECK;
    } else if (recycle_begins(recycle)) {
        extent->flags |= EXTENT_EARLY;
    } else {
        uint32_t n = READ_RELAXED(recycle->n_checks) + 1;
        __atomic_store_n(&recycle->n_checks, n, __ATOMIC_RELAXED);
        if (n % RECYCLE_CHECK_EVERY == 0) extent->flags |= EXTENT_CHECK;
    }
}

/* A block has come back by the slow path: is it to be checked? */
static inline bool recycle_wants(const struct recycle *recycle, const struct extent *extent) {
    if (extent->flags & (EXTENT_CHECK | EXTENT_CHANGED | EXTENT_REPLACED)) return true;
    return (extent->flags & EXTENT_EARLY && recycle_begins(recycle)) ||
           (READ_RELAXED(recycle->check_every_free) && extent_bytes(extent) >= RECYCLE_MIN_BYTES);
}

/* The program changes this range. `flags` say how:
 * - EXTENT_HUGE: advice about huge pages, which cannot be taken back by name and goes when the pages go;
 * - EXTENT_CHANGED: attributes that can: protection, locks, fork and dump advice, access hints, merging,
 *   memory policy;
 * - EXTENT_REPLACED: what only a new mapping forgets: other mappings, holes, guards.
 * Live blocks in the range are marked. Where something else is found than live blocks, or more than
 * NOTE_BLOCKS of them, every free is checked from then on. Takes no lock, makes no system call; any thread,
 * any handler may call it. */
void recycle_note(struct recycle *recycle, const void *start, size_t length, uint16_t flags);

/* The same for mprotect, which changes the protection of this range and nothing else; or, with `undone`, has
 * made it readable and writable again: blocks of which no other page was changed are then as they were. */
void recycle_note_protection(struct recycle *recycle, const void *start, size_t length, bool undone);

/* Something was changed that cannot be told from blocks: for some time all of a watched size are checked at
 * every free, and thread caches keep none of them. Stores only: any thread, any handler may call it. */
void recycle_watch(struct recycle *recycle);

/* The pages of a live block have been moved to another, and what was done to them with them. */
static inline void recycle_follow(struct extent *to, const struct extent *from) {
    to->changed_pages = from->changed_pages;
    to->changed_from = from->changed_from;
    to->flags |= from->flags & (EXTENT_HUGE | EXTENT_CHECK | EXTENT_EARLY | EXTENT_CHANGED | EXTENT_REPLACED);
}

/* A live block of this pool gives back what lies beyond n_pages: if it was changed, make that part plain
 * memory. */
void recycle_mend_tail(struct recycle *recycle, struct extent *extent, size_t n_pages);

/* A block that recycle_wants comes back: make it plain memory again. */
void recycle_check(struct recycle *recycle, struct extent *extent);

#endif
