/* SPDX-License-Identifier: MIT */
/* rest_sleep.c: sleeps, pause and sigsuspend, in steps. See rest_calls.h.
 *
 * The steps are ppoll without descriptors, which lets signals in. It may end late by a thousandth of its
 * length, so a long sleep ends with some short ones. In steps: relative sleeps, and absolute ones of the
 * monotonic clock. Others could not follow a clock that is set: entry work only.
 */
#undef _FORTIFY_SOURCE
#include "rest_calls.h"

#include "os/os.h"

#include <errno.h>
#include <unistd.h>

/* Under a filter the program's own call is used again. */
enum kind { NANOSLEEP, CLOCK_NANOSLEEP, CLOCK_NANOSLEEP_ABSOLUTE };

struct sleep {
    enum kind kind;
    clockid_t clock;
    int error; /* the result */
};

#define SHORT_NS 50000000u
#define APPROACH_SHIFT 6

/* All but a little of a long sleep. */
static struct timespec shortened(struct timespec length) {
    uint64_t ns = rest_ns_of(&length);
    if (ns > SHORT_NS) ns -= ns >> APPROACH_SHIFT;
    return rest_time_of(ns);
}

static int sleep_restricted(const struct sleep *sleep, const struct timespec *length) {
    if (sleep->kind == NANOSLEEP) return NEXT(nanosleep)(length, NULL) ? errno : 0;
    if (sleep->kind == CLOCK_NANOSLEEP) return NEXT(clock_nanosleep)(sleep->clock, 0, length, NULL);
    struct timespec at = rest_time_of(os_clock_ns() + rest_ns_of(length));
    return NEXT(clock_nanosleep)(sleep->clock, TIMER_ABSTIME, &at, NULL);
}

static void wait_sleep(struct rest_steps *steps, void *arguments) {
    struct sleep *sleep = arguments;
    for (;;) {
        struct timespec length;
        bool last;
        rest_step(steps, &length, &last);
        if (last && length.tv_sec == 0 && length.tv_nsec == 0) return;
        if (steps->masked) {
            struct timespec piece = last ? shortened(length) : length;
            if (NEXT(ppoll)(NULL, 0, &piece, rest_set(&steps->mask)) < 0) sleep->error = errno;
        } else {
            sleep->error = sleep_restricted(sleep, &length);
        }
        if (sleep->error) return;
        if (!last) rest_next(steps);
    }
}

/* Sleep until the deadline. False: steps are not possible; at most entry work has been done. */
static bool sleep_until(struct sleep *sleep, uint64_t deadline) {
    sleep->error = 0;
    if (deadline != UINT64_MAX && rest_in_steps(REST_MASKED, deadline, wait_sleep, sleep)) return true;
    if (rest_entry(0) != REST_UNDISTURBED) sleep->error = EINTR;
    return sleep->error != 0;
}

/* Begins a relative sleep. False if it is too short for steps. *deadline is its end. */
static bool is_long(time_t seconds, long ns, uint64_t *deadline) {
    *deadline = rest_deadline(seconds, ns);
    bool is_short = seconds == 0 && ns < REST_FIRST_MS * 1000000;
    if (is_short) rest_entry(0);
    return !is_short;
}

EXPORT unsigned sleep(unsigned seconds) {
    uint64_t deadline;
    struct sleep sleep = {.kind = NANOSLEEP};
    if (likely(!rest_wanted(&shim_pool)) || seconds == 0) return NEXT(sleep)(seconds);
    int saved = errno;
    if (!is_long(seconds, 0, &deadline) || !sleep_until(&sleep, deadline)) return NEXT(sleep)(seconds);
    errno = saved;
    if (!sleep.error) return 0;
    errno = sleep.error;
    return (unsigned)rest_until(deadline).tv_sec;
}

EXPORT int usleep(useconds_t us) {
    uint64_t deadline;
    struct sleep sleep = {.kind = NANOSLEEP};
    if (likely(!rest_wanted(&shim_pool))) return NEXT(usleep)(us);
    int saved = errno;
    bool is_long_one = is_long(us / 1000000, (long)(us % 1000000) * 1000, &deadline);
    if (!is_long_one || !sleep_until(&sleep, deadline)) {
        struct timespec left = rest_until(deadline);
        errno = saved;
        return NEXT(nanosleep)(&left, NULL);
    }
    errno = sleep.error ? sleep.error : saved;
    return sleep.error ? -1 : 0;
}

