/* SPDX-License-Identifier: MIT */
/* tcache.c: making, finding, emptying and reclaiming thread caches. See tcache.h for the protocol. */
#include "pool/tcache.h"

#include "os/os.h"
#include "pool/fork.h"
#include "pool/helper.h"
#include "pool/pool.h"
#include "pool/recycle.h"

#include <errno.h>
#include <pthread.h>

__thread struct tcache_tls tcache_tls __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* The list grows only; a cache whose thread has exited is handed to the next thread. */
static struct lock registry_lock;
static _Atomic(struct tcache *) registered;
static struct tcache *free_caches;

static pthread_key_t exit_key;
static bool exit_key_valid;
static _Atomic int barrier_state; /* 0 unknown, 1 works, 2 does not */
static bool in_child;             /* this process was forked from one that had a pool */

/* Caches reclaimed behind one membarrier. */
#define RECLAIM_BATCH 64

/* Yields to wait for an owner that is inside its cache, which it is for nanoseconds unless it is preempted or dead. */
#define CLAIM_TRIES 100

/* How often an exiting thread tries to enter a cache that a reclaimer has claimed. */
#define EXIT_TRIES 1000

struct tcache *tcache_registered(void) { return atomic_load_explicit(&registered, memory_order_acquire); }

/* Hand a cache's counts to its pool, for the totals, and begin anew. */
static void fold_counters(struct tcache *tcache, struct pool *pool)
{
    uint64_t n_hits = 0;
    for (unsigned cls = 0; cls < N_CLASSES; cls++) {
        uint64_t n = tcache_hits(tcache, cls);
        if (!n) continue;
        n_hits += n;
        atomic_fetch_add_explicit(&pool->gone.n_class_hits[cls], n, memory_order_relaxed);
        tcache_forget_hits(tcache, cls);
    }
    atomic_fetch_add_explicit(&pool->gone.n_tcache_hits, n_hits, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->gone.n_slow_gets, tcache->n_slow_gets, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->gone.n_shard_hits, tcache->n_shard_hits, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->gone.n_steals, tcache->n_steals, memory_order_relaxed);
    WRITE_RELAXED(tcache->n_slow_gets, 0);
    WRITE_RELAXED(tcache->n_slow_puts, 0);
    WRITE_RELAXED(tcache->n_shard_hits, 0);
    WRITE_RELAXED(tcache->n_steals, 0);
}

static void thread_exits(void *ignored)
{
    (void)ignored;
    int saved = errno;
    bool passed = fork_pass();
    tcache_tls.entered |= 1; /* a handler of a signal must not wait for the locks that are taken here, nor repair after a fork of its own */
    struct tcache *tcache = tcache_tls.first;
    tcache_tls.first = NULL;
    while (tcache) {
        struct tcache *next = tcache->next_of_thread;
        /* A reclaimer that has claimed it either empties it or gives up; both take microseconds. Entered until all is
         * returned, so that zp_pool_destroy waits for us. */
        for (int i = 0; i < EXIT_TRIES; i++) {
            if (!tcache_enter(tcache)) {
                lock_relax();
                continue;
            }
            struct pool *pool = READ_RELAXED(tcache->pool);
            struct extent *list = tcache_take_all(tcache);
            if (pool) {
                fold_counters(tcache, pool);
                if (tcache->counted) atomic_fetch_sub_explicit(&pool->n_tcaches, 1, memory_order_relaxed);
                tcache->counted = false;
                if (passed) tcache_return_list(pool, list);
            }
            tcache_leave(tcache);
            break;
        }
        /* If the lock cannot be had the cache stays off the free list and is reclaimed as idle; it is lost for reuse. */
        if (lock_acquire(&registry_lock)) {
            tcache->next_free = free_caches;
            free_caches = tcache;
            lock_release(&registry_lock);
        }
        tcache = next;
    }
    tcache_tls.entered &= ~1u;
    errno = saved;
}

void tcache_setup_process(void)
{
    static _Atomic int done;
    if (atomic_exchange(&done, 1)) return;
    exit_key_valid = pthread_key_create(&exit_key, thread_exits) == 0;
}

struct tcache *tcache_find(struct pool *pool)
{
    struct tcache **link = &tcache_tls.first;
    for (struct tcache *tcache = *link; tcache; link = &tcache->next_of_thread, tcache = *link) {
        if (READ_RELAXED(tcache->pool) != pool) continue;
        if (link == &tcache_tls.first || tcache_tls.relinking) return tcache;
        /* A signal handler that comes in between may miss this cache, but finds a list that ends. */
        tcache_tls.relinking = true;
        compiler_barrier();
        *link = tcache->next_of_thread;
        compiler_barrier();
        tcache->next_of_thread = tcache_tls.first;
        compiler_barrier();
        tcache_tls.first = tcache;
        compiler_barrier();
        tcache_tls.relinking = false;
        return tcache;
    }
    return NULL;
}

