// SPDX-License-Identifier: MIT
// Workload: many threads, five allocation patterns that are hard on caches, every block checked.
//
// What it stands for: the worst an allocator meets. Each phase is one way to defeat a cache of free blocks:
//
//   burst     many blocks at once, then all are freed: last first, first first, or in random order
//   thrash    sizes alternate between small and large classes, so the top of each cache never fits
//   mixed     sizes from 16 B to the largest, random lifetimes, with calloc and realloc
//   eviction  one size class fills the whole budget, is freed (at first every other block), then the next
//   class chaos     all of it at random, and blocks change hands: they are freed by threads that did not
//   allocate them
//
// All decisions come from each thread's own random numbers, never from what other threads did. Which thread
// frees an exchanged block depends on timing, but the checksum is a sum over all blocks, so it does not.
//
// Blocks are written and checked with one word per cache line and in full at both ends (PATTERN_LINE), which
// touches every page and every line.
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "common/options.h"
#include "common/pattern.h"
#include "common/report.h"

enum { MOST_THREADS = 256, MOST_BLOCKS = 512, MIXED_SLOTS = 48, EXCHANGE_SLOTS = 32, SMALLEST = 16 };

static const uint64_t pool_smallest = 32768; // where "large" begins for the purposes of this program

static uint64_t threads, ops, budget, largest;
static double seconds;
static const char *phase_name;

