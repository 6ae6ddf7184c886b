/* SPDX-License-Identifier: MIT */
/* counters.c: see counters.h. Empty but in builds with -Dcounters=true. */
#include "sync/counters.h"

#ifdef ZP_COUNTERS

#include <string.h>

static struct counter_line lines[COUNTER_LINES];
static _Atomic unsigned n_lines;
static __thread struct counter_line *mine __attribute__((tls_model("initial-exec")));

/* The processor that returned the block last, plus one, by descriptor. Two descriptors that share an entry
 * are mixed up. */
#define RETURNED 65536u
static _Atomic uint16_t returned[RETURNED];

#define COUNTER_NAME(name) #name,
const char *const counter_names[N_COUNTERS] = {COUNTERS(COUNTER_NAME)};

struct counter_line *counters_mine(void) {
    if (unlikely(!mine))
        mine = &lines[atomic_fetch_add_explicit(&n_lines, 1, memory_order_relaxed) % COUNTER_LINES];
    return mine;
}

void counters_sum(uint64_t sums[N_COUNTERS]) {
    memset(sums, 0, N_COUNTERS * sizeof sums[0]);
    for (unsigned i = 0; i < COUNTER_LINES; i++)
        for (unsigned c = 0; c < N_COUNTERS; c++)
            sums[c] += atomic_load_explicit(&lines[i].n[c], memory_order_relaxed);
}

void counters_reset(void) {
    for (unsigned i = 0; i < COUNTER_LINES; i++)
        for (unsigned c = 0; c < N_COUNTERS; c++)
            atomic_store_explicit(&lines[i].n[c], 0, memory_order_relaxed);
}

static _Atomic uint16_t *entry(const void *extent) {
    return &returned[(uintptr_t)extent / CACHE_LINE % RETURNED];
}

void counters_put(const void *extent) {
    atomic_store_explicit(entry(extent), (uint16_t)(os_cpu_current() + 1), memory_order_relaxed);
    COUNT(puts);
}

void counters_get(const void *extent) {
    if (!extent) return;
    uint16_t last = atomic_load_explicit(entry(extent), memory_order_relaxed);
    COUNT_IF(last && last != (uint16_t)(os_cpu_current() + 1), gets_moved);
}

#endif
