/* SPDX-License-Identifier: MIT */
/* watch.h: are warm blocks used by those who get them?
 *
 * A warm block is resident whether its owner touches it or not, so the kernel cannot be asked how much of it is used, as it can for a
 * block handed out untouched (zero.h). So for some warm blocks, chosen at random, a few pages are given back first: those that are resident later
 * have been touched. A block of a size whose habit is not known is also marked (MADV_FREE) as a whole: if it is found sparse, what its owner has
 * not written by then goes back to the kernel while it lives (os_give_unwritten), and nothing that has been written does.
 *
 * Watched blocks are few: a new one takes the place of the oldest. The table has a lock of its own, which nobody waits for: who does
 * not get it goes on without. The descriptor of a watched block is read without its owner; what is done to a block that has gone meanwhile is
 * harmless, since marked pages hold nothing, whoever owns them.
 */
#ifndef ZP_POOL_WATCH_H
#define ZP_POOL_WATCH_H

#include "base/lock.h"
#include "pool/extent.h"

struct pool;

#define WATCH_BLOCKS 8
#define WATCH_SAMPLES 8
/* Smaller blocks are not watched: looking costs as much as filling them. */
#define WATCH_MIN_BYTES MIB
/* One warm block in so many of a size that gets filled is watched, at random. */
#define WATCH_ONE_IN 64
/* A block is looked at so long after it was handed out. */
#define WATCH_AFTER_MS 500u
/* So much of a sparse block is given back at once: its owner may wait for its memory lock. */
#define WATCH_STEP_BYTES (16 * MIB)

struct watched {
    char *address; /* NULL: free */
    uint32_t n_pages, since_ms, seed;
    bool marked;
    bool sparse;          /* found so: being given back, */
    uint32_t given_pages; /* up to here */
    bool done;            /* nothing left to do before it comes back */
};

struct watch {
    struct lock lock;
    uint32_t n_watched; /* entries in use; also read without the lock */
    uint32_t random;
    struct watched blocks[WATCH_BLOCKS];
};

/* True once in n calls, at random. */
bool watch_one_in(struct pool *pool, uint32_t n);

/* A block of state BUSY is about to be handed out, not zeroed, of which fresh_bytes are untouched and the rest is warm. Gives it back whole where blocks
 * of its size are left untouched, or may be and most of it is not warm anyway, returning true: it reads as zero then. */
bool watch_offer(struct pool *pool, struct extent *extent, size_t fresh_bytes);

/* A block that may be watched comes back: learn, and forget it. False if it is not watched. */
bool watch_returned(struct pool *pool, const struct extent *extent);

/* Look at what has been watched long enough. Returns the milliseconds until it wants to be called again, 0 if nothing is watched. Inside a slow
 * path, or the background thread; no lock held. */
unsigned watch_tick(struct pool *pool, uint32_t now_ms);

#endif
