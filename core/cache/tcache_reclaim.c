/* SPDX-License-Identifier: MIT */
/* tcache_reclaim.c: what others do to a thread's cache: take from it, forget a pool in it, repair it after a
 * fork. See tcache.h for the protocol. */
#include "os/os.h"
#include "cache/tcache.h"

static _Atomic int barrier_state; /* 0 unknown, 1 works, 2 does not */
static bool in_child;             /* this process was forked from one that had a pool */

/* Caches reclaimed behind one membarrier. */
#define RECLAIM_BATCH 8

/* Yields to wait for an owner that is inside its cache, which it is for nanoseconds unless it is preempted or
 * dead. */
#define CLAIM_TRIES 100

/* Forget what a cache holds, where its lists cannot be trusted. */
static void abandon(struct tcache *tcache) {
    for (unsigned cls = 0; cls < TCACHE_BIG_CLASS; cls++)
        tcache->bins[cls].head = NULL, tcache_bin_set_n(tcache, cls, 0);
    WRITE_RELAXED(tcache->small.extent, NULL);
    WRITE_RELAXED(tcache->big.extent, NULL);
    WRITE_RELAXED(tcache->n_pages, 0);
}

/* Registering waits for a grace period of the kernel, milliseconds, when the process has several threads. */
static bool barrier_registered(void) {
    return atomic_load_explicit(&barrier_state, memory_order_relaxed) == 1;
}

static bool barrier_works(void) {
    int state = atomic_load_explicit(&barrier_state, memory_order_relaxed);
    if (state == 0) {
        state = os_membarrier_register() == 0 ? 1 : 2;
        atomic_store_explicit(&barrier_state, state, memory_order_relaxed);
    }
    return state == 1;
}

static uint64_t activity_of(const struct tcache *tcache) {
    uint64_t sum = READ_RELAXED(tcache->n_slow_gets) + READ_RELAXED(tcache->n_slow_puts) +
                   READ_RELAXED(tcache->n_pages) +
                   2 * (READ_RELAXED(tcache->small.extent) != NULL); /* a get from there is one hit more */
    for (unsigned cls = 0; cls < N_CLASSES; cls++)
        sum += tcache_hits(tcache, cls);
    return sum;
}

bool tcache_big_rests(struct tcache *tcache) {
    /* What the slot has served. Not tcache_hits from one class on: the class of the smallest big blocks has a
     * bin, too (tcache_is_big). */
    uint64_t hits = READ_RELAXED(tcache->big.n_hits);
    for (unsigned cls = TCACHE_BIG_CLASS; cls < N_CLASSES; cls++)
        hits += READ_RELAXED(tcache->n_hits[cls]);
    struct extent *big = READ_RELAXED(tcache->big.extent);
    bool rests = big && big == READ_RELAXED(tcache->big_seen) && hits == READ_RELAXED(tcache->big_hits_seen);
    WRITE_RELAXED(tcache->big_seen, big);
    WRITE_RELAXED(tcache->big_hits_seen, hits);
    return rests;
}

enum tcache_rest tcache_look(struct tcache *tcache) {
    uint64_t activity = activity_of(tcache);
    bool idle = activity == READ_RELAXED(tcache->activity_seen);
    WRITE_RELAXED(tcache->activity_seen, activity);
    bool big_rests = tcache_big_rests(tcache); /* in any case: it notes what it sees */
    return idle ? TCACHE_RESTS : big_rests ? TCACHE_BIG_RESTS : TCACHE_AT_WORK;
}

/* A cache that is to be emptied, or only its slot: its thread is at work, but not with that. */
struct claimed {
    struct tcache *tcache;
    bool only_big;
};

/* Claim up to a batch of caches, starting after *cursor. */
static unsigned claim_batch(struct tcaches *caches, enum reclaim what, struct tcache **cursor,
                            struct claimed *batch) {
    unsigned n = 0;
    const struct tcache *mine = tcache_find(caches);
    struct tcache *tcache = *cursor;
    for (; tcache && n < RECLAIM_BATCH; tcache = tcache->next_registered) {
        if (READ_RELAXED(tcache->caches) != caches || tcache == mine) continue;
        if (tcache_is_empty(tcache)) continue;
        bool only_big = what == RECLAIM_SLOTS;
        if (only_big && !READ_RELAXED(tcache->big.extent)) continue;
        if (what == RECLAIM_IDLE) {
            enum tcache_rest rest = tcache_look(tcache);
            if (rest == TCACHE_AT_WORK) continue;
            only_big = rest == TCACHE_BIG_RESTS;
        }
        uint32_t expected = 0;
        if (atomic_compare_exchange_strong_explicit(&tcache->claim, &expected, TCACHE_CLAIMED,
                                                    memory_order_seq_cst, memory_order_relaxed))
            batch[n++] = (struct claimed){tcache, only_big};
    }
    *cursor = tcache;
    return n;
}

