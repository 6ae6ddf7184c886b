/* SPDX-License-Identifier: MIT */
/* tcache.h: the thread cache: the level whose hit costs a few nanoseconds at every size.
 *
 * Structure   Per class a singly linked stack of idle blocks, through the descriptors. Blocks of TCACHE_BIG_CLASS and
 *             above are not stacked: one slot holds the one returned last, whatever its size. That is enough for a block
 *             allocated and freed over and over, and keeps what several threads hold away from the heap small;
 *             a second big block goes to the heap, where 150 ns are nothing beside filling it. A thread that only frees big
 *             blocks keeps none: it would be missed where they are allocated.
 *
 *   field                who writes                            who reads
 *   bins, big, bytes     the owner while busy; a reclaimer     the owner
 *                        that holds claim and saw busy == 0
 *   busy                 the owner                             owner, its signal handlers, reclaimers
 *   claim                reclaimers (compare-and-swap)         the owner, after setting busy
 *   pool                 the owner while busy; zp_pool_destroy the owner; reclaimers, again after they hold claim
 *                        with claim
 *   n_* counters         the owner                             statistics, without synchronization
 *   limit_bytes          the owner; others only lower it       the owner, tcache_disturb
 *                        (tcache_disturb, recycle_watch),
 *                        unclaimed
 *   trusting             the owner; tcache_disturb stores 0    the owner
 *   depth, n_unused_big  the owner                             the owner
 *   counted              the owner while busy, or with claim   the same
 *   activity_seen,       whoever looks with only_idle; races   the same
 *   big_seen, ..hits_seen are harmless
 *
 * The reclaim protocol is Dekker's with an asymmetric barrier: the owner stores busy and then loads claim without any
 * barrier; a reclaimer stores claim, makes every running thread execute a barrier (membarrier) and then loads busy.
 * One of the two sees the other. The owner backs off to the slow path, the reclaimer gives up. Checked
 * by the stress driver under ThreadSanitizer (core/tests/stress_threads.c). A signal handler that interrupts the owner sees busy and goes round the cache.
 */
#ifndef ZP_POOL_TCACHE_H
#define ZP_POOL_TCACHE_H

#include "base/lock.h"
#include "base/size_class.h"
#include "pool/extent.h"

struct pool;

/* Blocks of this class and above use the slot: more than 256 KiB (class 48 is 64 pages). */
#define TCACHE_BIG_CLASS 49

/* A thread from whose slot so many blocks in a row were not taken frees what others allocate: its slot stays empty, until it asks for a
 * big block itself. */
#define TCACHE_UNUSED_BIG 3

/* Both counts in one word, so that a get changes both with one addition. */
struct tcache_bin {
    struct extent *head;
    uint64_t counts; /* blocks in it in the lowest 16 bits, gets served here above them */
};
#define TCACHE_HIT ((uint64_t)1 << 16)

static inline uint32_t tcache_bin_n(const struct tcache_bin *bin) { return (uint16_t)READ_RELAXED(bin->counts); }

/* By the owner or who holds claim. */
static inline void tcache_bin_set_n(struct tcache_bin *bin, uint32_t n)
{
    WRITE_RELAXED(bin->counts, (bin->counts & ~(TCACHE_HIT - 1)) | n);
}

struct tcache {
    _Atomic uint32_t busy;
    _Atomic uint32_t claim;
    size_t bytes;            /* in bins; the big slot is not counted */
    size_t limit_bytes;
    uint32_t depth;
    uint32_t trusting;       /* big blocks may be put here without a check (recycle.h) */
    uint32_t n_unused_big;   /* blocks in a row that left the slot for the next one; the owner */
    struct extent *big;
    struct pool *pool;       /* NULL once the pool is destroyed */
    struct tcache *next_of_thread;
    struct tcache *next_registered; /* all caches ever made, never unlinked */
    struct tcache *next_free;
    bool counted;            /* in pool->n_tcaches; the owner, or who holds claim */
    uint64_t activity_seen;  /* sum of counters when anybody last looked with only_idle */
    struct extent *big_seen; /* what was in the slot then, */
    uint64_t big_hits_seen;  /* and how often slots of this cache had served */
    /* slow-path counters */
    uint64_t n_slow_gets, n_slow_puts, n_shard_hits, n_steals;
    struct tcache_bin bins[TCACHE_BIG_CLASS];
    uint64_t n_big_hits[N_CLASSES - TCACHE_BIG_CLASS]; /* of the classes from there on; the others count in their bin */
} __attribute__((aligned(CACHE_LINE)));

/* All thread-local storage of the library. */
struct tcache_tls {
    struct tcache *first; /* most recently used pool first */
    uint32_t entered;     /* bit 0: in a slow path, a nested call must not come here; bit 1: in the shim's dlsym (next.c). Core tests the whole */
    bool is_helper;       /* this is the background thread */
    bool relinking;       /* the list that begins at first is being changed: handlers leave it as it is */
};
extern __thread struct tcache_tls tcache_tls
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* --- owner --- */

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer knows neither membarrier nor fences; a read-modify-write is a barrier that it understands. */
#define TCACHE_OWNER_BARRIER(tcache) ((void)atomic_fetch_add_explicit(&(tcache)->busy, 0, memory_order_seq_cst))
#define TCACHE_OTHERS_BARRIER() ((void)0) /* the claim was a sequentially consistent exchange */
#else
/* membarrier on the other side makes a compiler barrier enough here. */
#define TCACHE_OWNER_BARRIER(tcache) compiler_barrier()
#define TCACHE_OTHERS_BARRIER() atomic_thread_fence(memory_order_seq_cst)
#endif

