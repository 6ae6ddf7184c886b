/* SPDX-License-Identifier: MIT */
/* helper.c: what the background thread does. See helper.h. */
#include "process/helper.h"

#include "base/time.h"
#include "os/os.h"
#include "heap/decay.h"
#include "heap/heap_fresh.h"
#include "pool/limits.h"

#include <errno.h>

static _Atomic(struct pool *) pools[TCACHE_POOLS_MAX]; /* touched up to the first `places` */
static _Atomic unsigned places, n_pools;
static _Atomic(struct pool *) visiting;

static bool forbidden;
static bool always; /* also in a process with one thread */
static _Atomic(void (*)(void)) visitor;
static unsigned visitor_every_ms;

static bool for_good;
static bool has_run; /* in this process */

/* What could not be done for a reason that may pass, and when that was tried last. Words of their own,
 * written by who tried: who reads an old time with a new mark tries once more than need be. */
struct put_off {
    bool is;
    uint32_t since_ms, for_ms;
};
static struct put_off start_put_off;
unsigned helper_retry_ms = 60000;

/* Where the C library says that there have been threads, but there are none now, the tasks are counted again
 * after this time, and after twice that the next time, up to a limit: a program whose threads come and go
 * must not have ours come and go with them. */
#define ALONE_MS 1000u
#define ALONE_MAX_MS 8000u
static unsigned n_alone;
/* The kernel counts a thread of the program that has ended (background_ended_ms) a little longer, so for a
 * while ours looks often whether it is alone. */
#define END_MS 50u
#define END_NAP_MS 3u
/* Time between two looks at the room for tasks. */
#define ROOM_MS 1000

/* Looks at the thread caches with next to nothing to look after, and that at rest, before the thread leaves.
 * The first sees what a thread's cache holds, the second that it still does, and empties it: then it is not
 * at rest. What a cache in steady use holds, below HELPER_LEAVE_BYTES, does not keep the thread. */
#define IDLE_LOOKS_MAX 3

bool helper_add_pool(struct pool *pool) {
    for (unsigned i = 0; i < TCACHE_POOLS_MAX; i++) {
        struct pool *none = NULL;
        if (atomic_load_explicit(&pools[i], memory_order_relaxed)) continue;
        pool->tcaches.number = i + 1; /* before anybody sees the pool */
        if (!atomic_compare_exchange_strong(&pools[i], &none, pool)) continue;
        unsigned before = atomic_load(&places);
        while (before <= i && !atomic_compare_exchange_weak(&places, &before, i + 1))
            continue;
        atomic_fetch_add_explicit(&n_pools, 1, memory_order_relaxed);
        return true;
    }
    pool->tcaches.number = 0;
    return false;
}

unsigned helper_count_pools(void) {
    return atomic_load_explicit(&n_pools, memory_order_relaxed);
}

void helper_remove_pool(struct pool *pool) {
    struct pool *expected = pool;
    if (pool->tcaches.number &&
        atomic_compare_exchange_strong(&pools[pool->tcaches.number - 1], &expected, NULL))
        atomic_fetch_sub_explicit(&n_pools, 1, memory_order_relaxed);
    while (atomic_load(&visiting) == pool)
        os_yield();
}

void helper_for_each_pool(void (*visit)(struct pool *)) {
    for (unsigned i = 0, end = atomic_load(&places); i < end; i++) {
        struct pool *pool = atomic_load(&pools[i]);
        if (pool) visit(pool);
    }
}

static bool needs_care(const struct pool *pool) {
    return pool->ready && pool->heap.decay_ms;
}

/* What one round sets and finds. */
struct round {
    bool look_at_caches;
    unsigned wait_ms; /* until a pool wants to be looked at again, */
    bool at_rest;     /* or none does */
    size_t bytes;     /* live and idle */
};

/* Visit each pool in our care; helper_remove_pool waits while its pool is visited. */
static void visit_pools(void (*visit)(struct pool *, struct round *), struct round *round) {
    for (unsigned i = 0, end = atomic_load(&places); i < end; i++) {
        struct pool *pool = atomic_load(&pools[i]);
        if (!pool) continue;
        atomic_store(&visiting, pool);
        if (atomic_load(&pools[i]) == pool && needs_care(pool)) visit(pool, round);
        atomic_store(&visiting, NULL);
    }
}

