// SPDX-License-Identifier: MIT
// Unit test: histogram, random numbers, Zipf ranks and the clock.
#include "../common/clock.h"
#include "../common/histogram.h"
#include "../common/rng.h"
#include "../common/zipf.h"

#include <string.h>

#include "check.h"

static void test_histogram_buckets(void) {
    unsigned last = 0, wrong = 0;
    // Buckets are monotonic, without gaps, and in range up to the largest value.
    for (uint64_t v = 0; v < 100000; v++) {
        unsigned index = histogram_index(v);
        if (index != last && index != last + 1) wrong++;
        last = index;
    }
    CHECK(wrong == 0);
    for (unsigned bit = 0; bit < 64; bit++)
        CHECK(histogram_index((uint64_t)1 << bit) < HISTOGRAM_BUCKETS);
    CHECK(histogram_index(UINT64_MAX) == HISTOGRAM_BUCKETS - 1);
    CHECK(histogram_index(((uint64_t)1 << (HISTOGRAM_TOP_BIT + 1)) - 1) == HISTOGRAM_BUCKETS - 1);
}

static bool close_to(uint64_t found, double wanted) {
    return (double)found > wanted * 0.965 && (double)found < wanted * 1.035;
}

static void test_histogram_percentiles(void) {
    static struct histogram h, half[2];
    memset(&h, 0, sizeof h);
    CHECK(histogram_percentile(&h, 0.5) == 0);
    for (uint64_t v = 1; v <= 100000; v++)
        histogram_record(&half[v % 2], v);
    histogram_merge(&h, &half[0]);
    histogram_merge(&h, &half[1]);
    CHECK(h.count == 100000 && h.max == 100000);
    CHECK(close_to(histogram_percentile(&h, 0.50), 50000));
    CHECK(close_to(histogram_percentile(&h, 0.99), 99000));
    CHECK(histogram_percentile(&h, 1.0) <= h.max && close_to(histogram_percentile(&h, 1.0), 100000));
    CHECK(histogram_percentile(&h, 0) == 1);

    static struct histogram one;
    histogram_record(&one, 1000003);
    CHECK(close_to(histogram_percentile(&one, 0.5), 1000003));
    CHECK(histogram_percentile(&one, 0.99) <= one.max);
    static struct histogram huge;
    histogram_record(&huge, UINT64_MAX);
    CHECK(histogram_percentile(&huge, 0.5) == UINT64_MAX);
}

static void test_rng(void) {
    struct rng a, b, c;
    rng_seed(&a, 1);
    rng_seed(&b, 1);
    rng_seed(&c, 2);
    unsigned same = 0, outside = 0, octave[8] = {0}, third[3] = {0};
    for (unsigned i = 0; i < 30000; i++) {
        uint64_t x = rng_next(&a);
        CHECK(x == rng_next(&b));
        same += x == rng_next(&c);
        uint64_t v = rng_between(&a, 10, 12);
        outside += v < 10 || v > 12;
        if (v >= 10 && v <= 12) third[v - 10]++;
        (void)rng_next(&b);
        uint64_t size = rng_octaves(&a, 16, 2048);
        outside += size < 16 || size > 2048;
        octave[(63 - __builtin_clzll(size)) - 4]++;
        (void)rng_next(&b), (void)rng_next(&b);
    }
    CHECK(same == 0);
    CHECK(outside == 0);
    for (unsigned i = 0; i < 3; i++)
        CHECK(third[i] > 9500 && third[i] < 10500);
    for (unsigned i = 0; i < 8; i++)
        CHECK(octave[i] > 3300 && octave[i] < 4200);
    CHECK(rng_below(&a, 1) == 0);
    CHECK(rng_octaves(&a, 5, 5) == 5);
}

static void test_zipf(void) {
    static struct zipf z;
    struct rng r;
    unsigned count[ZIPF_RANKS + 1] = {0};
    zipf_init(&z, 1.0);
    rng_seed(&r, 7);
    for (unsigned i = 0; i < 200000; i++) {
        unsigned rank = zipf_next(&z, &r);
        if (rank < 1 || rank > ZIPF_RANKS) {
            CHECK(!"rank out of range");
            return;
        }
        count[rank]++;
    }
    // The harmonic number of 1024 is 7.51: rank 1 has 13.3 % of the draws, rank 2 half of that.
    CHECK(count[1] > 26000 && count[1] < 27300);
    CHECK(count[2] > 12900 && count[2] < 13800);
    zipf_init(&z, 0);
    unsigned low = 0;
    for (unsigned i = 0; i < 10000; i++)
        low += zipf_next(&z, &r) <= ZIPF_RANKS / 2;
    CHECK(low > 4800 && low < 5200);
}

static void test_clock(void) {
    uint64_t begin = clock_begin(), begin_ns = clock_monotonic_ns();
    while (clock_monotonic_ns() - begin_ns < 20000000)
        ;
    double measured = (double)clock_ticks_since(begin) * clock_ns_per_tick();
    // Loose: another process may have run in between.
    CHECK(measured > 18e6 && measured < 2e9);
    CHECK(clock_overhead_ns() >= 0 && clock_overhead_ns() < 10000);
    CHECK(clock_ticks_since(UINT64_MAX) == 0);
}

int main(void) {
    clock_start();
    test_histogram_buckets();
    test_histogram_percentiles();
    test_rng();
    test_zipf();
    test_clock();
    return CHECK_RESULT();
}
