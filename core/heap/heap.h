/* SPDX-License-Identifier: MIT */
/* heap.h: the extent heap: page-granular, coalescing, dirty memory first, best fit.
 *
 * Structure   Idle extents are filed by size class in three sets of bins: dirty (resident), clean (reads as
 *             zero, costs nothing) and holes (not even mapped), each with a bitmap of non-empty bins;
 *             resident ones also hang on a list by age. What has rested for some tens of milliseconds is
 *             marked, so that the kernel takes it before it kills anybody: such extents are muzzy, and lie in
 *             the dirty bins. Neighbours of the same kind are always merged; dirty and muzzy ones are two
 *             kinds, or what is marked would be marked again with every small neighbour. A request takes the
 *             smallest dirty extent that fits, else a dirty one that fits together with its neighbours, else
 *             the smallest clean one, else a hole, else memory beyond the frontier.
 * Policy      Idle memory is a pool's main cost. Blocks that cannot serve other sizes refault up to a quarter
 *             of all bytes at the same memory, so everything beyond a few cached blocks comes back here to be
 *             merged; resident memory is preferred over untouched memory at any fit; and before untouched
 *             memory is taken, the coldest idle memory over the budget is given back.
 * Locking     heap->lock guards everything but `deferred` and the plain reads of counters by statistics. No
 *             system call is made under it, with one exception: the rare mmap of page map for heap_relocate.
 *             Extents that are to be mapped, purged or unmapped are taken off all lists first (EXTENT_BUSY).
 *             If the lock cannot be had in bounded time, allocation returns NULL. A returned extent goes on
 *             the lock-free `deferred` stack, which the holder empties: soon, if he is not quick, up
 *             to DEFER_MAX_BYTES in all; beyond that when the same time has passed.
 */
#ifndef ZP_HEAP_HEAP_H
#define ZP_HEAP_HEAP_H

#include "sync/lock.h"
#include "base/size_class.h"
#include "os/os.h"
#include "extent/space.h"

#define BIN_WORDS ((N_CLASSES + 63) / 64)

/* How many past intervals the decay curve looks at. */
#define DECAY_STEPS 16

struct bins {
    uint64_t nonempty[BIN_WORDS]; /* also read without the lock, as a hint */
    struct extent *head[N_CLASSES];
};

/* Powers of two of block sizes, in pages. */
#define HEAP_SIZES (CLASS_MAX_PAGES_LOG2 + 1)

struct heap_counters {
    struct {
        uint64_t n_dirty, n_mixed, n_fresh, bytes_warm, bytes_fresh;
    } by_size[HEAP_SIZES];
    uint64_t n_dirty_hits, n_mixed, n_fresh, n_purges, n_moved_blocks, n_grown_in_place;
    int64_t n_moved_vmas; /* extents with EXTENT_MOVED; atomic */
    uint64_t bytes_fresh, bytes_purged;
    uint64_t n_refused, n_pin_failures;
    size_t bytes_pinned;
    size_t active_peak; /* for statistics */
};

struct heap {
    struct space space; /* read by every free, so not beside the lock */
    struct lock lock __attribute__((aligned(CACHE_LINE)));
    size_t active_bytes;            /* handed out: live blocks and whatever caches hold */
    size_t dirty_bytes;             /* idle and resident, muzzy ones included */
    size_t muzzy_bytes;             /* of these, what the kernel may take by itself */
    size_t clean_bytes, hole_bytes; /* idle: mapped but not resident; not even mapped */
    uint32_t n_holes;
    uintptr_t frontier;    /* end of the claimed range */
    struct extent *unused; /* free descriptors that have been used before */
    /* descriptors never used, so as not to touch their memory before it is needed */
    uint32_t untouched, untouched_end;
    uint32_t n_unused;    /* both kinds */
    struct extent by_age; /* sentinel of the dirty extents by age, */
    /* and of the muzzy ones, which are all older than what was filed when they were marked */
    struct extent muzzy_by_age;
    /* Returned while somebody else held the lock, and how much that is (heap_bins_deferred_weight).
     * Written by others than the holder, so on a line of their own. */
    _Atomic(struct extent *) deferred __attribute__((aligned(CACHE_LINE)));
    _Atomic size_t deferred_bytes;
    /* Something foreign is in the way: never try to map again. */
    bool exhausted __attribute__((aligned(CACHE_LINE)));

    /* untouched memory (heap_fresh.c) */
    uint32_t n_growing;         /* threads that fill more than was asked for; atomic */
    enum huge_pages huge_pages; /* how they are to be had; heap_fresh_learn_machine */
    /* what filling takes for each 4 KiB by small and by huge pages, 0 if not known, and */
    uint32_t fill_ns[2];
    /* filled by the faster kind since the other was tried; heap_fresh_learn, by any thread without the lock:
     * a lost update is harmless in all three */
    uint32_t one_kind_pages;
    bool several_nodes;       /* of a NUMA machine; heap_fresh_learn_machine, too */
    uint32_t step_refused_ms; /* when the kernel last refused a step of the frontier, 0 if never */