static void care_for(struct pool *pool, struct round *round) {
    limits_refresh(pool);
    uint32_t now = os_clock_ms();
    heap_fresh_learn_machine(&pool->heap);
    /* A look walks all caches of all pools: not worth it if nothing is out of the heap. */
    if (round->look_at_caches && READ_RELAXED(pool->heap.active_bytes)) pool_drain_caches(pool, true);
    unsigned wait = pool_tick(pool, now);
    if (!wait) return;
    round->at_rest = false;
    if (wait < round->wait_ms) round->wait_ms = wait;
}

static void add_bytes(struct pool *pool, struct round *round) {
    size_t dirty = READ_RELAXED(pool->heap.dirty_bytes);
    if (dirty > pool->heap.retain_bytes) round->at_rest = false;
    round->bytes += READ_RELAXED(pool->heap.active_bytes) + dirty;
}

/* Does what the pools hold now speak against leaving? */
static bool is_needed(struct round *round) {
    round->bytes = 0;
    visit_pools(add_bytes, round);
    return !round->at_rest || for_good || atomic_load(&visitor) || round->bytes >= HELPER_LEAVE_BYTES;
}

/* One round over all pools, and the sleep after it: what happened during that counts, too. Returns whether
 * the thread is needed. */
static bool look_after_all(struct round *round) {
    round->wait_ms = BACKGROUND_POLL_MS;
    round->at_rest = true;
    visit_pools(care_for, round);
    void (*visit)(void) = atomic_load_explicit(&visitor, memory_order_acquire);
    if (visit) {
        visit();
        if (visitor_every_ms < round->wait_ms) round->wait_ms = visitor_every_ms;
    }
    uint32_t ended = READ_RELAXED(background_ended_ms);
    if (ended && os_clock_ms() - ended < END_MS) round->wait_ms = END_NAP_MS;
    os_helper_sleep(round->wait_ms);
    return is_needed(round);
}

static void put_off(struct put_off *what, unsigned for_ms) {
    WRITE_RELAXED(what->for_ms, for_ms);
    WRITE_RELAXED(what->since_ms, os_clock_ms());
    WRITE_RELAXED(what->is, true);
}

static bool is_put_off(const struct put_off *what) {
    return READ_RELAXED(what->is) && time_passed_ms(os_clock_ms(), READ_RELAXED(what->since_ms)) <
                                         min_size(READ_RELAXED(what->for_ms), READ_RELAXED(helper_retry_ms));
}

static bool is_wanted_alone(void) {
    return READ_RELAXED(always) || READ_RELAXED(for_good) ||
           atomic_load_explicit(&visitor, memory_order_relaxed);
}

/* The program has, with ours, so many tasks: is that one thread? Not if it cannot be told. */
static bool is_alone(int n_tasks, int n_ours) {
    return !is_wanted_alone() && n_tasks && n_tasks <= n_ours + 1;
}

static void put_off_alone(void) {
    unsigned for_ms = ALONE_MS << READ_RELAXED(n_alone);
    put_off(&start_put_off, for_ms);
    if (for_ms < ALONE_MAX_MS) ADD_RELAXED(n_alone, 1);
}

/* In the thread: must it leave, even if there is work? Then it does not come back at once. */
static bool is_in_the_way(void) {
    static uint32_t looked_ms;
    if (is_alone(os_task_count(), 1)) {
        put_off_alone();
        return true;
    }
    if (time_passed_ms(os_clock_ms(), looked_ms) < ROOM_MS) return false;
    looked_ms = os_clock_ms();
    if (os_room_for_task()) return false;
    put_off(&start_put_off, UINT32_MAX);
    return true;
}

static bool must_leave(void) {
    return os_helper_must_leave() || is_in_the_way();
}

/* Rounds until the thread is not needed or must leave. Returns whether it must. */
static bool rounds(struct round *round) {
    uint32_t last_look_ms = os_clock_ms();
    unsigned n_idle_looks = 0;
    while (n_idle_looks < IDLE_LOOKS_MAX) {
        if (must_leave()) return true;
        round->look_at_caches = time_passed_ms(os_clock_ms(), last_look_ms) >= DECAY_GRACE_MS;
        if (round->look_at_caches) last_look_ms = os_clock_ms();
        n_idle_looks = look_after_all(round) ? 0 : n_idle_looks + round->look_at_caches;
        __atomic_store_n(&background_round_ms, os_clock_ms(), __ATOMIC_RELAXED);
    }
    return os_helper_must_leave();
}

