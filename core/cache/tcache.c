/* SPDX-License-Identifier: MIT */
/* tcache.c: making, finding and emptying thread caches, and their limits. See tcache.h for the protocol. */
#include "cache/tcache.h"

#include "os/os.h"
#include "sync/background.h"
#include "sync/fork_door.h"

#include <errno.h>
#include <pthread.h>

__thread struct tcache_tls tcache_tls __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* The list grows only; a cache whose thread has exited is handed to the next thread. */
static struct lock registry_lock;
static _Atomic(struct tcache *) registered;
static struct tcache *free_caches;

static pthread_key_t exit_key;
static bool exit_key_valid;

/* How often an exiting thread tries to enter a cache that a reclaimer has claimed. */
#define EXIT_TRIES 1000

/* Of addresses, for each thread that uses several pools; touched where their numbers are. */
#define INDEX_BYTES (align_up((TCACHE_POOLS_MAX + 1) * sizeof(struct tcache *), PAGE_BYTES))

struct tcache *tcache_registered(void) {
    return atomic_load_explicit(&registered, memory_order_acquire);
}

/* Hand a cache's counts to its pool, for the totals, and begin anew. Who sums them up meanwhile would find
 * some of them in both places, or in none; counts_begin in stats.c tells. */
void tcache_fold_counters(struct tcache *tcache, struct tcaches *caches) {
    uint64_t n_hits = 0;
    atomic_fetch_add_explicit(&caches->gone->n_folds_begun, 1, memory_order_seq_cst);
    for (unsigned cls = 0; cls < N_CLASSES; cls++) {
        uint64_t n = tcache_hits(tcache, cls);
        if (!n) continue;
        n_hits += n;
        atomic_fetch_add_explicit(&caches->gone->n_class_hits[cls], n, memory_order_relaxed);
        tcache_forget_hits(tcache, cls);
    }
    atomic_fetch_add_explicit(&caches->gone->n_tcache_hits, n_hits, memory_order_relaxed);
    atomic_fetch_add_explicit(&caches->gone->n_slow_gets, tcache->n_slow_gets, memory_order_relaxed);
    atomic_fetch_add_explicit(&caches->gone->n_shard_hits, tcache->n_shard_hits, memory_order_relaxed);
    atomic_fetch_add_explicit(&caches->gone->n_steals, tcache->n_steals, memory_order_relaxed);
    WRITE_RELAXED(tcache->n_slow_gets, 0);
    WRITE_RELAXED(tcache->n_slow_puts, 0);
    WRITE_RELAXED(tcache->n_shard_hits, 0);
    WRITE_RELAXED(tcache->n_steals, 0);
    atomic_fetch_add_explicit(&caches->gone->n_folds_ended, 1, memory_order_seq_cst);
}

static void thread_exits(void *ignored) {
    (void)ignored;
    int saved = errno;
    bool passed = fork_pass();
    /* a handler of a signal must not wait for the locks that are taken here, nor repair after a fork of its
     * own */
    tcache_tls.entered |= IN_SLOW_PATH;
    struct tcache *tcache = tcache_tls.first, **by_number = tcache_tls.by_number;
    tcache_tls.first = NULL;
    tcache_tls.by_number = NULL;
    compiler_barrier(); /* a handler finds neither from here on */
    if (by_number) os_unmap(by_number, INDEX_BYTES);
    while (tcache) {
        struct tcache *next = tcache->next_of_thread;
        /* A reclaimer that has claimed it either empties it or gives up; both take microseconds. Entered
         * until all is returned, so that zp_pool_destroy waits for us. */
        for (int i = 0; i < EXIT_TRIES; i++) {
            if (!tcache_enter(tcache)) {
                lock_relax();
                continue;
            }
            struct tcaches *caches = READ_RELAXED(tcache->caches);
            struct extent *list = tcache_take_all(tcache);
            if (caches) {
                tcache_fold_counters(tcache, caches);
                if (tcache->counted) atomic_fetch_sub_explicit(&caches->n, 1, memory_order_relaxed);
                tcache->counted = false;
                tcache_lose_earned(tcache, caches);
                if (passed) tcache_return_list(caches, list);
            }
            tcache_leave(tcache);
            break;
        }
        /* If the lock cannot be had the cache stays off the free list and is reclaimed as idle; it is lost
         * for reuse. */
        if (lock_acquire(&registry_lock)) {
            tcache->next_free = free_caches;
            free_caches = tcache;
            lock_release(&registry_lock);
        }
        tcache = next;
    }
    tcache_tls.ending = true;
    background_note_end();
    tcache_tls.entered &= ~(uint32_t)IN_SLOW_PATH;
    errno = saved;
}