    /* budget (budget.c) */
    size_t retain_bytes;     /* idle bytes allowed in any case */
    size_t retain_max_bytes; /* hard cap on idle bytes, SIZE_MAX if none */
    size_t limit_bytes;      /* cgroup limit, SIZE_MAX if none */
    size_t unproven_bytes;   /* of active_bytes: asked for, and not known to be touched */
    size_t cached_bytes;     /* of active_bytes, what caches held when account_settle last looked */
    /* live then, or the most since that was a fall: the peak may rise a little beyond it unlooked
     * (budget.c) */
    size_t settled_bytes;
    /* idle memory that may lie unmarked, however short it has rested; limits.c, any thread */
    size_t unmarked_max_bytes;
    bool limit_seen;       /* of whatever kind, and at whatever time; limits.h */
    bool address_limited;  /* by RLIMIT_AS or RLIMIT_DATA: idle addresses count; limits.c */
    size_t peak_window[2]; /* peak of active in this and the previous window */
    /* the same, unlooked: what the program has to hold again before it no longer reloads */
    size_t held_window[2];
    uint32_t window_start_ms;
    uint32_t dropped_ms; /* when it last held less than half of the peak */
    /* the program has dropped most of the peak, and does not hold as much again yet */
    bool reloads;
    /* slack on top, because the budget has made a program of steady size give back what it took again */
    size_t earned_bytes;
    size_t forced_bytes; /* given back for the budget since that last rose */
    bool has_earned;     /* in this window */

    /* decay (decay.c) */
    uint32_t decay_ms;
    uint32_t decay_epoch_ms;
    uint32_t marked_ms; /* when what rests was last marked */
    size_t decay_seen_bytes;
    size_t decay_backlog[DECAY_STEPS];

    bool pinned;
    /* memory of this heap has been filled by huge pages, or advised; any thread */
    bool has_huge;
    /* the kernel refuses MADV_FREE; any thread, a lost update is harmless */
    bool cannot_mark;
    struct heap_counters counters;
    struct bins dirty, clean, holes; /* muzzy extents are in the dirty bins */
};

/* Prepare a zeroed heap over a space; most of it is not touched before it is needed. 0 or negative errno. */
int heap_init(struct heap *heap, size_t span_max, bool reserved);

/* Room for a growing block: a dirty extent of at least twice its new size, for blocks from 512 KiB to 32 MiB.
 * Copying costs a third of a fault a page, so a block that then doubles in place has paid for its copy three
 * times; grown over untouched memory instead, it spreads the program over more pages than it uses, which the
 * budget takes away elsewhere. Measured: docs/benchmarks.md, multiprocessing. Only for steps of a sixteenth
 * and more: where others take the room each time, a block is copied at every step, and small ones would make
 * that quadratic. */
#define ROOM_FACTOR 2
#define ROOM_MIN_PAGES (512 * KIB >> PAGE_SHIFT)
#define ROOM_MAX_PAGES (32 * MIB >> PAGE_SHIFT)
#define ROOM_STEP_SHIFT 4
static inline bool room_is_wanted(size_t n_pages, size_t n_pages_had) {
    return n_pages_had >= ROOM_MIN_PAGES && n_pages <= ROOM_MAX_PAGES &&
           n_pages - n_pages_had >= n_pages_had >> ROOM_STEP_SHIFT;
}

/* What an allocation wants. */
struct heap_request {
    size_t n_pages;        /* at least 1 */
    size_t align_pages;    /* power of two; 1 = any */
    size_t headroom_pages; /* address space wanted behind the block */
    /* a block that grows: into a dirty extent with room behind it, if there is one; then without headroom */
    bool grows;
    bool fresh_huge; /* if untouched memory is taken, align it to huge pages and ask for them */
    /* a block to be returned at the same hold of the lock, before anything is looked for; NULL if none */
    struct extent *free_first;
    /* blocks of this size get filled, as far as is known: what is untouched of it counts as used at once */
    bool proven;
    /* from dirty memory or not at all, NULL then: nothing is to be known about untouched memory */
    bool warm_only;
    /* blocks of this size are known to be left untouched: none of it counts as used, and nothing is given
     * back for it */
    bool left_empty;
    /* untouched memory may be made resident at once; EXTENT_POPULATED says that it was */
    bool will_be_filled;
    size_t *fresh_bytes; /* out: how much of the block was untouched; may be NULL */
    /* out: set, and nothing done, if untouched memory would be needed and the sum is over a budget that may
     * be out of date: ask again after account_settle. NULL: what is known must do */
    bool *over;
    /* the caller has cached blocks that would merge here: `over` is also set if something would be purged,
     * so that they are returned first */
    bool caller_holds;
};

