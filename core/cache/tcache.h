/* SPDX-License-Identifier: MIT */
/* tcache.h: the thread cache: the level whose hit costs a few nanoseconds at every size.
 *
 * Structure   Per class a singly linked stack of idle blocks, through the descriptors. Blocks of more than
 *             TCACHE_BIN_PAGES are not stacked: one slot holds the one returned last, whatever its size. That
 *             is enough for a block allocated and freed over and over, and keeps what several threads hold
 *             away from the heap small; a second big block goes to the heap, where 150 ns are nothing beside
 *             filling it. A thread that only frees big blocks keeps none: it would be missed where they are
 *             allocated. Of smaller blocks, too, the one returned last goes into a slot, and the one that was
 *             there onto its stack: it is the one that is asked for next, and slots are faster than stacks. A
 *             request that finds neither gets the nearest larger block within a bound (tcache_take_near).
 *
 *   field                who writes                            who reads
 *   bins, slots, n_pages the owner while busy; a reclaimer     the owner; others as a hint (see below)
 *                        that holds claim and saw busy == 0
 *   busy                 the owner                             owner, its signal handlers, reclaimers
 *   claim                reclaimers (compare-and-swap)         the owner, after setting busy
 *   caches               the owner while busy;                 the owner; reclaimers, again after they hold
 *                        zp_pool_destroy with claim            claim
 *   n_* counters         the owner                             statistics, without synchronization
 *   limit_pages          the owner; others only lower it       the owner, tcache_disturb
 *                        (tcache_disturb, recycle_watch),
 *                        unclaimed
 *   big_slot_unchecked   the owner; tcache_disturb stores 0    the owner
 *   depth, n_unused_big, the owner                             the owner
 *   near_share, n_missed,
 *   earned_pages, given_up
 *   counted              the owner while busy, or with claim   the same
 *   activity_seen,       whoever looks with only_idle; races   the same
 *   big_seen, ..hits_seen are harmless
 * Whoever looks for idle caches, and statistics, read bins and slots as a hint: of what they find there only
 * descriptors of the pool they ask about.
 *
 * The reclaim protocol is Dekker's with an asymmetric barrier: the owner stores busy and then loads claim
 * without any barrier; a reclaimer stores claim, makes every running thread execute a barrier (membarrier)
 * and then loads busy. One of the two sees the other. The owner backs off to the slow path, the reclaimer
 * gives up. Checked by the stress driver under ThreadSanitizer (core/tests/stress_threads.c). A signal
 * handler that interrupts the owner sees busy and goes round the cache.
 */
#ifndef ZP_CACHE_TCACHE_H
#define ZP_CACHE_TCACHE_H

#include "sync/lock.h"
#include "base/size_class.h"
#include "extent/extent.h"
#include "cache/shard.h"

/* How often the thread caches of a pool have served, but for what those that are in use count themselves. */
struct tcache_totals {
    _Atomic uint64_t n_tcache_hits, n_slow_gets, n_shard_hits, n_steals, n_class_hits[N_CLASSES];
    /* times a cache's counts came here; apart while they are on the way */
    _Atomic uint32_t n_folds_begun, n_folds_ended;
};

/* The thread caches of a pool: what they have in common. */
struct tcaches {
    struct shards *shards;      /* take, with their heap, what caches give up */
    struct tcache_totals *gone; /* counts of caches whose threads have exited */
    uint32_t number;            /* from 1 on, for the index of each thread; 0: none */
    unsigned depth;
    /* the least that the stacks of one may hold (a block in each slot comes on top); see tcache_limit_of */
    size_t limit_bytes;
    bool grow;          /* with what the program uses */
    _Atomic uint32_t n; /* of threads that live */
    /* by which all limits together are higher than tcache_limit_of says */
    _Atomic uint32_t earned_pages;
};

/* So many pools at most have a number. */
#define TCACHE_POOLS_MAX 16384

/* Larger blocks than this (256 KiB) use the slot for big ones. */
#define TCACHE_BIN_PAGES (4 * CLASS_STEPS)
/* The class of the smallest request beyond that, and so the number of bins. Of requests only: see
 * tcache_is_big. */
#define TCACHE_BIG_CLASS (3 * CLASS_STEPS + 1)

/* A thread from whose slot so many blocks in a row were not taken frees what others allocate: its slot stays
 * empty, until it asks for a big block itself. */
#define TCACHE_UNUSED_BIG 3

struct tcache_bin {
    struct extent *head;
    uint32_t room; /* for so many more blocks */
};

