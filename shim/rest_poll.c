/* SPDX-License-Identifier: MIT */
/* rest_poll.c: poll, select and epoll_wait, in steps. See rest_calls.h.
 *
 * First each call is made once without waiting: what is ready is returned at once, and so is every error
 * about the arguments.
 */
#undef _FORTIFY_SOURCE
#include "rest_calls.h"

#include "os/os.h"

#include <errno.h>
#include <string.h>

/* Too short for steps. */
static bool is_brief(const struct timespec *timeout) {
    return timeout && timeout->tv_sec == 0 && timeout->tv_nsec < REST_FIRST_MS * 1000000;
}

/* No entry work before so short a wait. */
static bool is_nothing(bool brief) {
    return brief && rest_overdue_ms() < 0;
}

/* Entry work for a call that waits so long (NULL: without end). Returns the time at which the call ends. */
static uint64_t begin(const struct timespec *timeout, bool brief) {
    uint64_t deadline = timeout ? rest_deadline(timeout->tv_sec, timeout->tv_nsec) : UINT64_MAX;
    if (brief) rest_entry(0);
    return deadline;
}

static struct timespec of_ms(int ms) {
    return (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
}

/* True if the call has its result: in steps, or because a handler has run during entry work. */
static bool in_steps(uint64_t deadline, void (*wait)(struct rest_steps *, void *), void *arguments,
                     int *result) {
    if (rest_in_steps(REST_MASKED, deadline, wait, arguments)) return true;
    if (rest_entry(0) == REST_UNDISTURBED) return false;
    errno = EINTR;
    *result = -1;
    return true;
}

/* --- poll --- */

struct poll {
    struct pollfd *fds;
    nfds_t n;
    const sigset_t *mask; /* the call's own; NULL: none */
    bool is_ppoll;
    int result;
};

static int poll_once(struct rest_steps *steps, const struct poll *poll, bool *last) {
    if (!poll->is_ppoll && !steps->masked) return NEXT(poll)(poll->fds, poll->n, rest_step_ms(steps, last));
    struct timespec length;
    const sigset_t *mask = poll->mask || !steps->masked ? poll->mask : rest_set(&steps->mask);
    return NEXT(ppoll)(poll->fds, poll->n, rest_step(steps, &length, last), mask);
}

static void wait_poll(struct rest_steps *steps, void *arguments) {
    struct poll *poll = arguments;
    for (;;) {
        bool last;
        poll->result = poll_once(steps, poll, &last);
        if (poll->result || last) return;
        rest_next(steps);
    }
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout) {
    if (likely(!rest_wanted(&shim_pool)) || timeout == 0) return NEXT(poll)(fds, n, timeout);
    struct timespec time = of_ms(timeout), *limit = timeout < 0 ? NULL : &time;
    bool brief = is_brief(limit);
    if (is_nothing(brief)) return NEXT(poll)(fds, n, timeout);
    struct poll poll = {.fds = fds, .n = n};
    if (!brief && (poll.result = NEXT(poll)(fds, n, 0)) != 0) return poll.result;
    uint64_t deadline = begin(limit, brief);
    if (!brief && in_steps(deadline, wait_poll, &poll, &poll.result)) return poll.result;
    return NEXT(poll)(fds, n, rest_until_ms(deadline));
}

/* For calls that take a timespec: the time left; NULL: without end. */
static const struct timespec *left_until(uint64_t deadline, struct timespec *left) {
    if (deadline == UINT64_MAX) return NULL;
    *left = rest_until(deadline);
    return left;
}

static bool is_without_wait(const struct timespec *timeout) {
    return timeout && (!rest_is_time(timeout) || (timeout->tv_sec == 0 && timeout->tv_nsec == 0));
}

/* After the kernel has read it. */
static const sigset_t *copy_mask(uint64_t *copy, const sigset_t *mask) {
    if (mask) *copy = rest_signal_word(mask);
    return mask ? rest_set(copy) : NULL;
}

EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) {
    if (likely(!rest_wanted(&shim_pool)) || is_without_wait(timeout))
        return NEXT(ppoll)(fds, n, timeout, mask);
    bool brief = is_brief(timeout);
    if (is_nothing(brief)) return NEXT(ppoll)(fds, n, timeout, mask);
    struct timespec left, none = {0, 0};
    struct poll poll = {.fds = fds, .n = n, .is_ppoll = true};
    if (!brief && (poll.result = NEXT(ppoll)(fds, n, &none, mask)) != 0) return poll.result;
    uint64_t deadline = begin(timeout, brief);
    uint64_t copy = 0;
    if (!brief) poll.mask = copy_mask(&copy, mask);
    if (!brief && in_steps(deadline, wait_poll, &poll, &poll.result)) return poll.result;
    return NEXT(ppoll)(fds, n, left_until(deadline, &left), mask);
}