/* Take an extent; it comes back in state EXTENT_BUSY, with EXTENT_ZERO set if it reads as zero. NULL if
 * refused. */
struct extent *heap_alloc(struct heap *heap, const struct heap_request *request);

/* Return an extent of state LIVE or CACHED, never BUSY (deferred, that would mean "not counted as active").
 * Its used part is dirty unless EXTENT_ZERO is set. Never fails; any thread, no lock held. */
void heap_free(struct heap *heap, struct extent *extent);
/* The same for a list linked by next, at few holds of the lock. */
void heap_free_list(struct heap *heap, struct extent *list);

/* Grow a live extent to at least n_pages without moving it. False if its neighbours do not allow it, or if it
 * had to take untouched memory though a request with `grows` would find dirty memory with room. *warm_pages,
 * unless NULL: how many of the new pages were resident, at the front of what is new as a rule. */
bool heap_extend(struct heap *heap, struct extent *extent, size_t n_pages, size_t *warm_pages);

/* A live or cached extent has been seen filled, or counts as idle from now on: nothing of it is unproven any
 * more. */
void heap_prove(struct heap *heap, struct extent *extent);
/* The opposite: all of a block that is about to be handed out has been given back to the kernel. */
void heap_unprove(struct heap *heap, struct extent *extent);
/* The same for a block of somebody else, who may return it meanwhile: nothing is done unless it is still the
 * block of that address and size. Of blocks that a shard takes nothing is unproven, and where it would say so
 * a list may be. */
void heap_prove_seen(struct heap *heap, struct extent *extent, const void *address, size_t n_pages);

/* Give the tail of a live extent beyond n_pages back. */
void heap_shrink(struct heap *heap, struct extent *extent, size_t n_pages);

/* Mark idle memory that was last used before that time, coldest first, for the kernel to take when it is
 * short (EXTENT_MUZZY), about n_bytes at most. Marking a page and writing it again takes a twentieth of the
 * page fault that it costs if the kernel has taken it. Returns the bytes marked. */
size_t heap_mark(struct heap *heap, size_t n_bytes, uint32_t before_ms);

/* Purge idle memory, coldest first, until at most keep_bytes of it is dirty. Returns the bytes purged. */
size_t heap_trim(struct heap *heap, size_t keep_bytes);

/* Open spaces: unmap clean memory just below the frontier, and take its addresses back. */
void heap_release_top(struct heap *heap);

/* Open spaces: unmap about n_bytes of idle memory, and no more: at the top first, then the largest extents,
 * clean ones before resident ones. Below the frontier they stay as holes, which are mapped anew when needed;
 * there are at most HEAP_HOLES_MAX. Returns the bytes unmapped. */
#define HEAP_HOLES_MAX 1024
size_t heap_release(struct heap *heap, size_t n_bytes);

/* Move the contents of one live extent to another by page tables. Returns how many bytes have been moved, and
 * what else os_move_pages does. */
ssize_t heap_move_pages(struct heap *heap, struct extent *from, struct extent *to, size_t n_pages);

/* Move a live extent's mapping to other addresses of at least n_pages, more than it has, where nothing is
 * mapped, and make it so long: needs no more room in a limit than what is new. The new extent, LIVE, or NULL:
 * nothing has changed. The old one is gone then. Open spaces only. */
struct extent *heap_relocate(struct heap *heap, struct extent *extent, size_t n_pages);

/* An extent is no VMA of its own any more. */
void heap_forget_move(struct heap *heap, struct extent *extent);

/* An extent that has been handed out has lost pages and cannot be had again: it is no more than a hole from
 * now on. */
void heap_lose(struct heap *heap, struct extent *extent);

/* In a forked child, while no other thread is in the pool: make the heap anew from the live blocks. All that
 * was idle in the parent, wherever it was, is clean memory here. Whoever held the lock is not here. Other
 * threads' and shards' lists must have been forgotten before. */
void heap_rebuild(struct heap *heap);

/* Check the invariants under the lock. NULL, or what is broken. */
const char *heap_check(struct heap *heap);

/* --- for budget.c and decay.c --- */

/* With the lock held: take dirty extents off the heap, coldest first, until about n_bytes are off. */
struct extent *heap_collect(struct heap *heap, size_t n_bytes);
/* The same, leaving alone what was last used after the given time. */
struct extent *heap_collect_older(struct heap *heap, size_t n_bytes, uint32_t before_ms);
/* Without the lock: purge a collected list and return it as clean. */
size_t heap_purge_list(struct heap *heap, struct extent *list);

#endif
