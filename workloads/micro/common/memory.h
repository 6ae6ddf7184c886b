// SPDX-License-Identifier: MIT
// The process's own memory, measured from inside without allocating and without a thread.
//
// RSS is read from /proc/self/statm with one pread (1-2 us) by a thread that does the work, every so many
// operations. A sampling thread of our own would be simpler, but it makes glibc take locks that a
// single-threaded program does not pay for, and it would fight for one of few cores.
//
// Two averages. Over operations: every operation weighs the same, as in a program that does other work in
// between; the sequence of operations is the same for every allocator, so this one is comparable and
// repeatable. Over time: an allocator that is slow while it holds little memory looks lean in it, and one
// that is fast while it holds much, too.
#ifndef MICRO_MEMORY_H
#define MICRO_MEMORY_H

#include <stdint.h>

// About how many samples a run should take.
enum { MEMORY_SAMPLES = 256 };

// Opens /proc/self/statm; call once, single-threaded.
void memory_start(void);

uint64_t memory_rss_bytes(void);

// VmHWM: peak RSS of this address space. ru_maxrss would begin with that of the process that started us.
uint64_t memory_peak_bytes(void);

// Lines of /proc/self/maps.
uint64_t memory_vmas(void);

uint64_t memory_minor_faults(void);

// One thread only.
struct memory_average {
    double rss_sum, live_sum, rss_byte_ns;
    uint64_t samples, first_ns, last_ns, last_rss;
};

// Notes RSS beside the bytes that the program holds at this moment. Call it at regular numbers of operations.
void memory_sample(struct memory_average *average, uint64_t now_ns, uint64_t live_bytes);

// How many operations lie between two samples of a run of n.
static inline uint64_t memory_interval(uint64_t n) {
    return n / MEMORY_SAMPLES > 0 ? n / MEMORY_SAMPLES : 1;
}

double memory_mean_rss(const struct memory_average *average);
double memory_mean_live(const struct memory_average *average);
double memory_mean_rss_over_time(const struct memory_average *average);

#endif
