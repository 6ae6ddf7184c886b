// SPDX-License-Identifier: MIT
// A few threads make objects, others free them in batches; nobody touches them. Objects are of 1 byte to
// --high, so some are below the pool's threshold.
//
// Each freeing thread has a ring of batches that one maker fills; a maker serves its rings in turn and passes
// by those that are full. Who finds nothing to do gives the processor away.
#include <sched.h>
#include <stdatomic.h>

#include "../common/clock.h"
#include "../common/rng.h"
#include "common/args.h"
#include "common/line.h"
#include "common/team.h"
#include "common/touch.h"

enum { MOST_BATCH = 1024, DEPTH = 4 };

static uint64_t high = 64 << 10, threads = 4, makers = 2, batch = 128, objects = 400000, seed = 1;
static const char *pin = "none";

static const struct args_entry table[] = {
    {"high", ARGS_BYTES, &high, "largest object", NULL},
    {"threads", ARGS_COUNT, &threads, "threads in all, 2 to 64", NULL},
    {"makers", ARGS_COUNT, &makers, "of these, make objects; at most half of them", NULL},
    {"batch", ARGS_COUNT, &batch, "objects handed over at once, 1 to 1024", NULL},
    {"objects", ARGS_COUNT, &objects, "objects in all", NULL},
    TEAM_PIN(&pin),
    ARGS_SEED(&seed),
    ARGS_END,
};

struct ring {
    _Atomic uint64_t put __attribute__((aligned(64))); // batches; written by the maker
    _Atomic bool ended;
    _Atomic uint64_t got __attribute__((aligned(64))); // written by the other
    void *object[DEPTH][MOST_BATCH];
};

static struct ring *rings;
static uint64_t batches_each;
static struct team_time elapsed;
static struct memory_average average; // of the first maker

static void make(struct ring *ring, struct rng *rng) {
    uint64_t at = atomic_load_explicit(&ring->put, memory_order_relaxed);
    for (uint64_t i = 0; i < batch; i++)
        ring->object[at % DEPTH][i] = touch_malloc(rng_between(rng, 1, high));
    // release: the batch is there before it is seen.
    atomic_store_explicit(&ring->put, at + 1, memory_order_release);
}

static void make_all(unsigned index) {
    uint64_t freers = threads - makers, interval = memory_interval(batches_each), turn = index;
    struct rng rng;
    rng_seed(&rng, rng_combine(seed, index));
    for (uint64_t done = 0; done < batches_each;) {
        struct ring *ring = NULL;
        for (uint64_t tries = 0; tries < freers && ring == NULL; tries += makers) {
            struct ring *at = &rings[turn];
            turn = turn + makers < freers ? turn + makers : index;
            // acquire: the other has read the batch that is overwritten.
            if (atomic_load_explicit(&at->put, memory_order_relaxed) -
                    atomic_load_explicit(&at->got, memory_order_acquire) <
                DEPTH)
                ring = at;
        }
        if (ring == NULL) {
            sched_yield();
            continue;
        }
        make(ring, &rng);
        if (index == 0 && done % interval == 0) memory_sample(&average, clock_monotonic_ns(), 0);
        done++;
    }
    for (uint64_t i = index; i < freers; i += makers)
        atomic_store_explicit(&rings[i].ended, true, memory_order_release);
}

static void free_all(struct ring *ring) {
    for (uint64_t at = 0;;) {
        bool ended = atomic_load_explicit(&ring->ended, memory_order_acquire);
        if (atomic_load_explicit(&ring->put, memory_order_acquire) == at) {
            if (ended) return;
            sched_yield();
            continue;
        }
        for (uint64_t i = 0; i < batch; i++)
            free(ring->object[at % DEPTH][i]);
        atomic_store_explicit(&ring->got, ++at, memory_order_release);
    }
}

static void work(unsigned index) {
    struct team_time begin = team_begin();
    if (index < makers)
        make_all(index);
    else
        free_all(&rings[index - makers]);
    struct team_time took = team_end(begin);
    if (index == 0) elapsed = took;
}

int main(int argc, char **argv) {
    args_parse("batches", "Frees objects in batches on other threads than those that made them.", table, argc,
               argv);
    if (threads < 2 || threads > TEAM_MOST) args_refuse("--threads: 2 to 64");
    if (makers < 1 || makers > threads / 2) args_refuse("--makers: 1 to half of the threads");
    if (batch < 1 || batch > MOST_BATCH) args_refuse("--batch: 1 to 1024");
    if (high < 1) args_refuse("--high: at least 1");
    batches_each = objects / batch / makers;
    size_t bytes = (threads - makers) * sizeof *rings;
    rings = aligned_alloc(64, bytes);
    if (rings == NULL) fail_memory("aligned_alloc", bytes);
    for (uint64_t i = 0; i < threads - makers; i++) {
        rings[i].put = rings[i].got = 0;
        rings[i].ended = false;
    }
    memory_start();
    team_pin(pin);
    team_run((unsigned)threads, work);
    struct line_memory memory = line_gather();
    uint64_t total = batches_each * batch * makers;
    line_begin("batches");
    line_count("high", high);
    line_count("threads", threads);
    line_count("makers", makers);
    line_count("batch", batch);
    line_text("pin", pin);
    line_count("operations", total);
    line_times(elapsed.ns, elapsed.cpu_ns);
    line_real("ns_per_operation", (double)elapsed.ns / (double)(total > 0 ? total : 1));
    line_average(&average);
    line_memory(&memory);
    return line_end();
}