/* The checked forms end the program if the array is too small; the C library's own form is left to do
 * that. */
EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room);
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room) {
    return room / sizeof *fds < n ? NEXT(__poll_chk)(fds, n, timeout, room) : poll(fds, n, timeout);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
                       size_t room);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
                size_t room) {
    return room / sizeof *fds < n ? NEXT(__ppoll_chk)(fds, n, timeout, mask, room)
                                  : ppoll(fds, n, timeout, mask);
}

/* --- select: the sets are what is asked for and the answer, so they are put back before each step --- */

#define N_SETS 3

struct select {
    int n;
    fd_set *sets[N_SETS];
    uint64_t *asked; /* the sets asked for, one behind the other, in the call's frame, as long as needed */
    size_t bytes;    /* of each */
    const sigset_t *mask;
    bool is_pselect;
    int result;
};

/* Memory for keep_sets: 24 bytes for every 64 descriptors. Most programs that select have few, and a call
 * that waits must take little stack. */
static size_t bytes_of(int n) {
    return n < 0 || n > FD_SETSIZE ? 0 : ((size_t)n + 63) / 64 * 8 * N_SETS;
}

/* False: more descriptors than we handle, or an unreadable set. */
static bool keep_sets(struct select *select, uint64_t *words, fd_set *read, fd_set *write, fd_set *except) {
    if (select->n < 0 || select->n > FD_SETSIZE) return false;
    select->sets[0] = read, select->sets[1] = write, select->sets[2] = except;
    select->bytes = bytes_of(select->n) / N_SETS;
    select->asked = words;
    for (int i = 0; i < N_SETS; i++) {
        if (!select->sets[i]) continue;
        if (!rest_is_readable(select->sets[i], select->bytes)) return false;
        memcpy(select->asked + (size_t)i * select->bytes / 8, select->sets[i], select->bytes);
    }
    return true;
}

static void put_sets_back(struct select *select) {
    for (int i = 0; i < N_SETS; i++)
        if (select->sets[i])
            memcpy(select->sets[i], select->asked + (size_t)i * select->bytes / 8, select->bytes);
}

static int select_once(struct rest_steps *steps, struct select *select, bool *last) {
    struct timespec length, *timeout = rest_step(steps, &length, last);
    if (!select->is_pselect && !steps->masked) {
        struct timeval time = {.tv_sec = length.tv_sec, .tv_usec = (length.tv_nsec + 999) / 1000};
        return NEXT(select)(select->n, select->sets[0], select->sets[1], select->sets[2],
                            timeout ? &time : NULL);
    }
    const sigset_t *mask = select->mask || !steps->masked ? select->mask : rest_set(&steps->mask);
    return NEXT(pselect)(select->n, select->sets[0], select->sets[1], select->sets[2], timeout, mask);
}

static void wait_select(struct rest_steps *steps, void *arguments) {
    struct select *select = arguments;
    for (;;) {
        bool last;
        put_sets_back(select);
        select->result = select_once(steps, select, &last);
        if (select->result || last) return;
        rest_next(steps);
    }
}