/* A relative sleep; 0 or the error, as clock_nanosleep. */
static int sleep_for(struct sleep *sleep, const struct timespec *length, struct timespec *rest,
                     int (*otherwise)(struct sleep *, const struct timespec *, struct timespec *)) {
    uint64_t deadline;
    if (!rest_is_readable(length, sizeof *length) || !rest_is_time(length))
        return otherwise(sleep, length, rest);
    if (!is_long(length->tv_sec, length->tv_nsec, &deadline)) {
        struct timespec left = rest_until(deadline);
        return otherwise(sleep, &left, rest);
    }
    if (!sleep_until(sleep, deadline)) return otherwise(sleep, length, rest);
    if (sleep->error == EINTR && rest) {
        if (!rest_is_writable(rest, sizeof *rest)) return EFAULT;
        *rest = rest_until(deadline);
    }
    return sleep->error;
}

static int nanosleep_at_once(struct sleep *sleep, const struct timespec *length, struct timespec *rest) {
    (void)sleep;
    return NEXT(nanosleep)(length, rest) ? errno : 0;
}

static int clock_nanosleep_at_once(struct sleep *sleep, const struct timespec *length,
                                   struct timespec *rest) {
    return NEXT(clock_nanosleep)(sleep->clock, 0, length, rest);
}

EXPORT int nanosleep(const struct timespec *length, struct timespec *rest) {
    if (likely(!rest_wanted(&shim_pool))) return NEXT(nanosleep)(length, rest);
    int saved = errno;
    int error = sleep_for(&(struct sleep){.kind = NANOSLEEP}, length, rest, nanosleep_at_once);
    errno = error ? error : saved;
    return error ? -1 : 0;
}

EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *rest) {
    if (likely(!rest_wanted(&shim_pool))) return NEXT(clock_nanosleep)(clock, flags, time, rest);
    int saved = errno, error;
    struct sleep sleep = {.kind = flags ? CLOCK_NANOSLEEP_ABSOLUTE : CLOCK_NANOSLEEP, .clock = clock};
    if (flags == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC)) {
        error = sleep_for(&sleep, time, rest, clock_nanosleep_at_once);
    } else if (flags != TIMER_ABSTIME || clock != CLOCK_MONOTONIC || !rest_is_readable(time, sizeof *time) ||
               !rest_is_time(time) || time->tv_sec >= INT32_MAX) {
        /* For a relative one the time left could not be told. */
        bool disturbed = flags == TIMER_ABSTIME && rest_entry(0) != REST_UNDISTURBED;
        error = disturbed ? EINTR : NEXT(clock_nanosleep)(clock, flags, time, rest);
    } else {
        uint64_t deadline = rest_ns_of(time);
        struct timespec left = rest_until(deadline);
        bool is_short = left.tv_sec == 0 && left.tv_nsec < REST_FIRST_MS * 1000000;
        if (is_short) rest_entry(0);
        error = !is_short && sleep_until(&sleep, deadline) ? sleep.error
                                                           : NEXT(clock_nanosleep)(clock, flags, time, rest);
    }
    errno = saved;
    return error;
}

/* --- until a handler has run --- */

static void wait_signal(struct rest_steps *steps, void *mask) {
    for (;;) {
        struct timespec length;
        bool last;
        if (NEXT(ppoll)(NULL, 0, rest_step(steps, &length, &last), rest_set(mask ? mask : &steps->mask)) < 0)
            return;
        rest_next(steps);
    }
}

/* False: steps are not possible, and no handler has run. Nothing is done under a filter: a handler that ran
 * before the call would be missed. */
static bool wait_for_handler(uint64_t *mask) {
    if (os_restricted) return false;
    return rest_in_steps(REST_MASKED, UINT64_MAX, wait_signal, mask) || rest_entry(0) != REST_UNDISTURBED;
}

EXPORT int pause(void) {
    if (likely(!rest_wanted(&shim_pool)) || !wait_for_handler(NULL)) return NEXT(pause)();
    errno = EINTR;
    return -1;
}

EXPORT int sigsuspend(const sigset_t *mask) {
    if (likely(!rest_wanted(&shim_pool)) || os_restricted || !rest_is_readable(mask, sizeof(uint64_t)))
        return NEXT(sigsuspend)(mask);
    uint64_t copy = rest_signal_word(mask);
    if (!wait_for_handler(&copy)) return NEXT(sigsuspend)(mask);
    errno = EINTR;
    return -1;
}

EXPORT __typeof__(nanosleep) __nanosleep __attribute__((alias("nanosleep")));
EXPORT __typeof__(sigsuspend) __sigsuspend __attribute__((alias("sigsuspend")));
