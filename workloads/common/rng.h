// SPDX-License-Identifier: MIT
// Seeded random numbers: the same seed gives the same operations with every allocator and every libc.
#ifndef WORKLOADS_RNG_H
#define WORKLOADS_RNG_H

#include <stdint.h>

// xoshiro256** state; seeded by splitmix64 so that neighbouring seeds give unrelated streams.
struct rng {
    uint64_t s[4];
};

// A bijective mix of 64 bits (the splitmix64 finaliser): also used to derive tags and to fold checksums.
static inline uint64_t rng_mix(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// One value out of two, for per-thread and per-phase seeds.
static inline uint64_t rng_combine(uint64_t a, uint64_t b) {
    return rng_mix(a + 0x9e3779b97f4a7c15u * (b + 1));
}

static inline void rng_seed(struct rng *r, uint64_t seed) {
    for (unsigned i = 0; i < 4; i++)
        r->s[i] = rng_combine(seed, i);
}

static inline uint64_t rng_rotate(uint64_t x, unsigned by) {
    return (x << by) | (x >> (64 - by));
}

static inline uint64_t rng_next(struct rng *r) {
    uint64_t *s = r->s;
    const uint64_t result = rng_rotate(s[1] * 5, 7) * 9;
    const uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rng_rotate(s[3], 45);
    return result;
}

// Uniform in [0, limit); the bias of the multiply is below limit / 2^64.
static inline uint64_t rng_below(struct rng *r, uint64_t limit) {
    return (uint64_t)(((unsigned __int128)rng_next(r) * limit) >> 64);
}

// Uniform in [low, high].
static inline uint64_t rng_between(struct rng *r, uint64_t low, uint64_t high) {
    return low + rng_below(r, high - low + 1);
}

// Every octave between low and high equally likely, uniform within it: the shape of allocation sizes.
static inline uint64_t rng_octaves(struct rng *r, uint64_t low, uint64_t high) {
    unsigned octaves = 0;
    while ((low << (octaves + 1)) <= high)
        octaves++;
    uint64_t from = low << rng_below(r, octaves + 1);
    uint64_t to = from * 2 - 1;
    return rng_between(r, from, to < high ? to : high);
}

#endif