void tcache_setup_process(void) {
    static _Atomic int done;
    if (atomic_exchange(&done, 1)) return;
    exit_key_valid = pthread_key_create(&exit_key, thread_exits) == 0;
}

struct tcache *tcache_find(struct tcaches *caches) {
    struct tcache *tcache = tcache_tls.first;
    if (tcache && READ_RELAXED(tcache->caches) == caches) return tcache;
    struct tcache **by_number = READ_RELAXED(tcache_tls.by_number);
    if (by_number && caches->number) {
        tcache = READ_RELAXED(by_number[caches->number]);
        return tcache && READ_RELAXED(tcache->caches) == caches ? tcache : NULL;
    }
    while (tcache && READ_RELAXED(tcache->caches) != caches)
        tcache = tcache->next_of_thread;
    return tcache;
}

/* The thread is about to have a second cache. */
static void make_index(void) {
    void *memory = NULL;
    if (tcache_tls.by_number || !tcache_tls.first || os_map(INDEX_BYTES, &memory)) return;
    struct tcache **by_number = memory;
    for (struct tcache *tcache = tcache_tls.first; tcache; tcache = tcache->next_of_thread)
        if (READ_RELAXED(tcache->caches)) by_number[tcache->number] = tcache;
    WRITE_RELAXED(tcache_tls.by_number, by_number);
}

/* Where in its pages a cache begins. Blocks begin at a page, so a program that walks one in steps of a page
 * fills the cache sets of a page's first line; the lines that every call touches must not be among them. */
#define MAKE_OFFSET (17 * CACHE_LINE)