/* Makes the call in steps or at once. */
static void select_until(struct select *select, uint64_t deadline, bool brief) {
    if (!brief && in_steps(deadline, wait_select, select, &select->result)) return;
    struct timespec length;
    const struct timespec *left = left_until(deadline, &length);
    struct timeval time = {.tv_sec = length.tv_sec, .tv_usec = (length.tv_nsec + 999) / 1000};
    if (select->is_pselect)
        select->result =
            NEXT(pselect)(select->n, select->sets[0], select->sets[1], select->sets[2], left, select->mask);
    else
        select->result =
            NEXT(select)(select->n, select->sets[0], select->sets[1], select->sets[2], left ? &time : NULL);
}

EXPORT int select(int n, fd_set *read, fd_set *write, fd_set *except, struct timeval *timeout) {
    if (likely(!rest_wanted(&shim_pool))) return NEXT(select)(n, read, write, except, timeout);
    if (timeout &&
        (timeout->tv_sec < 0 || timeout->tv_usec < 0 || (timeout->tv_sec == 0 && timeout->tv_usec == 0)))
        return NEXT(select)(n, read, write, except, timeout);
    struct timespec time = {0, 0};
    bool can_tell =
        !timeout || !__builtin_add_overflow(timeout->tv_sec, timeout->tv_usec / 1000000, &time.tv_sec);
    if (timeout) time.tv_nsec = timeout->tv_usec % 1000000 * 1000;
    bool brief = is_brief(timeout ? &time : NULL);
    uint64_t *words = __builtin_alloca(bytes_of(n));
    struct select select = {.n = n};
    if (!can_tell || is_nothing(brief) || !keep_sets(&select, words, read, write, except))
        return NEXT(select)(n, read, write, except, timeout);
    if (!brief) {
        select.result = NEXT(select)(n, read, write, except, &(struct timeval){0, 0});
        if (select.result) return select.result;
        put_sets_back(&select);
    }
    uint64_t deadline = begin(timeout ? &time : NULL, brief);
    select_until(&select, deadline, brief);
    if (timeout && deadline != UINT64_MAX) { /* as the kernel does */
        struct timespec left = rest_until(deadline);
        if (select.result == 0) left = (struct timespec){0, 0};
        timeout->tv_sec = left.tv_sec;
        timeout->tv_usec = left.tv_nsec / 1000;
    }
    return select.result;
}

EXPORT int pselect(int n, fd_set *read, fd_set *write, fd_set *except, const struct timespec *timeout,
                   const sigset_t *mask) {
    if (likely(!rest_wanted(&shim_pool)) || is_without_wait(timeout))
        return NEXT(pselect)(n, read, write, except, timeout, mask);
    bool brief = is_brief(timeout);
    uint64_t *words = __builtin_alloca(bytes_of(n));
    struct select select = {.n = n, .is_pselect = true, .mask = mask};
    if (is_nothing(brief) || !keep_sets(&select, words, read, write, except))
        return NEXT(pselect)(n, read, write, except, timeout, mask);
    uint64_t copy = 0;
    if (!brief) {
        select.result = NEXT(pselect)(n, read, write, except, &(struct timespec){0, 0}, mask);
        if (select.result) return select.result;
        put_sets_back(&select);
        select.mask = copy_mask(&copy, mask);
    }
    select_until(&select, begin(timeout, brief), brief);
    return select.result;
}

/* --- epoll --- */

enum epoll_kind { EPOLL_WAIT, EPOLL_PWAIT, EPOLL_PWAIT2 };

struct epoll {
    enum epoll_kind kind;
    int fd, n;
    struct epoll_event *events;
    const sigset_t *mask;
    int result;
};

static int epoll_once(struct rest_steps *steps, const struct epoll *epoll, bool *last) {
    if (epoll->kind == EPOLL_WAIT && !steps->masked)
        return NEXT(epoll_wait)(epoll->fd, epoll->events, epoll->n, rest_step_ms(steps, last));
    const sigset_t *mask = epoll->mask || !steps->masked ? epoll->mask : rest_set(&steps->mask);
    struct timespec length;
    if (epoll->kind == EPOLL_PWAIT2)
        return NEXT(epoll_pwait2)(epoll->fd, epoll->events, epoll->n, rest_step(steps, &length, last), mask);
    return NEXT(epoll_pwait)(epoll->fd, epoll->events, epoll->n, rest_step_ms(steps, last), mask);
}

