// SPDX-License-Identifier: MIT
// Requests as a server handles them: a request takes 4 to 15 buffers of random size, the later ones while it
// holds the earlier ones, touches each page of all, gives them back in reverse order, and hands one of them
// to another thread, which frees it.
//
// Each thread has a mailbox for one buffer. Who puts one in takes the one that is still there and frees it
// himself, so nobody waits for anybody, and at most one buffer a thread is on its way. Half of the buffers of
// a request are returned in the middle of it and taken anew: lifetimes are nested, not only stacked.
#include <stdatomic.h>

#include "../common/clock.h"
#include "../common/histogram.h"
#include "../common/rng.h"
#include "common/args.h"
#include "common/line.h"
#include "common/team.h"
#include "common/touch.h"

enum { LEAST_BUFFERS = 4, MOST_BUFFERS = 15 };

static uint64_t low = 16 << 10, high = 256 << 10, threads = 2, requests = 20000, seed = 1;
static const char *pin = "none";

static const struct args_entry table[] = {
    {"low", ARGS_BYTES, &low, "smallest buffer", NULL},
    {"high", ARGS_BYTES, &high, "largest buffer", NULL},
    {"threads", ARGS_COUNT, &threads, "threads, 1 to 64", NULL},
    {"requests", ARGS_COUNT, &requests, "requests of all threads together", NULL},
    TEAM_PIN(&pin),
    ARGS_SEED(&seed),
    ARGS_END,
};

static struct member {
    void *_Atomic mailbox __attribute__((aligned(64)));
    uint64_t buffers; // taken
    struct histogram ticks;
} members[TEAM_MOST];

static uint64_t requests_each;
static struct team_time elapsed;
static struct memory_average average; // of thread 0

static void *take(struct rng *rng) {
    size_t bytes = rng_between(rng, low, high);
    void *p = touch_malloc(bytes);
    touch_pages(p, bytes);
    return p;
}

// release: the buffer is filled before it is seen; acquire: so is the one that comes back.
static void hand_over(unsigned to, void *p) {
    free(atomic_exchange_explicit(&members[to].mailbox, p, memory_order_acq_rel));
}

static void handle(unsigned index, unsigned to, struct rng *rng) {
    void *buffer[MOST_BUFFERS];
    hand_over(index, NULL);
    unsigned n = (unsigned)rng_between(rng, LEAST_BUFFERS, MOST_BUFFERS), half = n / 2;
    for (unsigned i = 0; i < n; i++)
        buffer[i] = take(rng);
    for (unsigned i = n; i-- > half;)
        free(buffer[i]);
    for (unsigned i = half; i < n; i++)
        buffer[i] = take(rng);
    unsigned given = (unsigned)rng_below(rng, n);
    for (unsigned i = n; i-- > 0;)
        if (i != given) free(buffer[i]);
    hand_over(to, buffer[given]);
    members[index].buffers += n + (n - half);
}

static void work(unsigned index) {
    struct rng rng;
    rng_seed(&rng, rng_combine(seed, index));
    uint64_t interval = memory_interval(requests_each);
    struct team_time begin = team_begin();
    for (uint64_t i = 0; i < requests_each; i++) {
        // Each of the others in turn; alone, a thread sends to itself.
        unsigned to = threads > 1 ? (unsigned)((index + 1 + i % (threads - 1)) % threads) : 0;
        uint64_t request_begin = clock_begin();
        handle(index, to, &rng);
        histogram_record(&members[index].ticks, clock_ticks_since(request_begin));
        if (index == 0 && i % interval == 0) memory_sample(&average, clock_monotonic_ns(), 0);
    }
    struct team_time took = team_end(begin);
    if (index == 0) elapsed = took;
    hand_over(index, NULL);
}

int main(int argc, char **argv) {
    args_parse("requests", "Handles requests of several buffers each, of which one goes to another thread.",
               table, argc, argv);
    team_check(threads);
    args_check_blocks(low, high);
    requests_each = requests / threads;
    clock_start();
    memory_start();
    team_pin(pin);
    team_run((unsigned)threads, work);
    struct line_memory memory = line_gather();
    static struct histogram all;
    uint64_t buffers = 0, total = requests_each * threads;
    for (unsigned i = 0; i < threads; i++) {
        histogram_merge(&all, &members[i].ticks);
        buffers += members[i].buffers;
    }
    double ns_per_tick = clock_ns_per_tick();
    line_begin("requests");
    line_count("low", low);
    line_count("high", high);
    line_count("threads", threads);
    line_text("pin", pin);
    line_count("requests", total);
    line_count("operations", buffers);
    line_times(elapsed.ns, elapsed.cpu_ns);
    line_real("ns_per_request", (double)elapsed.ns / (double)(total > 0 ? total : 1));
    line_real("p50_ns", (double)histogram_percentile(&all, 0.5) * ns_per_tick);
    line_real("p99_ns", (double)histogram_percentile(&all, 0.99) * ns_per_tick);
    line_average(&average);
    line_memory(&memory);
    return line_end();
}
