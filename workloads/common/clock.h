// SPDX-License-Identifier: MIT
// Time stamps cheap enough to put around every malloc and free.
//
// Cost: one begin/end pair is about 15-30 ns (lfence + rdtsc, rdtscp), against about 50 ns for a pair of
// clock_gettime calls. It is part of every recorded latency and is reported as timer_overhead_ns instead of
// being subtracted: a subtraction would produce negative latencies. The fences keep the measured call between
// the two reads. Where the time stamp counter is not invariant, clock_gettime is used.
#ifndef WORKLOADS_CLOCK_H
#define WORKLOADS_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include <x86intrin.h>

extern bool clock_uses_tsc; // written by clock_start, read-only afterwards

// Take the calibration's starting point. Call once before any thread exists.
void clock_start(void);

// Nanoseconds per tick over the whole run so far: no calibration loop, and better the longer the run.
double clock_ns_per_tick(void);

// What an empty begin/end pair records, in ns (the smallest of many).
double clock_overhead_ns(void);

static inline uint64_t clock_monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_begin(void) {
    if (!clock_uses_tsc) return clock_monotonic_ns();
    _mm_lfence();
    uint64_t ticks = __rdtsc();
    _mm_lfence();
    return ticks;
}

// Ticks since `begin`; 0 when the thread moved to a core whose counter lags a little.
static inline uint64_t clock_ticks_since(uint64_t begin) {
    uint64_t now;
    if (clock_uses_tsc) {
        unsigned cpu;
        now = __rdtscp(&cpu);
    } else {
        now = clock_monotonic_ns();
    }
    return now > begin ? now - begin : 0;
}

#endif
