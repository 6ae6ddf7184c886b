// SPDX-License-Identifier: MIT
// A burst of memory, and then nothing: what is still resident while the process makes no call at all?
//
// Blocks of random size are filled until --bytes are live and then freed in another order, all but the share
// --keep. From then on no allocator function is called. With --trim yes, malloc_trim(0) is called first.
#include <malloc.h>
#include <math.h>
#include <stdatomic.h>

#include "../common/clock.h"
#include "../common/rng.h"
#include "common/args.h"
#include "common/line.h"
#include "common/team.h"
#include "common/touch.h"

enum { MOST_BLOCKS = 1 << 18 };

static uint64_t bytes = 2147483648u, low = 64 << 10, high = 16 << 20, threads = 1, seed = 1;
static double seconds = 10, keep = 0;
static const char *trim = "no";

static const struct args_entry table[] = {
    {"bytes", ARGS_BYTES, &bytes, "size of the burst", NULL},
    {"low", ARGS_BYTES, &low, "smallest block", NULL},
    {"high", ARGS_BYTES, &high, "largest block; every doubling in between is equally likely", NULL},
    {"keep", ARGS_REAL, &keep, "share of the blocks that stay allocated, 0 to 1", NULL},
    {"threads", ARGS_COUNT, &threads, "threads that make the burst; all sleep afterwards", NULL},
    {"seconds", ARGS_REAL, &seconds, "how long to be idle", NULL},
    {"trim", ARGS_WORD, &trim, "call malloc_trim(0) after the burst", "no yes"},
    {"seed", ARGS_COUNT, &seed, "same seed, same blocks", NULL},
    ARGS_END,
};

struct block {
    void *p;
    size_t bytes;
};

static struct block blocks[MOST_BLOCKS];
static const double looks[] = {0, 0.1, 1, 2, 5, 10, 30, 60};
static const char *const look_names[] = {"rss_0_bytes", "rss_0.1_bytes", "rss_1_bytes",  "rss_2_bytes",
                                         "rss_5_bytes", "rss_10_bytes",  "rss_30_bytes", "rss_60_bytes"};
enum { LOOKS = sizeof looks / sizeof looks[0] };
static uint64_t rss[LOOKS], rss_burst, burst_ns;
static unsigned n_looks;
static _Atomic uint64_t live;

static void wait_until(uint64_t when_ns) {
    struct timespec when = {(time_t)(when_ns / 1000000000u), (long)(when_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) != 0) {
    }
}

static void watch(void) {
    if (args_is(trim, "yes")) malloc_trim(0);
    uint64_t begin = clock_monotonic_ns();
    for (n_looks = 0; n_looks < LOOKS && looks[n_looks] <= seconds; n_looks++) {
        wait_until(begin + (uint64_t)(looks[n_looks] * 1e9));
        rss[n_looks] = memory_rss_bytes();
    }
}

static void shuffle(struct block *mine, uint64_t n, struct rng *rng) {
    for (uint64_t i = n; i > 1; i--) {
        uint64_t j = rng_below(rng, i);
        struct block other = mine[j];
        mine[j] = mine[i - 1];
        mine[i - 1] = other;
    }
}

static void work(unsigned index) {
    uint64_t most = MOST_BLOCKS / threads, n = 0, total = 0;
    struct block *mine = blocks + index * most;
    struct rng rng;
    rng_seed(&rng, rng_combine(seed, index));
    uint64_t begin = clock_monotonic_ns();
    for (; n < most && total < bytes / threads; n++) {
        mine[n].bytes = rng_octaves(&rng, low, high);
        mine[n].p = touch_malloc(mine[n].bytes);
        touch_pages(mine[n].p, mine[n].bytes);
        total += mine[n].bytes;
    }
    team_meet();
    if (index == 0) {
        burst_ns = clock_monotonic_ns() - begin;
        rss_burst = memory_rss_bytes();
    }
    team_meet();
    shuffle(mine, n, &rng);
    uint64_t kept = (uint64_t)floor((double)n * keep);
    for (uint64_t i = kept; i < n; i++)
        free(mine[i].p);
    for (uint64_t i = 0; i < kept; i++)
        atomic_fetch_add(&live, mine[i].bytes);
    team_meet();
    if (index == 0) watch();
    team_meet();
}

int main(int argc, char **argv) {
    args_parse("idle", "Makes a burst of memory, frees it and sleeps.", table, argc, argv);
    args_check_blocks(low, high);
    team_check(threads);
    if (keep > 1) args_refuse("--keep: 0 to 1");
    memory_start();
    team_run((unsigned)threads, work);
    struct line_memory memory = line_gather();
    line_begin("idle");
    line_count("bytes", bytes);
    line_count("threads", threads);
    line_text("trim", trim);
    line_real("seconds", (double)burst_ns / 1e9);
    line_count("live_bytes", live);
    line_count("rss_burst_bytes", rss_burst);
    for (unsigned i = 0; i < n_looks; i++)
        line_count(look_names[i], rss[i]);
    line_memory(&memory);
    return line_end();
}