static void run(void) {
    tcache_tls.is_helper = true;
    struct round round = {0};
    for (;;) {
        bool must = rounds(&round);
        atomic_store(&background_state, BACKGROUND_NONE);
        /* A call that passed the mark just before took us for running, so look once more. Nobody can start
         * another thread while we exist (os_helper_start): who tries holds `state` only until that is
         * refused. */
        if (must || os_helper_must_leave() || !is_needed(&round)) return;
        for (int none = BACKGROUND_NONE;
             !atomic_compare_exchange_strong(&background_state, &none, BACKGROUND_RUNNING);
             none = BACKGROUND_NONE)
            os_yield();
    }
}

void helper_allow(bool allowed) {
    forbidden = !allowed;
    always = allowed;
}

void helper_fork_child(void) {
    atomic_store(&background_state, BACKGROUND_NONE);
    atomic_store(&visiting, NULL);
    os_helper_fork_child();
    for_good = has_run = start_put_off.is = false;
    n_alone = 0;
}

/* The claim is held: nobody else learns, starts or runs. 0, or as os_helper_start. */
static int start_claimed(void) {
    if (is_alone(os_task_count(), 0)) {
        put_off_alone();
        return -EAGAIN;
    }
    WRITE_RELAXED(background_round_ms, os_clock_ms());
    int error = os_helper_start(run, &tcache_tls);
    if (!error) {
        WRITE_RELAXED(has_run, true);
        int starting = BACKGROUND_STARTING; /* unless it has left already */
        atomic_compare_exchange_strong(&background_state, &starting, BACKGROUND_RUNNING);
        return 0;
    }
    /* Decay then depends on the program's calls. Do not try at every allocation. */
    if (error == -EBUSY)
        put_off(&start_put_off, UINT32_MAX);
    else if (error != -EAGAIN)
        WRITE_RELAXED(forbidden, true);
    return error;
}

/* What work does, under the claim; -EALREADY where somebody else has it, or the thread runs. A handler that
 * comes in half-way and forks would leave the child a thread that is neither there nor not. */
static int under_claim(int (*work)(void)) {
    uint64_t before = os_block_signals();
    int none = BACKGROUND_NONE, error = -EALREADY;
    if (atomic_compare_exchange_strong(&background_state, &none, BACKGROUND_STARTING)) {
        error = work();
        if (error) atomic_store(&background_state, BACKGROUND_NONE);
    }
    os_restore_signals(before);
    return error;
}

static int helper_start(void) {
    return READ_RELAXED(forbidden) ? -EPERM : under_claim(start_claimed);
}

bool helper_start_for_good(void (*visit)(void), unsigned every_ms) {
    for_good = true;
    if (visit) {
        visitor_every_ms = every_ms;
        atomic_store_explicit(&visitor, visit, memory_order_release);
    }
    int error;
    while ((error = helper_start()) == -EALREADY && atomic_load(&background_state) != BACKGROUND_RUNNING)
        os_yield(); /* the result of another thread's start is the answer to ours */
    if (!error || (error == -EALREADY && background_runs())) return true;
    /* It may be started later for the pool's sake, as if this had not been asked for. */
    for_good = false;
    if (visit) atomic_store_explicit(&visitor, NULL, memory_order_release);
    return false;
}

bool helper_is_only_company(void) {
    /* A request to watch the process is a request for the thread. */
    return atomic_load_explicit(&background_state, memory_order_relaxed) != BACKGROUND_NONE &&
           !atomic_load_explicit(&visitor, memory_order_relaxed) && os_task_count() == 2;
}

bool helper_dismiss(unsigned timeout_ms) {
    if (tcache_tls.is_helper) return true; /* a handler on the thread itself */
    uint32_t begin_ms = os_clock_ms();
    while (atomic_load(&background_state) == BACKGROUND_STARTING) {
        if (time_passed_ms(os_clock_ms(), begin_ms) > timeout_ms) return false;
        os_yield();
    }
    if (atomic_load(&background_state) == BACKGROUND_RUNNING) put_off(&start_put_off, HELPER_AWAY_MS);
    return os_helper_dismiss(timeout_ms);
}

/* Is a start worth a try? Without a system call, since this is asked on each slow path. */
static bool may_start(void) {
    return !READ_RELAXED(forbidden) && (is_wanted_alone() || !os_single_threaded()) &&
           os_helper_may_start() && !is_put_off(&start_put_off);
}

void helper_start_for(size_t held_bytes) {
    size_t mark = READ_RELAXED(has_run) ? HELPER_LEAVE_BYTES : HELPER_START_BYTES;
    if (held_bytes >= mark && may_start()) helper_start();
}