/* Where in its pages a cache begins. Blocks begin at a page, so a program that walks one in steps of a page fills the cache sets
 * of a page's first line; the lines that every call touches must not be among them. */
#define MAKE_OFFSET (17 * CACHE_LINE)

static struct tcache *make(void)
{
    void *memory = NULL;
    if (os_map(align_up(MAKE_OFFSET + sizeof(struct tcache), PAGE_BYTES), &memory)) return NULL;
    struct tcache *tcache = (struct tcache *)((char *)memory + MAKE_OFFSET);
    struct tcache *head = atomic_load_explicit(&registered, memory_order_relaxed);
    do
        tcache->next_registered = head;
    while (!atomic_compare_exchange_weak_explicit(&registered, &head, tcache, memory_order_release,
                                                  memory_order_relaxed));
    return tcache;
}

/* A cache of this thread whose pool is gone, or one whose thread is gone, or a new one. */
static struct tcache *obtain(void)
{
    for (struct tcache **link = &tcache_tls.first; *link; link = &(*link)->next_of_thread) {
        if (READ_RELAXED((*link)->pool)) continue;
        struct tcache *tcache = *link;
        *link = tcache->next_of_thread;
        return tcache;
    }
    if (!lock_acquire(&registry_lock)) return NULL;
    struct tcache *tcache = free_caches;
    if (tcache) free_caches = tcache->next_free;
    lock_release(&registry_lock);
    return tcache ? tcache : make();
}

/* A cache for this thread and pool, at the front of the thread's list; NULL if there is none to be had. */
static struct tcache *set_up_for(struct pool *pool)
{
    struct tcache *tcache = obtain();
    if (!tcache) return NULL;
    /* pool changes inside the section only, so that a reclaimer that holds claim can rely on it. */
    if (!tcache_enter(tcache)) return NULL; /* being reclaimed at this moment; its pages are lost */
    struct extent *left = NULL;
    if (READ_RELAXED(tcache->pool) && (READ_RELAXED(tcache->big) || READ_RELAXED(tcache->bytes))) left = tcache_take_all(tcache); /* its thread could not */
    if (left) tcache_return_list(tcache->pool, left);
    WRITE_RELAXED(tcache->pool, pool);
    WRITE_RELAXED(tcache->depth, pool->tcache_depth);
    WRITE_RELAXED(tcache->trusting, 0);
    tcache->n_unused_big = 0;
    if (!tcache->counted) atomic_fetch_add_explicit(&pool->n_tcaches, 1, memory_order_relaxed);
    tcache->counted = true;
    tcache_adopt_limit(tcache, pool);
    tcache_leave(tcache);
    tcache->next_of_thread = tcache_tls.first;
    tcache_tls.first = tcache;
    /* Keys below 32 are kept in the thread descriptor, so this does not allocate; ours is made at start-up. */
    if (exit_key_valid) {
        int saved = errno;
        pthread_setspecific(exit_key, tcache);
        errno = saved;
    }
    return tcache;
}

struct tcache *tcache_get(struct pool *pool)
{
    struct tcache *tcache = tcache_find(pool);
    if (tcache || pool->tcache_depth == 0 || tcache_tls.relinking) return tcache;
    tcache_tls.relinking = true;
    compiler_barrier();
    tcache = set_up_for(pool);
    compiler_barrier();
    tcache_tls.relinking = false;
    return tcache;
}

/* With the section entered or claimed: the block in the slot as a list, or NULL. */
static struct extent *take_slot(struct tcache *tcache)
{
    struct extent *big = READ_RELAXED(tcache->big);
    if (big) big->next = NULL;
    WRITE_RELAXED(tcache->big, NULL);
    return big;
}

struct extent *tcache_take_all(struct tcache *tcache)
{
    struct extent *list = NULL;
    for (unsigned cls = 0; cls < TCACHE_BIG_CLASS; cls++) {
        struct tcache_bin *bin = &tcache->bins[cls];
        while (bin->head) {
            struct extent *extent = bin->head;
            bin->head = extent->next;
            extent->next = list;
            list = extent;
        }
        WRITE_RELAXED(bin->n, 0);
    }
    WRITE_RELAXED(tcache->bytes, 0);
    struct extent *big = take_slot(tcache);
    if (!big) return list;
    big->next = list;
    return big;
}