void tcache_prepare_reclaim(void) {
    if (!os_restricted && os_single_threaded()) barrier_works();
}

bool tcache_can_reclaim(void) {
    return barrier_registered();
}

unsigned tcache_reclaim(struct tcaches *caches, enum reclaim what) {
    if ((os_restricted && !tcache_tls.is_helper) || !barrier_works()) return 0;
    unsigned n_emptied = 0;
    struct tcache *cursor = tcache_registered();
    while (cursor) {
        struct claimed batch[RECLAIM_BATCH];
        unsigned n = claim_batch(caches, what, &cursor, batch);
        if (n == 0) continue;
        bool ordered = os_membarrier() == 0;
        TCACHE_OTHERS_BARRIER();
        for (unsigned i = 0; i < n; i++) {
            struct extent *list = NULL;
            struct tcache *tcache = batch[i].tcache;
            /* Between the look and the claim the cache may have passed to another thread and pool. */
            if (ordered && atomic_load_explicit(&tcache->busy, memory_order_acquire) == 0 &&
                READ_RELAXED(tcache->caches) == caches) {
                list = batch[i].only_big ? tcache_take_slot(&tcache->big) : tcache_take_all(tcache);
                n_emptied++;
            }
            tcache_return_list(caches, list);
            atomic_store_explicit(&tcache->claim, 0, memory_order_release);
        }
    }
    return n_emptied;
}

void tcache_disturb(struct tcaches *caches) {
    /* A store of the owner at the same moment may win; then it is found a second later. */
    size_t limit = tcache_limit_of(caches);
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered) {
        if (READ_RELAXED(tcache->caches) != caches) continue;
        __atomic_store_n(&tcache->big_slot_unchecked, 0, __ATOMIC_RELAXED);
        if (READ_RELAXED(tcache->limit_pages) > limit >> PAGE_SHIFT) tcache_set_limit(tcache, limit);
    }
}

/* Claim one cache and wait for its owner to be out of it. False if it is claimed by somebody else or stays
 * busy. */
static bool claim_one(struct tcache *tcache, int tries) {
    uint32_t unclaimed = 0;
    if (!atomic_compare_exchange_strong(&tcache->claim, &unclaimed, TCACHE_CLAIMED)) return false;
    if (barrier_works()) os_membarrier();
    TCACHE_OTHERS_BARRIER();
    for (int i = 0; i < tries; i++) {
        if (atomic_load_explicit(&tcache->busy, memory_order_acquire) == 0) return true;
        lock_relax();
    }
    atomic_store_explicit(&tcache->claim, 0, memory_order_release);
    return false;
}

void tcache_forget(struct tcaches *caches) {
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered)
        while (READ_RELAXED(tcache->caches) == caches) {
            if (!claim_one(tcache, CLAIM_TRIES)) {
                lock_relax();
                if (!in_child) continue;
                /* Its thread was inside when another one forked, and does not exist here. */
                abandon(tcache);
                WRITE_RELAXED(tcache->caches, NULL);
                continue;
            }
            if (READ_RELAXED(tcache->caches) == caches) {
                tcache_fold_counters(tcache, caches);
                tcache_take_all(tcache);
                tcache->counted = false;
                WRITE_RELAXED(tcache->caches, NULL);
            }
            atomic_store_explicit(&tcache->claim, 0, memory_order_release);
        }
}

/* Keep other threads of the child, which it may have made by now, out of their caches, and wait until they
 * are. Who stays inside does not exist here. */
static void claim_all(void) {
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered)
        atomic_store(&tcache->claim, TCACHE_CLAIMED);
    if (!os_restricted && barrier_registered()) os_membarrier();
    TCACHE_OTHERS_BARRIER();
    uint64_t end_ns = os_clock_ns() + LOCK_PATIENCE_NS;
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered)
        while (atomic_load_explicit(&tcache->busy, memory_order_acquire) && os_clock_ns() < end_ns)
            lock_relax();
}

void tcache_fork_child(bool alone) {
    WRITE_RELAXED(in_child, true);
    tcache_free_registry();
    if (!alone) claim_all();
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered) {
        abandon(tcache);
        struct tcaches *caches = READ_RELAXED(tcache->caches);
        if (caches) atomic_store_explicit(&caches->earned_pages, 0, memory_order_relaxed);
        tcache->earned_pages = 0;
        atomic_store_explicit(&tcache->busy, 0, memory_order_relaxed);
        atomic_store_explicit(&tcache->claim, 0, memory_order_release);
    }
}

bool tcache_owner_is_inside(void) {
    for (struct tcache *tcache = tcache_tls.first; tcache; tcache = tcache->next_of_thread)
        if (atomic_load_explicit(&tcache->busy, memory_order_relaxed)) return true;
    return false;
}