static const struct options_entry own_options[] = {
    {"threads", OPTIONS_COUNT, &threads, "12", NULL, 1, MOST_THREADS, "threads in every phase"},
    {"phase", OPTIONS_TEXT, &phase_name, NULL, NULL, 0, 0,
     "only this one of burst, thrash, mixed, eviction, chaos (default: all of them)"},
    {"ops", OPTIONS_COUNT, &ops, "800", "2000", 1, 1e12, "blocks that each thread allocates in each phase"},
    {"seconds", OPTIONS_REAL, &seconds, "0", NULL, 0, 1e6,
     "run for so long in all instead of --ops; not reproducible"},
    {"budget", OPTIONS_BYTES, &budget, "256M", NULL, 65536, 1e12,
     "bytes live per thread at most, times --scale"},
    {"largest", OPTIONS_BYTES, &largest, "64M", NULL, 65536, 1e12, "largest block, times --scale"},
    {NULL, OPTIONS_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

static const struct options_program program = {
    .name = "stress_test",
    .purpose = "Allocate, check and free from many threads in patterns that are hard on allocators.",
    .initial_scale = "0.125",
    .scale_help = "multiplies the sizes of large blocks and the bytes live",
    .own = own_options,
};

// A live block, or all zero.
struct block {
    unsigned char *data;
    size_t bytes;
    uint64_t tag;
};

// One thread in one phase. Nobody else looks at it.
struct worker {
    struct rng rng;
    struct meter meter;
    uint64_t phase, index, next_tag, until; // until: CLOCK_MONOTONIC ns at which --seconds end the phase
    size_t live;                            // bytes held, kept below the budget
    struct block block[MOST_BLOCKS];
};

// Where chaos swaps blocks. One lock per slot, held for the swap only.
static struct exchange {
    pthread_mutex_t lock;
    struct block block;
} exchange[EXCHANGE_SLOTS];

static struct meter total;          // see meter_merge
static size_t live_most, size_most; // scaled limits; read-only once threads run

static struct pattern content(const struct block *b) {
    return (struct pattern){pattern_base(b->tag), 0, PATTERN_LINE};
}

// ---- What happens to one block
// ---------------------------------------------------------------------------------

static _Noreturn void corrupt(const struct worker *w, const struct block *b, const char *what, size_t at);

static void mark(struct worker *w, struct block *b) {
    b->tag = rng_combine(w->next_tag++, (w->phase << 32) + w->index);
    pattern_fill(b->data, b->bytes, content(b));
}

// The unit's latency is that of getting a block that holds something: the call and the first touch of each
// page.
static void take(struct worker *w, struct block *b, size_t bytes) {
    uint64_t begin = clock_begin();
    b->bytes = bytes;
    b->data = meter_malloc(&w->meter, bytes);
    w->live += bytes;
    mark(w, b);
    meter_unit(&w->meter, begin);
}

static void take_zeroed(struct worker *w, struct block *b, size_t bytes) {
    uint64_t begin = clock_begin();
    b->bytes = bytes;
    b->data = meter_calloc(&w->meter, bytes);
    w->live += bytes;
    size_t wrong = pattern_find_nonzero(b->data, bytes);
    if (wrong != PATTERN_INTACT) corrupt(w, b, "calloc'd block is not zero", wrong);
    mark(w, b);
    meter_unit(&w->meter, begin);
}

static void check(struct worker *w, const struct block *b, size_t kept) {
    uint64_t sum = 0;
    size_t wrong = pattern_check_prefix(b->data, b->bytes, kept, content(b), &sum);
    if (wrong != PATTERN_INTACT) corrupt(w, b, "block has foreign bytes", wrong);
    w->meter.checksum += rng_combine(sum, b->bytes);
}

static void drop(struct worker *w, struct block *b) {
    if (b->data == NULL) return;
    if (options_common.inject_corruption && w->index == 0) pattern_damage(b->data, b->bytes);
    check(w, b, b->bytes);
    meter_free(&w->meter, b->data);
    w->live -= b->bytes;
    *b = (struct block){0};
}

static void resize(struct worker *w, struct block *b, size_t bytes) {
    uint64_t begin = clock_begin();
    struct block resized = {meter_realloc(&w->meter, b->data, bytes), bytes, 0};
    b->data = resized.data;
    check(w, b, b->bytes < bytes ? b->bytes : bytes); // what realloc had to keep
    w->live += bytes;
    w->live -= b->bytes;
    mark(w, &resized);
    *b = resized;
    meter_unit(&w->meter, begin);
}

static void drop_all(struct worker *w) {
    for (unsigned i = 0; i < MOST_BLOCKS; i++)
        drop(w, &w->block[i]);
}

static bool goes_on(const struct worker *w) {
    if (seconds > 0) return clock_monotonic_ns() < w->until;
    return w->meter.units < ops;
}

// Room for `bytes` within the budget, by dropping slots in order.
static void make_room(struct worker *w, size_t bytes) {
    for (unsigned i = 0; i < MOST_BLOCKS && w->live + bytes > live_most; i++)
        drop(w, &w->block[i]);
}

// ---- Phases
// ----------------------------------------------------------------------------------------------------

static void burst(struct worker *w) {
    size_t most = size_most / 8 > pool_smallest ? size_most / 8 : pool_smallest;
    while (goes_on(w)) {
        unsigned wanted = (unsigned)rng_between(&w->rng, 8, 64), count = 0,
                 order = (unsigned)rng_below(&w->rng, 3);
        for (; count < wanted; count++) {
            size_t bytes = rng_octaves(&w->rng, pool_smallest, most);
            if (w->live + bytes > live_most) break;
            take(w, &w->block[count], bytes);
        }
        for (unsigned left = count; left > 0; left--) {
            unsigned pick = order == 0   ? left - 1
                            : order == 1 ? count - left
                                         : (unsigned)rng_below(&w->rng, left);
            drop(w, &w->block[pick]);
            if (order == 2) {
                w->block[pick] = w->block[left - 1];
                w->block[left - 1] = (struct block){0};
            }
        }
    }
}

static void thrash(struct worker *w) {
    enum { KEPT = 4 };
    for (unsigned step = 0; goes_on(w); step++) {
        size_t small = pool_smallest * (1 + step / 2 % 8);
        size_t large = size_most >> (step / 2 % 4);
        struct block *b = &w->block[step % KEPT];
        drop(w, b);
        take(w, b, step % 2 == 0 ? small : large > small ? large : small);
    }
}

static void mixed(struct worker *w) {
    while (goes_on(w)) {
        struct block *b = &w->block[rng_below(&w->rng, MIXED_SLOTS)];
        size_t bytes = rng_octaves(&w->rng, SMALLEST, size_most);
        unsigned choice = (unsigned)rng_below(&w->rng, 100);
        if (b->data != NULL && choice < 60) {
            drop(w, b);
            continue;
        }
        // After it the slot itself may be empty.
        make_room(w, bytes);
        if (b->data != NULL)
            resize(w, b, bytes);
        else if (choice < 15)
            take_zeroed(w, b, bytes);
        else
            take(w, b, bytes);
    }
}

static void eviction(struct worker *w) {
    size_t bytes = pool_smallest;
    for (unsigned round = 0; goes_on(w); round++) {
        for (unsigned i = 0; i < MOST_BLOCKS && w->live + bytes <= live_most && goes_on(w); i++)
            if (w->block[i].data == NULL) take(w, &w->block[i], bytes);
        // Holes first: the next class has to fit between live blocks, or find fresh memory.
        for (unsigned i = 0; i < MOST_BLOCKS; i += 2)
            drop(w, &w->block[i]);
        bytes = bytes * 2 <= size_most && bytes * 2 <= live_most / 4 ? bytes * 2
                                                                     : pool_smallest + round % 8 * 4096;
        if (round % 2 != 0) drop_all(w);
    }
}

// Put a block where another thread will find it, and free what was left there. Only blocks small enough that
// all slots together stay a fraction of one thread's budget.
static void swap_one(struct worker *w, struct block *mine) {
    struct exchange *slot = &exchange[rng_below(&w->rng, EXCHANGE_SLOTS)];
    pthread_mutex_lock(&slot->lock);
    struct block theirs = slot->block;
    slot->block = *mine;
    pthread_mutex_unlock(&slot->lock);
    w->live -= mine->bytes;
    *mine = (struct block){0};
    // drop() takes its bytes off the account they were never on.
    w->live += theirs.bytes;
    drop(w, &theirs);
}

static void chaos(struct worker *w) {
    while (goes_on(w)) {
        struct block *b = &w->block[rng_below(&w->rng, MIXED_SLOTS)];
        unsigned choice = (unsigned)rng_below(&w->rng, 100);
        bool small = rng_below(&w->rng, 4) == 0;
        size_t bytes =
            small ? rng_octaves(&w->rng, SMALLEST, 1024) : rng_octaves(&w->rng, pool_smallest, size_most);
        if (b->data != NULL && choice < 40 && b->bytes <= live_most / EXCHANGE_SLOTS) {
            swap_one(w, b);
        } else if (b->data != NULL && choice < 75) {
            drop(w, b);
        } else {
            make_room(w, bytes);
            if (b->data != NULL)
                resize(w, b, bytes);
            else if (choice % 8 == 0)
                take_zeroed(w, b, bytes);
            else
                take(w, b, bytes);
        }
        if (choice == 99) sched_yield();
    }
}

static const struct phase {
    const char *name;
    void (*run)(struct worker *w);
} phases[] = {
    {"burst", burst}, {"thrash", thrash}, {"mixed", mixed}, {"eviction", eviction}, {"chaos", chaos}};
enum { PHASES = sizeof phases / sizeof *phases };

static void corrupt(const struct worker *w, const struct block *b, const char *what, size_t at) {
    fail_exit(FAIL_RUN, "corruption: phase %s, thread %llu: %s (%zu bytes, at byte %zu)",
              phases[w->phase].name, (unsigned long long)w->index, what, b->bytes, at);
}

// ---- Start and end
// ---------------------------------------------------------------------------------------------

struct assignment {
    unsigned phase, index;
    uint64_t until;
};

static void *run_worker(void *argument) {
    const struct assignment *a = argument;
    struct worker w;
    memset(&w, 0, sizeof w);
    w.phase = a->phase;
    w.index = a->index;
    w.until = a->until;
    rng_seed(&w.rng, rng_combine(options_common.seed, ((uint64_t)a->phase << 32) + a->index));
    w.next_tag = rng_next(&w.rng);
    meter_start(&w.meter);
    phases[a->phase].run(&w);
    drop_all(&w);
    meter_merge(&total, &w.meter);
    return NULL;
}

// Blocks that nobody took out again belong to the phase's last act, in the main thread.
static void empty_exchange(unsigned phase) {
    struct worker w;
    memset(&w, 0, sizeof w);
    w.phase = phase;
    w.index = threads;
    meter_start(&w.meter);
    for (unsigned i = 0; i < EXCHANGE_SLOTS; i++) {
        w.live += exchange[i].block.bytes;
        drop(&w, &exchange[i].block);
    }
    meter_merge(&total, &w.meter);
}

static void run_phase(unsigned phase, uint64_t until) {
    pthread_t thread[MOST_THREADS];
    struct assignment assignment[MOST_THREADS];
    for (unsigned i = 0; i < threads; i++) {
        assignment[i] = (struct assignment){phase, i, until};
        errno = pthread_create(&thread[i], NULL, run_worker, &assignment[i]);
        if (errno != 0) fail_errno("cannot start a thread");
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    empty_exchange(phase);
}

static size_t scaled(uint64_t bytes, size_t at_least) {
    size_t result = (size_t)((double)bytes * options_common.scale);
    return result > at_least ? result : at_least;
}

int main(int argc, char **argv) {
    clock_start();
    options_parse(&program, argc, argv);
    unsigned first = 0, last = PHASES - 1;
    if (phase_name != NULL) {
        while (first < PHASES && strcmp(phases[first].name, phase_name) != 0)
            first++;
        if (first == PHASES)
            options_usage_error("--phase: '%s' is none of burst, thrash, mixed, eviction, chaos", phase_name);
        last = first;
    }
    if (seconds > 0 && options_given("ops")) options_usage_error("--seconds and --ops exclude each other");
    if (seconds > 0 && options_common.checksum_only)
        options_usage_error("--checksum-only needs --ops: how far --seconds get depends on time");
    size_most = scaled(largest, 2 * pool_smallest);
    live_most = scaled(budget, 4 * size_most);
    for (unsigned i = 0; i < EXCHANGE_SLOTS; i++)
        pthread_mutex_init(&exchange[i].lock, NULL);
    meter_start(&total);

    report_begin();
    for (unsigned phase = first; phase <= last; phase++) {
        uint64_t share_ns = (uint64_t)(seconds * 1e9 / (last - first + 1));
        run_phase(phase, clock_monotonic_ns() + share_ns);
    }
    return report_finish("blocks", &total);
}