/* Forget what a cache holds, where its lists cannot be trusted. */
static void abandon(struct tcache *tcache)
{
    for (unsigned cls = 0; cls < TCACHE_BIG_CLASS; cls++)
        tcache->bins[cls].head = NULL, WRITE_RELAXED(tcache->bins[cls].n, 0);
    WRITE_RELAXED(tcache->big, NULL);
    WRITE_RELAXED(tcache->bytes, 0);
}

void tcache_return_list(struct pool *pool, struct extent *list)
{
    if (unlikely(READ_RELAXED(pool->retired))) return; /* its locks are never released */
    struct extent *for_shard = NULL, *for_heap = NULL;
    while (list) {
        struct extent *next = list->next;
        struct extent **to = list->cls < pool->shard_end_class ? &for_shard : &for_heap;
        list->next = *to;
        *to = list;
        list = next;
    }
    if (for_shard) shard_put_list(pool, for_shard);
    heap_free_list(&pool->heap, for_heap);
}

/* Registering waits for a grace period of the kernel, milliseconds, when the process has several threads. */
static bool barrier_registered(void)
{
    return atomic_load_explicit(&barrier_state, memory_order_relaxed) == 1;
}

static bool barrier_works(void)
{
    int state = atomic_load_explicit(&barrier_state, memory_order_relaxed);
    if (state == 0) {
        state = os_membarrier_register() == 0 ? 1 : 2;
        atomic_store_explicit(&barrier_state, state, memory_order_relaxed);
    }
    return state == 1;
}

static uint64_t activity_of(const struct tcache *tcache)
{
    uint64_t sum = READ_RELAXED(tcache->n_slow_gets) + READ_RELAXED(tcache->n_slow_puts) + READ_RELAXED(tcache->bytes);
    for (unsigned cls = 0; cls < N_CLASSES; cls++)
        sum += tcache_hits(tcache, cls);
    return sum;
}

bool tcache_big_rests(struct tcache *tcache)
{
    uint64_t hits = 0;
    for (unsigned cls = TCACHE_BIG_CLASS; cls < N_CLASSES; cls++)
        hits += tcache_hits(tcache, cls);
    struct extent *big = READ_RELAXED(tcache->big);
    bool rests = big && big == READ_RELAXED(tcache->big_seen) && hits == READ_RELAXED(tcache->big_hits_seen);
    WRITE_RELAXED(tcache->big_seen, big);
    WRITE_RELAXED(tcache->big_hits_seen, hits);
    return rests;
}

static bool empty(const struct tcache *tcache) { return !READ_RELAXED(tcache->big) && READ_RELAXED(tcache->bytes) == 0; }

/* A cache that is to be emptied, or only its slot: its thread is at work, but not with that. */
struct claimed {
    struct tcache *tcache;
    bool only_big;
};

/* Claim up to a batch of caches, starting after *cursor. */
static unsigned claim_batch(struct pool *pool, bool only_idle, struct tcache **cursor, struct claimed *batch)
{
    unsigned n = 0;
    struct tcache *tcache = *cursor;
    for (; tcache && n < RECLAIM_BATCH; tcache = tcache->next_registered) {
        if (READ_RELAXED(tcache->pool) != pool || tcache == tcache_tls.first) continue;
        if (empty(tcache)) continue;
        bool only_big = false;
        if (only_idle) {
            uint64_t activity = activity_of(tcache);
            bool idle = activity == READ_RELAXED(tcache->activity_seen);
            WRITE_RELAXED(tcache->activity_seen, activity);
            only_big = tcache_big_rests(tcache) && !idle;
            if (!idle && !only_big) continue;
        }
        uint32_t expected = 0;
        if (atomic_compare_exchange_strong_explicit(&tcache->claim, &expected, 1, memory_order_seq_cst,
                                                    memory_order_relaxed))
            batch[n++] = (struct claimed){tcache, only_big};
    }
    *cursor = tcache;
    return n;
}

bool tcache_can_reclaim(void) { return barrier_registered(); }

unsigned tcache_reclaim(struct pool *pool, bool only_idle)
{
    if ((os_restricted && !helper_is_self()) || !barrier_works()) return 0;
    unsigned n_emptied = 0;
    struct tcache *cursor = tcache_registered();
    while (cursor) {
        struct claimed batch[RECLAIM_BATCH];
        unsigned n = claim_batch(pool, only_idle, &cursor, batch);
        if (n == 0) continue;
        bool ordered = os_membarrier() == 0;
        TCACHE_OTHERS_BARRIER();
        for (unsigned i = 0; i < n; i++) {
            struct extent *list = NULL;
            struct tcache *tcache = batch[i].tcache;
            /* Between the look and the claim the cache may have passed to another thread and pool. */
            if (ordered && atomic_load_explicit(&tcache->busy, memory_order_acquire) == 0 && READ_RELAXED(tcache->pool) == pool) {
                list = batch[i].only_big ? take_slot(tcache) : tcache_take_all(tcache);
                n_emptied++;
            }
            tcache_return_list(pool, list);
            atomic_store_explicit(&tcache->claim, 0, memory_order_release);
        }
    }
    return n_emptied;
}