static void wait_epoll(struct rest_steps *steps, void *arguments) {
    struct epoll *epoll = arguments;
    for (;;) {
        bool last;
        epoll->result = epoll_once(steps, epoll, &last);
        if (epoll->result || last) return;
        rest_next(steps);
    }
}

static int epoll_for_ms(const struct epoll *epoll, int ms, const sigset_t *mask) {
    return epoll->kind == EPOLL_PWAIT ? NEXT(epoll_pwait)(epoll->fd, epoll->events, epoll->n, ms, mask)
                                      : NEXT(epoll_wait)(epoll->fd, epoll->events, epoll->n, ms);
}

/* The two that have milliseconds. */
static int epoll_resting(struct epoll epoll, int timeout, const sigset_t *mask) {
    struct timespec time = of_ms(timeout), *limit = timeout < 0 ? NULL : &time;
    bool brief = is_brief(limit);
    if (is_nothing(brief)) return epoll_for_ms(&epoll, timeout, mask);
    if (!brief && (epoll.result = epoll_for_ms(&epoll, 0, mask)) != 0) return epoll.result;
    uint64_t deadline = begin(limit, brief);
    uint64_t copy = 0;
    if (!brief) epoll.mask = copy_mask(&copy, mask);
    if (!brief && in_steps(deadline, wait_epoll, &epoll, &epoll.result)) return epoll.result;
    return epoll_for_ms(&epoll, rest_until_ms(deadline), mask);
}

EXPORT int epoll_wait(int fd, struct epoll_event *events, int n, int timeout) {
    if (likely(!rest_wanted(&shim_pool)) || timeout == 0) return NEXT(epoll_wait)(fd, events, n, timeout);
    return epoll_resting((struct epoll){.kind = EPOLL_WAIT, .fd = fd, .events = events, .n = n}, timeout,
                         NULL);
}

EXPORT int epoll_pwait(int fd, struct epoll_event *events, int n, int timeout, const sigset_t *mask) {
    if (likely(!rest_wanted(&shim_pool)) || timeout == 0)
        return NEXT(epoll_pwait)(fd, events, n, timeout, mask);
    return epoll_resting((struct epoll){.kind = EPOLL_PWAIT, .fd = fd, .events = events, .n = n}, timeout,
                         mask);
}

EXPORT int epoll_pwait2(int fd, struct epoll_event *events, int n, const struct timespec *timeout,
                        const sigset_t *mask) {
    if (likely(!rest_wanted(&shim_pool)) || !rest_is_readable(timeout, timeout ? sizeof *timeout : 0) ||
        is_without_wait(timeout))
        return NEXT(epoll_pwait2)(fd, events, n, timeout, mask);
    bool brief = is_brief(timeout);
    if (is_nothing(brief)) return NEXT(epoll_pwait2)(fd, events, n, timeout, mask);
    struct epoll epoll = {.kind = EPOLL_PWAIT2, .fd = fd, .events = events, .n = n};
    struct timespec left, none = {0, 0};
    if (!brief && (epoll.result = NEXT(epoll_pwait2)(fd, events, n, &none, mask)) != 0) return epoll.result;
    uint64_t deadline = begin(timeout, brief);
    uint64_t copy = 0;
    if (!brief) epoll.mask = copy_mask(&copy, mask);
    if (!brief && in_steps(deadline, wait_epoll, &epoll, &epoll.result)) return epoll.result;
    return NEXT(epoll_pwait2)(fd, events, n, left_until(deadline, &left), mask);
}

EXPORT __typeof__(poll) __poll __attribute__((alias("poll")));
EXPORT __typeof__(select) __select __attribute__((alias("select")));
