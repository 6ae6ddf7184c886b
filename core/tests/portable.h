/* SPDX-License-Identifier: MIT */
/* portable.h: what tests of the pool, in process, and tests of the preload library, as programs, share. */
#ifndef ZP_TESTS_PORTABLE_H
#define ZP_TESTS_PORTABLE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

/* splitmix64: every test names its seed, so that a failure can be run again. */
static inline uint64_t rng_next(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Uniform enough in [low, high]. */
static inline size_t rng_range(uint64_t *state, size_t low, size_t high) {
    return low + (size_t)(rng_next(state) % (high - low + 1));
}

/* One SIGALRM. Tests that want a storm of them ask again at the end of each handler: at a fixed pace a
 * handler that takes longer than that would leave the main flow no instruction, as where page faults are
 * slow. us is below a second. Safe in a handler. */
static inline void signal_after_us(long us) {
    struct itimerval timer = {{0, 0}, {0, us}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

#endif
