/* SPDX-License-Identifier: MIT */
/* time.h: comparing times of os_clock_ms, which are milliseconds modulo 2^32 and so wrap every 49.7 days.
 *
 * Only the difference of two times is known, modulo 2^32. An idle block may be older than half of that, so a
 * positive int32 does not mean "later". But whatever is later at all is later by little: differences of up to
 * TIME_AHEAD_MS mean "later", all others "long ago". In one hour of 49.7 days that is wrong; what is old is
 * found when it has passed.
 */
#ifndef ZP_BASE_TIME_H
#define ZP_BASE_TIME_H

#include <stdbool.h>
#include <stdint.h>

#define TIME_AHEAD_MS (3600u * 1000)

/* Is time_ms later than before_ms? */
static inline bool time_is_later(uint32_t time_ms, uint32_t before_ms) {
    return time_ms - before_ms - 1 < TIME_AHEAD_MS;
}

/* How long ago was since_ms? 0 if it is later than now_ms: another thread has read the clock after this one,
 * or the time was made odd to tell it from "never". */
static inline uint32_t time_passed_ms(uint32_t now_ms, uint32_t since_ms) {
    return time_is_later(since_ms, now_ms) ? 0 : now_ms - since_ms;
}

/* The shorter of two waits; 0 means no wait. */
static inline unsigned time_sooner(unsigned a, unsigned b) {
    return a && (!b || a < b) ? a : b;
}

#endif