/* Holds one block. Its address stands beside its descriptor: a free knows it at once, while the descriptor
 * has to be looked up, and the next get would wait for that to tell its caller what it gets. For the same
 * reason the slots lie at fixed places: a store whose place is known late (a bin's, which depends on the
 * descriptor) holds up the next load just as long. What remains are instructions, of which each costs a
 * fifteenth of a nanosecond: so gets are counted here until a block of another class comes, and which
 * requests the block serves is worked out when one of another size comes, as a range of bytes that needs no
 * class and no pages. */
struct tcache_slot {
    struct extent *extent; /* NULL: empty */
    void *address;
    /* it serves requests of fit_from bytes and up to fit_bytes - 1 more: of the block, or of the last one, as
     * all below */
    size_t fit_from, fit_bytes;
    uint32_t n_pages;
    uint32_t cls;
    /* gets served here from blocks of that class, in addition to those in n_hits of the cache */
    uint64_t n_hits;
};

struct tcache {
    _Atomic uint32_t busy;
    _Atomic uint32_t claim;
    struct tcache_slot small; /* the block returned last, of those that have bins */
    uint32_t n_pages;         /* in bins; the slots are not counted */
    uint32_t limit_pages;
    uint32_t depth;
    /* a flag: big blocks may be put into their slot without a check (recycle.h) */
    uint32_t big_slot_unchecked;
    uint32_t near_share;   /* see tcache_take_near; the owner */
    uint32_t n_unused_big; /* blocks in a row that left the slot for the next one; the owner */
    /* see tcache_missed; the owner */
    uint32_t earned_pages, n_missed;
    uint8_t given_up[TCACHE_BIG_CLASS];
    struct tcache_slot big; /* of the others */
    struct tcaches *caches; /* of which pool; NULL once that is destroyed */
    uint32_t number;        /* of that pool; the owner */
    struct tcache *next_of_thread;
    struct tcache *next_registered; /* all caches ever made, never unlinked */
    struct tcache *next_free;
    bool counted;            /* in caches->n; the owner, or who holds claim */
    uint64_t activity_seen;  /* sum of counters when anybody last looked */
    struct extent *big_seen; /* what was in the big slot then, */
    uint64_t big_hits_seen;  /* and how often that slot had served */
    /* slow-path counters */
    uint64_t n_slow_gets, n_slow_puts, n_shard_hits, n_steals;
    struct tcache_bin bins[TCACHE_BIG_CLASS];
    uint64_t n_hits[N_CLASSES]; /* gets served here, but for those still counted in a slot (tcache_hits) */
} __attribute__((aligned(CACHE_LINE)));

/* Does the slot's block, if there is one, serve a request of so many bytes? The difference wraps if they are
 * too few. */
static inline bool tcache_slot_fits(const struct tcache_slot *slot, size_t n_bytes) {
    return n_bytes - slot->fit_from < slot->fit_bytes;
}

/* Not by its class: a block that passes through no bin has exactly the pages asked for, and its class is the
 * largest that it holds whole (class_floor): that of 65 to 67 pages is the class of 64. */
static inline bool tcache_is_big(const struct extent *extent) {
    return extent->n_pages > TCACHE_BIN_PAGES;
}

/* How many blocks are in a bin. Others may see a number that is out of date. */
static inline uint32_t tcache_bin_n(const struct tcache *tcache, unsigned cls) {
    uint32_t depth = READ_RELAXED(tcache->depth), room = READ_RELAXED(tcache->bins[cls].room);
    return depth > room ? depth - room : 0;
}

/* By the owner or who holds claim; n is at most the depth. */
static inline void tcache_bin_set_n(struct tcache *tcache, unsigned cls, uint32_t n) {
    WRITE_RELAXED(tcache->bins[cls].room, READ_RELAXED(tcache->depth) - n);
}

/* A hint to all but the owner and who holds claim. */
static inline bool tcache_is_empty(const struct tcache *tcache) {
    return !READ_RELAXED(tcache->small.extent) && !READ_RELAXED(tcache->big.extent) &&
           !READ_RELAXED(tcache->n_pages);
}

/* See limit_pages above for who may. */
static inline void tcache_set_limit(struct tcache *tcache, size_t n_bytes) {
    /* one block more must not overflow */
    WRITE_RELAXED(tcache->limit_pages, (uint32_t)min_size(n_bytes >> PAGE_SHIFT, UINT32_MAX / 2));
}

/* What the thread is in the middle of, bits of tcache_tls.entered. */
enum {
    IN_SLOW_PATH = 1,
    IN_DLSYM = 2, /* of the preload library (shim/next.c) */
};