/* Enter the critical section. False if a reclaimer has claimed the cache or the owner is in it already (a signal handler). */
static inline bool tcache_enter(struct tcache *tcache)
{
    if (unlikely(atomic_load_explicit(&tcache->busy, memory_order_relaxed))) return false;
    atomic_store_explicit(&tcache->busy, 1, memory_order_relaxed);
    TCACHE_OWNER_BARRIER(tcache);
    /* acquire: pairs with the reclaimer's release of claim, after which the bins are ours again. */
    if (unlikely(atomic_load_explicit(&tcache->claim, memory_order_acquire))) {
        atomic_store_explicit(&tcache->busy, 0, memory_order_release);
        return false;
    }
    return true;
}

/* release: a reclaimer that sees 0 sees everything done inside. */
static inline void tcache_leave(struct tcache *tcache)
{
    atomic_store_explicit(&tcache->busy, 0, memory_order_release);
}

/* The calling thread's cache for a pool; NULL if it has none yet. */
struct tcache *tcache_find(struct pool *pool);

/* The same, made if need be. NULL if there is no memory or the registry is locked. */
struct tcache *tcache_get(struct pool *pool);

/* Must be called once per process before threads exit, from a constructor or zp_pool_create: registers the thread-exit
 * destructor, so that nothing need be registered from inside malloc. */
void tcache_setup_process(void);

/* With the section entered: move everything to a list linked by next, and leave the cache empty. */
struct extent *tcache_take_all(struct tcache *tcache);

/* The same for the slot alone: a list of one block, or NULL. */
struct extent *tcache_take_slot(struct tcache *tcache);

/* Hand a cache's counts to its pool, for the totals, and begin anew. */
void tcache_fold_counters(struct tcache *tcache, struct pool *pool);

/* In a forked child. */
void tcache_free_registry(void);

/* Put a list of blocks taken from a cache where it belongs: small ones to shards, big ones to the heap. */
void tcache_return_list(struct pool *pool, struct extent *list);

/* How often this cache has served a class; readable by anyone without synchronization. */
static inline uint64_t tcache_hits(const struct tcache *tcache, unsigned cls)
{
    if (cls < TCACHE_BIG_CLASS) return READ_RELAXED(tcache->bins[cls].counts) / TCACHE_HIT;
    return READ_RELAXED(tcache->n_big_hits[cls - TCACHE_BIG_CLASS]);
}

static inline void tcache_forget_hits(struct tcache *tcache, unsigned cls)
{
    if (cls < TCACHE_BIG_CLASS)
        WRITE_RELAXED(tcache->bins[cls].counts, tcache_bin_n(&tcache->bins[cls]));
    else
        WRITE_RELAXED(tcache->n_big_hits[cls - TCACHE_BIG_CLASS], 0);
}

/* --- others --- */

/* What a thread cache may hold now. Blocks in caches serve nobody else and do not merge, so where nothing else was asked for the limits follow
 * what the program uses: all thread caches together 1/CACHE_SHARE of it, all shards together as much (shard_limit_of), but each what it
 * was given at the start. More threads than TCACHE_FULL_THREADS, or than shards (CPUs) where those are more, share what so many were given,
 * or 1/TCACHE_MANY_SHARE of what is in use where that is more, but each has at least a quarter of it. A plain read; the result is a hint. */
#define CACHE_SHARE 80
#define TCACHE_GROW_MAX (4 * MIB)
#define TCACHE_FULL_THREADS 4
#define TCACHE_MANY_SHARE 32
size_t tcache_limit_of(const struct pool *pool);
/* Set a cache's limit to that; by its owner. */
void tcache_adopt_limit(struct tcache *tcache, const struct pool *pool);

/* Has the block in the slot rested there since this was last asked? */
bool tcache_big_rests(struct tcache *tcache);

/* Empty the caches of a pool that other threads own and are not using at this moment; with only_idle those that have done
 * nothing since the last call, and of the others the slot if its block has rested there. Returns the number emptied. */
unsigned tcache_reclaim(struct pool *pool, bool only_idle);

/* True if that can be done without a wait of milliseconds. */
bool tcache_can_reclaim(void);

/* Make every cache of the pool send its next big block through the slow path, once, and lower its limit to what it is now. */
void tcache_disturb(struct pool *pool);

/* zp_pool_destroy: forget the pool in all caches. Their blocks are gone with it. */
void tcache_forget_pool(struct pool *pool);

/* In a forked child, before anybody may pass: empty the caches of threads that no longer exist. */
void tcache_fork_child(void);

/* All caches ever made, for statistics; linked by next_registered. */
struct tcache *tcache_registered(void);

#endif
