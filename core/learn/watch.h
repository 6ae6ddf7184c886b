/* SPDX-License-Identifier: MIT */
/* watch.h: are warm blocks used by those who get them?
 *
 * A warm block is resident whether its owner touches it or not, so the kernel cannot be asked how much of it
 * is used, as it can for a block handed out untouched (pool/zero.h). So a warm block that is watched is
 * handed out without a few of its pages: those that are resident later have been touched. It is also marked
 * (MADV_FREE) as a whole: if it is found sparse, what its owner has not written by then goes back to the
 * kernel while it lives (os_give_unwritten), and nothing that has been written does.
 *
 * Until FILL_WARM_TRUST warm blocks of a size have been found filled, each is watched; it costs a
 * twentieth of what page faults would, or, where huge pages are split for it, as much. So a block is also
 * looked at when its thread asks for the next one of its size. After that one in WATCH_ONE_IN is, at
 * random, and a single sparse one takes the trust away.
 *
 * The table holds the last WATCH_BLOCKS. It has a lock of its own, which nobody waits for: who does not get
 * it goes on without. The descriptor of a watched block is read without its owner; what is done to a block
 * that has gone meanwhile is harmless, since marked pages hold nothing, whoever owns them.
 */
#ifndef ZP_LEARN_WATCH_H
#define ZP_LEARN_WATCH_H

#include "sync/lock.h"
#include "extent/extent.h"
#include "learn/fill.h"

#define WATCH_BLOCKS 256
#define WATCH_SAMPLES 8
/* Smaller blocks are not watched: looking costs as much as filling them. */
#define WATCH_MIN_BYTES MIB
/* After so many warm blocks of a size that were found filled, one in WATCH_ONE_IN is watched, at random. */
#define WATCH_ONE_IN 64
/* A block is looked at so long after it was handed out; so many at one tick. */
#define WATCH_LOOKS 16
#define WATCH_AFTER_MS 500u
/* So much of a sparse block is given back at once: its owner may wait for its memory lock. */
#define WATCH_STEP_BYTES (4 * MIB)

struct watched {
    char *address; /* NULL: free */
    uint32_t n_pages, since_ms, seed;
    uint16_t by; /* the thread that asked for it (tcache_thread_mark) */
    bool marked;
    bool sparse;          /* found so: being given back, */
    uint32_t given_pages; /* up to here */
    bool done;            /* nothing left to do before it comes back */
};

struct watch {
    struct lock lock;
    uint32_t n_watched; /* entries in use, */
    uint32_t n_open;    /* and of these, what is not done; both also read without the lock */
    uint32_t random;
    struct watched blocks[WATCH_BLOCKS];
};

uint32_t watch_random(struct watch *watch);
/* True once in n calls, at random. */
bool watch_one_in(struct watch *watch, uint32_t n);

/* A block of state BUSY is about to be handed out, not zeroed, of which fresh_bytes are untouched and the
 * rest is warm. Gives it back whole where blocks of its size are left untouched, or may be and most of it is
 * not warm anyway, returning true: it reads as zero then. */
bool watch_offer(struct watch *watch, const struct heap *heap, struct learned_sizes *sizes,
                 struct extent *extent, size_t fresh_bytes);

/* A block that may be watched comes back: learn, and forget it. False if it is not watched. */
bool watch_returned(struct watch *watch, struct learned_sizes *sizes, const struct extent *extent);

/* Look at what has been watched long enough. Returns the milliseconds until it wants to be called again, 0 if
 * nothing is watched. Inside a slow path, or the background thread; no lock held. */
unsigned watch_tick(struct watch *watch, const struct heap *heap, struct learned_sizes *sizes,
                    uint32_t now_ms);

#endif
