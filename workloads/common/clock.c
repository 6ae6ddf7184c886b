// SPDX-License-Identifier: MIT
// Calibration of the time stamp counter against CLOCK_MONOTONIC.
#include "clock.h"

#include <cpuid.h>

bool clock_uses_tsc;

static uint64_t clock_start_ns;
static uint64_t clock_start_ticks;

// CPUID leaf 0x80000007, EDX bit 8: the counter runs at a constant rate in every power state.
static bool clock_tsc_is_invariant(void) {
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007u, &a, &b, &c, &d) && (d & (1u << 8)) != 0;
}

void clock_start(void) {
    clock_uses_tsc = clock_tsc_is_invariant();
    clock_start_ns = clock_monotonic_ns();
    clock_start_ticks = __rdtsc();
}

double clock_ns_per_tick(void) {
    if (!clock_uses_tsc) return 1.0;
    // Below this the two readings' own cost would show; a run that short waits it out.
    const uint64_t shortest_ns = 2000000;
    uint64_t now_ns, ticks;
    do {
        now_ns = clock_monotonic_ns();
        ticks = __rdtsc();
    } while (now_ns - clock_start_ns < shortest_ns);
    return (double)(now_ns - clock_start_ns) / (double)(ticks - clock_start_ticks);
}

double clock_overhead_ns(void) {
    uint64_t best = UINT64_MAX;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t ticks = clock_ticks_since(clock_begin());
        if (ticks < best) best = ticks;
    }
    return (double)best * clock_ns_per_tick();
}
