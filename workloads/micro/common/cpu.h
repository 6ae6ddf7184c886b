// SPDX-License-Identifier: MIT
// Processor time of the whole process. On a busy machine it says more than the clock on the wall: what other
// programs, or a host that has to find memory, take away is not in it.
#ifndef MICRO_CPU_H
#define MICRO_CPU_H

#include <stdint.h>
#include <time.h>

static inline uint64_t cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