/* All thread-local storage of the library. */
struct tcache_tls {
    struct tcache *first; /* the one made last first */
    /* the same by their pools' numbers; NULL where there is only one, or no memory for it */
    struct tcache **by_number;
    uint32_t entered; /* of IN_*: while it is not 0 a nested call takes no slow path */
    bool is_helper;   /* this is the background thread */
    bool relinking;   /* the list that begins at first is being changed: handlers leave it as it is */
    /* the thread's destructors have run: it gets no cache any more, which nobody would empty */
    bool ending;
};
extern __thread struct tcache_tls tcache_tls __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Of the calling thread; two may have the same. */
static inline uint16_t tcache_thread_mark(void) {
    return (uint16_t)((uintptr_t)&tcache_tls * 0x9e3779b97f4a7c15u >> 48);
}

/* --- owner --- */

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer knows neither membarrier nor fences; a read-modify-write is a barrier that it
 * understands. */
#define TCACHE_OWNER_BARRIER(tcache)                                                                         \
    ((void)atomic_fetch_add_explicit(&(tcache)->busy, 0, memory_order_seq_cst))
#define TCACHE_CLAIM(tcache) atomic_load_explicit(&(tcache)->claim, memory_order_acquire)
#define TCACHE_OTHERS_BARRIER() ((void)0) /* the claim was a sequentially consistent exchange */
#else
/* membarrier on the other side makes a compiler barrier enough here. */
#define TCACHE_OWNER_BARRIER(tcache) compiler_barrier()
/* x86 keeps loads in order, the compiler is told in tcache_enter. It may use the operand twice, but each call
 * of that reads it anew, because of the owner's barrier. */
#define TCACHE_CLAIM(tcache) READ_OPERAND((tcache)->claim)
#define TCACHE_OTHERS_BARRIER() atomic_thread_fence(memory_order_seq_cst)
#endif

/* What claim holds while a reclaimer has the cache. Even, so that the last bit of its sum with busy is busy,
 * whenever claim was read. */
#define TCACHE_CLAIMED 2u
_Static_assert((TCACHE_CLAIMED & 1) == 0, "the last bit of the sum is busy");

/* Enter the critical section. False if a reclaimer has claimed the cache or the owner is in it already (a
 * signal handler). */
static inline bool tcache_enter(struct tcache *tcache) {
    uint32_t taken = atomic_load_explicit(&tcache->busy, memory_order_relaxed);
    atomic_store_explicit(&tcache->busy, 1, memory_order_relaxed);
    TCACHE_OWNER_BARRIER(tcache);
    taken += TCACHE_CLAIM(tcache); /* one test for both words: a branch less */
    if (likely(taken == 0)) {
        /* acquire: pairs with the reclaimer's release of claim, after which the bins are ours again */
        compiler_barrier();
        return true;
    }
    /* A handler that interrupts the section stores 1 over 1, fails, and must not clear it. */
    if (!(taken & 1)) atomic_store_explicit(&tcache->busy, 0, memory_order_release);
    return false;
}

/* release: a reclaimer that sees 0 sees everything done inside. */
static inline void tcache_leave(struct tcache *tcache) {
    atomic_store_explicit(&tcache->busy, 0, memory_order_release);
}

/* The calling thread's cache for a pool; NULL if it has none yet. */
struct tcache *tcache_find(struct tcaches *caches);

/* The same, made if need be. NULL if there is no memory or the registry is locked. */
struct tcache *tcache_get(struct tcaches *caches);

/* Must be called once per process before threads exit, from a constructor or zp_pool_create: registers the
 * thread-exit destructor, so that nothing need be registered from inside malloc. */
void tcache_setup_process(void);

/* With the section entered: move everything to a list linked by next, and leave the cache empty. */
struct extent *tcache_take_all(struct tcache *tcache);

/* The same for one slot alone: a list of one block, or NULL. */
struct extent *tcache_take_slot(struct tcache_slot *slot);

/* By the owner, outside the section: the nearest larger block for a request of a class that the cache holds
 * no block of, or NULL. It is LIVE then and counted as a hit of the class asked for; the program may use all
 * of it.
 *
 * It is larger by at most 1/4, and by less where much is in use: what near fit adds to all live blocks
 * together is at most what all thread caches may keep (tcache_adopt_near). */
#define TCACHE_NEAR_ONE 256u /* near_share is in such parts of the class asked for, */
#define TCACHE_NEAR_MOST 64u /* and at most so many of them */
struct extent *tcache_take_near(struct tcache *tcache, unsigned cls);
/* Set near_share from the limit and from what is in use now; by the owner. */
void tcache_adopt_near(struct tcache *tcache, const struct tcaches *caches);

/* Hand a cache's counts to its pool, for the totals, and begin anew. */
void tcache_fold_counters(struct tcache *tcache, struct tcaches *caches);

/* In a forked child. */
void tcache_free_registry(void);

/* Put a list of blocks taken from a cache where it belongs: small ones to shards, big ones to the heap. */
void tcache_return_list(struct tcaches *caches, struct extent *list);