size_t tcache_limit_of(const struct pool *pool)
{
    size_t least = READ_RELAXED(pool->tcache_limit_bytes);
    if (!pool->caches_grow || least < RECYCLE_MIN_BYTES) return least; /* bins that are watched stay small (recycle.c) */
    size_t n_threads = max_size(atomic_load_explicit(&pool->n_tcaches, memory_order_relaxed), 1);
    size_t active = READ_RELAXED(pool->heap.active_bytes);
    size_t n_full = max_size(TCACHE_FULL_THREADS, pool->n_shards);
    if (n_threads > n_full) {
        size_t all = max_size(least * n_full, active / TCACHE_MANY_SHARE);
        least = max_size(least / 4, min_size(least, all / n_threads));
    }
    return max_size(least, min_size(active / CACHE_SHARE / n_threads, TCACHE_GROW_MAX));
}

void tcache_adopt_limit(struct tcache *tcache, const struct pool *pool)
{
    WRITE_RELAXED(tcache->limit_bytes, tcache_limit_of(pool));
    compiler_barrier();
    WRITE_RELAXED(tcache->limit_bytes, tcache_limit_of(pool)); /* again: somebody may have begun to watch bins in between */
}

void tcache_disturb(struct pool *pool)
{
    /* A store of the owner at the same moment may win; then it is found a second later. */
    size_t limit = tcache_limit_of(pool);
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered) {
        if (READ_RELAXED(tcache->pool) != pool) continue;
        __atomic_store_n(&tcache->trusting, 0, __ATOMIC_RELAXED);
        if (READ_RELAXED(tcache->limit_bytes) > limit) WRITE_RELAXED(tcache->limit_bytes, limit);
    }
}

/* Claim one cache and wait for its owner to be out of it. False if it is claimed by somebody else or stays busy. */
static bool claim_one(struct tcache *tcache, int tries)
{
    uint32_t unclaimed = 0;
    if (!atomic_compare_exchange_strong(&tcache->claim, &unclaimed, 1)) return false;
    if (barrier_works()) os_membarrier();
    TCACHE_OTHERS_BARRIER();
    for (int i = 0; i < tries; i++) {
        if (atomic_load_explicit(&tcache->busy, memory_order_acquire) == 0) return true;
        lock_relax();
    }
    atomic_store_explicit(&tcache->claim, 0, memory_order_release);
    return false;
}

void tcache_forget_pool(struct pool *pool)
{
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered)
        while (READ_RELAXED(tcache->pool) == pool) {
            if (!claim_one(tcache, CLAIM_TRIES)) {
                lock_relax();
                if (!in_child) continue;
                /* Its thread was inside when another one forked, and does not exist here. */
                abandon(tcache);
                WRITE_RELAXED(tcache->pool, NULL);
                continue;
            }
            if (READ_RELAXED(tcache->pool) == pool) {
                fold_counters(tcache, pool);
                tcache_take_all(tcache);
                tcache->counted = false;
                WRITE_RELAXED(tcache->pool, NULL);
            }
            atomic_store_explicit(&tcache->claim, 0, memory_order_release);
        }
}

void tcache_fork_child(void)
{
    WRITE_RELAXED(in_child, true);
    /* Nobody can hold it: exiting threads of the child have passed no door yet, and others have no cache. */
    atomic_store_explicit(&registry_lock.held, 0, memory_order_relaxed);
    for (struct tcache *tcache = tcache_registered(); tcache; tcache = tcache->next_registered) {
        if (!READ_RELAXED(tcache->pool) || tcache == tcache_tls.first) continue;
        if (atomic_load_explicit(&tcache->claim, memory_order_relaxed)) {
            /* The parent was emptying it: its lists cannot be trusted, and its owner keeps out. */
            abandon(tcache);
            atomic_store_explicit(&tcache->claim, 0, memory_order_release);
        } else if (!os_restricted && barrier_registered() && claim_one(tcache, CLAIM_TRIES)) {
            struct extent *list = tcache_take_all(tcache);
            tcache_return_list(READ_RELAXED(tcache->pool), list);
            atomic_store_explicit(&tcache->claim, 0, memory_order_release);
        }
    }
    struct tcache *mine = tcache_tls.first;
    if (mine && atomic_load_explicit(&mine->claim, memory_order_relaxed)) {
        abandon(mine);
        atomic_store_explicit(&mine->claim, 0, memory_order_release);
    }
}