static struct tcache *make(void) {
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

/* A cache of this thread whose pool is gone; it stays where it is in the thread's list. Of several only one
 * that had a pool of the same number is looked for: new pools have the lowest number that is free. */
static struct tcache *find_unused(const struct tcaches *caches) {
    struct tcache *tcache = tcache_tls.first;
    if (tcache_tls.by_number && caches->number) {
        tcache = tcache_tls.by_number[caches->number];
        return tcache && !READ_RELAXED(tcache->caches) ? tcache : NULL;
    }
    while (tcache && READ_RELAXED(tcache->caches))
        tcache = tcache->next_of_thread;
    return tcache;
}

/* One whose thread is gone, or a new one. */
static struct tcache *obtain(void) {
    if (!lock_acquire(&registry_lock)) return NULL;
    struct tcache *tcache = free_caches;
    if (tcache) free_caches = tcache->next_free;
    lock_release(&registry_lock);
    return tcache ? tcache : make();
}

/* A cache for this thread and pool, in the thread's list; NULL if there is none to be had. */
static struct tcache *set_up_for(struct tcaches *caches) {
    struct tcache *unused = find_unused(caches), *tcache = unused ? unused : obtain();
    if (!tcache) return NULL;
    /* caches changes inside the section only, so that a reclaimer that holds claim can rely on it. */
    if (!tcache_enter(tcache)) return NULL; /* being reclaimed at this moment; its pages are lost */
    /* There as long as the cache names it and we are inside. */
    struct tcaches *before = READ_RELAXED(tcache->caches);
    /* Its thread has handed over blocks and counts, but perhaps could not. */
    if (before && !tcache_is_empty(tcache)) tcache_return_list(before, tcache_take_all(tcache));
    if (before) tcache_lose_earned(tcache, before);
    tcache->earned_pages = tcache->n_missed = 0;
    if (before && before != caches) {
        tcache_fold_counters(tcache, before); /* tells who sums them up that the cache is another's now */
        if (tcache->counted) atomic_fetch_sub_explicit(&before->n, 1, memory_order_relaxed);
        tcache->counted = false;
    }
    WRITE_RELAXED(tcache->caches, caches);
    WRITE_RELAXED(tcache->depth, caches->depth);
    for (unsigned cls = 0; cls < TCACHE_BIG_CLASS; cls++)
        tcache_bin_set_n(tcache, cls, 0);
    WRITE_RELAXED(tcache->big_slot_unchecked, 0);
    tcache->n_unused_big = 0;
    tcache->near_share = 0; /* until something has been taken from the heap */
    if (!tcache->counted) atomic_fetch_add_explicit(&caches->n, 1, memory_order_relaxed);
    tcache->counted = true;
    tcache_adopt_limit(tcache, caches);
    tcache_leave(tcache);
    if (unlikely(os_restricted)) tcache_disturb(caches); /* there may be two now */
    tcache->number = caches->number;
    if (!unused) {
        make_index();
        tcache->next_of_thread = tcache_tls.first;
        compiler_barrier();
        tcache_tls.first = tcache;
    }
    if (tcache_tls.by_number) WRITE_RELAXED(tcache_tls.by_number[caches->number], tcache);
    /* Keys below 32 are kept in the thread descriptor, so this does not allocate; ours is made at
     * start-up. */
    if (exit_key_valid) {
        int saved = errno;
        pthread_setspecific(exit_key, tcache);
        errno = saved;
    }
    return tcache;
}

struct tcache *tcache_get(struct tcaches *caches) {
    struct tcache *tcache = tcache_find(caches);
    if (tcache || caches->depth == 0 || tcache_tls.relinking || tcache_tls.ending) return tcache;
    tcache_tls.relinking = true;
    compiler_barrier();
    tcache = set_up_for(caches);
    compiler_barrier();
    tcache_tls.relinking = false;
    return tcache;
}

/* With the section entered or claimed: the block in the slot as a list, or NULL. */
struct extent *tcache_take_slot(struct tcache_slot *slot) {
    struct extent *extent = slot->extent;
    if (extent) extent->next = NULL;
    WRITE_RELAXED(slot->extent, NULL);
    return extent;
}

struct extent *tcache_take_all(struct tcache *tcache) {
    struct extent *list = NULL;
    for (unsigned cls = 0; cls < TCACHE_BIG_CLASS; cls++) {
        struct tcache_bin *bin = &tcache->bins[cls];
        while (bin->head) {
            struct extent *extent = bin->head;
            bin->head = extent->next;
            extent->next = list;
            list = extent;
        }
        tcache_bin_set_n(tcache, cls, 0);
    }
    WRITE_RELAXED(tcache->n_pages, 0);
    struct tcache_slot *slots[] = {&tcache->small, &tcache->big};
    for (int i = 0; i < 2; i++) {
        struct extent *extent = tcache_take_slot(slots[i]);
        if (!extent) continue;
        extent->next = list;
        list = extent;
    }
    return list;
}

void tcache_return_list(struct tcaches *caches, struct extent *list) {
    struct extent *for_shard = NULL, *for_heap = NULL;
    while (list) {
        struct extent *next = list->next;
        struct extent **to = list->n_pages <= caches->shards->max_pages ? &for_shard : &for_heap;
        list->next = *to;
        *to = list;
        list = next;
    }
    if (for_shard) shard_put_list(caches->shards, for_shard);
    heap_free_list(caches->shards->heap, for_heap);
}

size_t tcache_limit_of(const struct tcaches *caches) {
    size_t least = READ_RELAXED(caches->limit_bytes);
    /* among them those of bins whose blocks are checked at every free (recycle.c) */
    if (!caches->grow || least < TCACHE_GROW_FROM) return least;
    size_t n_threads = max_size(atomic_load_explicit(&caches->n, memory_order_relaxed), 1);
    if (unlikely(os_restricted) && n_threads > 1) return min_size(least, TCACHE_FILTERED_BYTES / n_threads);
    size_t active = READ_RELAXED(caches->shards->heap->active_bytes);
    size_t n_full = max_size(TCACHE_FULL_THREADS, caches->shards->n);
    if (n_threads > n_full) {
        size_t all = max_size(least * n_full, active / TCACHE_MANY_SHARE);
        least = max_size(least / 4, min_size(least, all / n_threads));
    }
    return max_size(least, min_size(active / CACHE_SHARE / n_threads, TCACHE_GROW_MAX));
}

static size_t limit_with_earned(const struct tcache *tcache, const struct tcaches *caches) {
    size_t limit = tcache_limit_of(caches);
    bool may_grow = caches->grow && limit >= TCACHE_GROW_FROM && !os_restricted;
    return limit + (may_grow ? (size_t)tcache->earned_pages << PAGE_SHIFT : 0);
}

void tcache_adopt_limit(struct tcache *tcache, const struct tcaches *caches) {
    tcache_set_limit(tcache, limit_with_earned(tcache, caches));
    compiler_barrier();
    /* again: somebody may have begun to watch bins in between */
    tcache_set_limit(tcache, limit_with_earned(tcache, caches));
}

void tcache_missed(struct tcache *tcache, struct tcaches *caches, unsigned cls) {
    if (!tcache->given_up[cls]) return;
    tcache->given_up[cls]--;
    if (++tcache->n_missed < TCACHE_MISSES || !caches->grow) return;
    tcache->n_missed = 0;
    size_t active = READ_RELAXED(caches->shards->heap->active_bytes);
    size_t most = max_size(active / TCACHE_EARNED_SHARE, TCACHE_EARNED_BYTES) >> PAGE_SHIFT;
    const uint32_t step = TCACHE_EARNED_STEP >> PAGE_SHIFT;
    if (tcache->earned_pages + step > TCACHE_GROW_MAX >> PAGE_SHIFT) return;
    uint32_t all = atomic_fetch_add_explicit(&caches->earned_pages, step, memory_order_relaxed);
    if (all + step > most)
        atomic_fetch_sub_explicit(&caches->earned_pages, step, memory_order_relaxed);
    else
        tcache->earned_pages += step;
}

void tcache_lose_earned(struct tcache *tcache, struct tcaches *caches) {
    if (!tcache->earned_pages) return;
    atomic_fetch_sub_explicit(&caches->earned_pages, tcache->earned_pages, memory_order_relaxed);
    tcache->earned_pages = 0;
}

void tcache_adopt_near(struct tcache *tcache, const struct tcaches *caches) {
    if (!caches->grow) return; /* the API's pools promise exact classes (zp_usable_size) */
    size_t active_pages = READ_RELAXED(caches->shards->heap->active_bytes) >> PAGE_SHIFT;
    size_t n_threads = atomic_load_explicit(&caches->n, memory_order_relaxed);
    size_t all = READ_RELAXED(tcache->limit_pages) * n_threads;
    tcache->near_share =
        (uint32_t)min_size(TCACHE_NEAR_ONE * all / max_size(active_pages, 1), TCACHE_NEAR_MOST);
}

struct extent *tcache_take_near(struct tcache *tcache, unsigned cls) {
    uint32_t wanted = (uint32_t)class_pages(cls);
    unsigned last = class_floor(wanted + wanted * tcache->near_share / TCACHE_NEAR_ONE), at = cls + 1;
    if (last >= TCACHE_BIG_CLASS) last = TCACHE_BIG_CLASS - 1;
    if (at > last || !tcache_enter(tcache)) return NULL;
    while (at <= last && !tcache->bins[at].head)
        at++;
    struct extent *extent = tcache->small.extent;
    if (extent && extent->cls > cls && extent->cls <= min_size(at, last)) {
        tcache_take_slot(&tcache->small);
    } else if ((extent = at <= last ? tcache->bins[at].head : NULL)) {
        struct tcache_bin *bin = &tcache->bins[at];
        bin->head = extent->next;
        ADD_OWN(bin->room, 1);
        SUB_OWN(tcache->n_pages, extent->n_pages);
    }
    if (extent) {
        ADD_OWN(tcache->n_hits[cls], 1);
        extent_set_state(extent, EXTENT_LIVE);
    }
    tcache_leave(tcache);
    return extent;
}

/* Nobody can hold it: exiting threads of the child have passed no door yet, and others have no cache. */
void tcache_free_registry(void) {
    atomic_store_explicit(&registry_lock.held, 0, memory_order_relaxed);
}