/* How often this cache has served a class. Readable by anyone without synchronization; at the instant when a
 * slot changes its class, that slot's count may be missing or be there twice. */
static inline uint64_t tcache_hits(const struct tcache *tcache, unsigned cls) {
    uint64_t n = READ_RELAXED(tcache->n_hits[cls]);
    if (READ_RELAXED(tcache->small.cls) == cls) n += READ_RELAXED(tcache->small.n_hits);
    if (READ_RELAXED(tcache->big.cls) == cls) n += READ_RELAXED(tcache->big.n_hits);
    return n;
}

static inline void tcache_forget_hits(struct tcache *tcache, unsigned cls) {
    WRITE_RELAXED(tcache->n_hits[cls], 0);
    if (READ_RELAXED(tcache->small.cls) == cls) WRITE_RELAXED(tcache->small.n_hits, 0);
    if (READ_RELAXED(tcache->big.cls) == cls) WRITE_RELAXED(tcache->big.n_hits, 0);
}

/* --- others --- */

/* What a thread cache may hold now. Blocks in caches serve nobody else and do not merge, so where nothing
 * else was asked for the limits follow what the program uses: all thread caches together, but for the blocks
 * in their slots, 1/CACHE_SHARE of it, all shards together as much (shard_limit_of), but each what it was
 * given at the start. More threads than TCACHE_FULL_THREADS, or than shards (CPUs) where those are more,
 * share what so many were given, or 1/TCACHE_MANY_SHARE of what is in use where that is more, but each has at
 * least a quarter of it. A plain read; the result is a hint. */
#define TCACHE_GROW_MAX (4 * MIB)
#define TCACHE_FULL_THREADS 4
#define TCACHE_MANY_SHARE 32
/* Under a filter nobody can empty the caches of others: what all threads together may keep there. */
#define TCACHE_FILTERED_BYTES MIB
/* A limit below this stays what it is. */
#define TCACHE_GROW_FROM (128 * KIB)
size_t tcache_limit_of(const struct tcaches *caches);
/* Set a cache's limit to that, and what it has earned; by its owner. */
void tcache_adopt_limit(struct tcache *tcache, const struct tcaches *caches);

/* The owner asks for a class that the cache has none of. So many times a block of it was given up for want of
 * room the last time: then a higher limit is earned, a step for each TCACHE_MISSES. All that threads have
 * earned together is at most 1/TCACHE_EARNED_SHARE of what is in use, or TCACHE_EARNED_BYTES. */
#define TCACHE_MISSES 4
#define TCACHE_EARNED_STEP (128 * KIB)
#define TCACHE_EARNED_SHARE 16
#define TCACHE_EARNED_BYTES MIB
void tcache_missed(struct tcache *tcache, struct tcaches *caches, unsigned cls);
/* Idle memory is short, or the cache leaves the pool: what it has earned goes. By its owner, or who has the
 * cache to itself. */
void tcache_lose_earned(struct tcache *tcache, struct tcaches *caches);

/* Has the block in the slot rested there since this was last asked? */
bool tcache_big_rests(struct tcache *tcache);

/* What of a cache has rested since anybody last asked this. */
enum tcache_rest { TCACHE_AT_WORK, TCACHE_BIG_RESTS, TCACHE_RESTS };
enum tcache_rest tcache_look(struct tcache *tcache);

/* Empty the caches of a pool that other threads own and are not using at this moment. Returns the number
 * emptied. */
enum reclaim {
    RECLAIM_ALL,
    /* those that have done nothing since the last look, and of the others the slot if its block has rested
     * there */
    RECLAIM_IDLE,
    RECLAIM_SLOTS, /* of each the slot for big blocks */
};
unsigned tcache_reclaim(struct tcaches *caches, enum reclaim what);

/* While there is one thread it costs nothing to prepare for that; later it takes milliseconds once. */
void tcache_prepare_reclaim(void);

/* True if that can be done without a wait of milliseconds. */
bool tcache_can_reclaim(void);

/* Make every cache of the pool send its next big block through the slow path, once, and lower its limit to
 * what it is now. */
void tcache_disturb(struct tcaches *caches);

/* zp_pool_destroy: forget the pool in all caches. Their blocks are gone with it. */
void tcache_forget(struct tcaches *caches);

/* In a forked child, before anybody may pass and with the caller outside its caches: forget what is in them
 * all. The heap finds it (heap_rebuild). alone: the child has no other thread for certain. */
void tcache_fork_child(bool alone);

/* Has a handler interrupted the calling thread in one of its caches? */
bool tcache_owner_is_inside(void);

/* All caches ever made, for statistics; linked by next_registered. */
struct tcache *tcache_registered(void);

#endif
