/* SPDX-License-Identifier: MIT */
/* counters.h: what threads cost each other, counted in builds with -Dcounters=true only. In all others the
 * hooks below are empty.
 *
 * Each thread counts in a line of its own, as long as there are no more than COUNTER_LINES of them; the sums
 * are in the line of statistics. A new counter is one line of the list.
 *
 *   COUNT(name)              one more
 *   COUNT_IF(what, name)     one more if `what` holds
 *   COUNT_LOCK_KIND(l, kind) this lock is one of that kind
 *   COUNT_PUT(extent)        the block comes from this processor
 *   COUNT_GET(extent)        the block goes to this processor: was it another that returned it?
 */
#ifndef ZP_SYNC_COUNTERS_H
#define ZP_SYNC_COUNTERS_H

#ifdef ZP_COUNTERS

#include "os/os.h"

#include <stdatomic.h>

/* Locks have four counters each, in this order: had; held by another at the first look; given up; held last
 * by another processor, so that its line and what it guards had to be fetched from there. */
#define COUNTERS_OF_LOCK(X, lock) X(lock##_locked) X(lock##_contended) X(lock##_given_up) X(lock##_moved)
#define COUNTERS(X)                                                                                          \
    COUNTERS_OF_LOCK(X, other)                                                                               \
    COUNTERS_OF_LOCK(X, heap)                                                                                \
    COUNTERS_OF_LOCK(X, shard)                                                                               \
    COUNTERS_OF_LOCK(X, watch)                                                                               \
    X(gets_tcache)     /* requests served by the thread cache, */                                            \
    X(gets_shard)      /* by the own shard, */                                                               \
    X(gets_elsewhere)  /* by another one, */                                                                 \
    X(gets_heap)       /* by the heap; */                                                                    \
    X(gets_moved)      /* by any, with a block that another processor has returned */                        \
    X(looks_elsewhere) /* other shards looked at */                                                          \
    X(puts)            /* blocks returned by the program; */                                                 \
    X(puts_tcache)     /* of these, kept by the thread cache */                                              \
    X(to_shard)        /* blocks that a shard kept, and */                                                   \
    X(to_heap)         /* blocks that came to the heap, from any level */

enum counter {
#define COUNTER_ENUM(name) COUNTER_##name,
    COUNTERS(COUNTER_ENUM) N_COUNTERS
};

enum lock_kind { LOCK_OTHER, LOCK_HEAP, LOCK_SHARD, LOCK_WATCH };

/* More threads than these share lines. */
#define COUNTER_LINES 256
struct counter_line {
    _Atomic uint64_t n[N_COUNTERS];
} __attribute__((aligned(CACHE_LINE)));

/* The calling thread's. */
struct counter_line *counters_mine(void);

static inline void counter_add(enum counter counter) {
    atomic_fetch_add_explicit(&counters_mine()->n[counter], 1, memory_order_relaxed);
}

/* In the order of the list. */
extern const char *const counter_names[N_COUNTERS];
void counters_sum(uint64_t sums[N_COUNTERS]);
/* In a forked child: begin anew. */
void counters_reset(void);

void counters_put(const void *extent);
void counters_get(const void *extent);

#define COUNT(name) counter_add(COUNTER_##name)
#define COUNT_IF(what, name)                                                                                 \
    do {                                                                                                     \
        if (what) COUNT(name);                                                                               \
    } while (0)
#define COUNT_PUT(extent) counters_put(extent)
#define COUNT_GET(extent) counters_get(extent)
#define COUNT_LOCK_KIND(lock, its_kind) ((void)((lock)->kind = (its_kind)))
#define COUNT_LOCKED(lock) counters_locked(&(lock)->kind, &(lock)->last_cpu)
#define COUNT_CONTENDED(lock) counter_add((enum counter)((lock)->kind * 4 + COUNTER_other_contended))
#define COUNT_GIVEN_UP(lock) counter_add((enum counter)((lock)->kind * 4 + COUNTER_other_given_up))
#define COUNT_RESET() counters_reset()
/* The last holder's processor; written by the holder. */
#define COUNTED_LOCK                                                                                         \
    uint8_t kind; /* enum lock_kind */                                                                       \
    uint16_t last_cpu;

static inline void counters_locked(const uint8_t *kind, uint16_t *last_cpu) {
    uint16_t cpu = (uint16_t)(os_cpu_current() + 1);
    counter_add((enum counter)(*kind * 4 + COUNTER_other_locked));
    if (*last_cpu && *last_cpu != cpu) counter_add((enum counter)(*kind * 4 + COUNTER_other_moved));
    *last_cpu = cpu;
}

#else

#define COUNT(name) ((void)0)
#define COUNT_IF(what, name) ((void)0)
#define COUNT_PUT(extent) ((void)0)
#define COUNT_GET(extent) ((void)0)
#define COUNT_LOCK_KIND(lock, its_kind) ((void)0)
#define COUNT_LOCKED(lock) ((void)0)
#define COUNT_CONTENDED(lock) ((void)0)
#define COUNT_GIVEN_UP(lock) ((void)0)
#define COUNT_RESET() ((void)0)
#define COUNTED_LOCK

#endif

#endif
