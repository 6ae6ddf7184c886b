/* SPDX-License-Identifier: MIT */
/* rest_calls.h: the calls in which programs rest, interposed so that idle memory goes back meanwhile without
 * a thread (process/rest.h).
 *
 * Each goes straight on to the definition behind us unless there is idle memory worth it. If there is, it
 * either does ENTRY WORK (a round, if one is due, and then the call itself) or waits IN STEPS with rounds
 * between them. Steps are taken only where they cannot be told from one wait:
 *
 * - Signals are blocked from before the first sleep to after the last, and let in atomically by each sleep
 *   (ppoll, pselect, epoll_pwait). So a handler runs inside a sleep, which says so, or after the end; what
 *   comes between two steps is not lost.
 * - Filters: where os_restricted is set nothing is called but what the program calls anyway: the same call,
 *   twice and more, without blocking signals; calls for which that would not do have entry work only.
 * - Threads: one thread waits in steps, others in one.
 * - Cancellation: each sleep is the C library's, so a cancellation point; the mask is put back before the
 *   program's own clean-up.
 * - Hooks: if anybody between us and the C library defines one of these calls, he sees the program's calls
 *   and no others: entry work only.
 */
#ifndef ZP_SHIM_REST_CALLS_H
#define ZP_SHIM_REST_CALLS_H

#include "process/rest.h"
#include "shim.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

/* name, result, arguments */
#define REST_CALLS(X)                                                                                        \
    X(sleep, unsigned, (unsigned))                                                                           \
    X(usleep, int, (useconds_t))                                                                             \
    X(nanosleep, int, (const struct timespec *, struct timespec *))                                          \
    X(clock_nanosleep, int, (clockid_t, int, const struct timespec *, struct timespec *))                    \
    X(pause, int, (void))                                                                                    \
    X(sigsuspend, int, (const sigset_t *))                                                                   \
    X(poll, int, (struct pollfd *, nfds_t, int))                                                             \
    X(ppoll, int, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))                      \
    X(__poll_chk, int, (struct pollfd *, nfds_t, int, size_t))                                               \
    X(__ppoll_chk, int, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t))        \
    X(select, int, (int, fd_set *, fd_set *, fd_set *, struct timeval *))                                    \
    X(pselect, int, (int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *))          \
    X(epoll_wait, int, (int, struct epoll_event *, int, int))                                                \
    X(epoll_pwait, int, (int, struct epoll_event *, int, int, const sigset_t *))                             \
    X(epoll_pwait2, int, (int, struct epoll_event *, int, const struct timespec *, const sigset_t *))        \
    X(sigwait, int, (const sigset_t *, int *))                                                               \
    X(sigwaitinfo, int, (const sigset_t *, siginfo_t *))                                                     \
    X(sigtimedwait, int, (const sigset_t *, siginfo_t *, const struct timespec *))                           \
    X(wait, pid_t, (int *))                                                                                  \
    X(waitpid, pid_t, (pid_t, int *, int))                                                                   \
    X(wait3, pid_t, (int *, int, struct rusage *))                                                           \
    X(wait4, pid_t, (pid_t, int *, int, struct rusage *))                                                    \
    X(waitid, int, (idtype_t, id_t, siginfo_t *, int))                                                       \
    X(system, int, (const char *))                                                                           \
    X(read, ssize_t, (int, void *, size_t))                                                                  \
    X(__read_chk, ssize_t, (int, void *, size_t, size_t))                                                    \
    X(readv, ssize_t, (int, const struct iovec *, int))                                                      \
    X(recv, ssize_t, (int, void *, size_t, int))                                                             \
    X(__recv_chk, ssize_t, (int, void *, size_t, size_t, int))                                               \
    X(recvfrom, ssize_t, (int, void *, size_t, int, struct sockaddr *, socklen_t *))                         \
    X(__recvfrom_chk, ssize_t, (int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *))           \
    X(recvmsg, ssize_t, (int, struct msghdr *, int))                                                         \
    X(accept, int, (int, struct sockaddr *, socklen_t *))                                                    \
    X(accept4, int, (int, struct sockaddr *, socklen_t *, int))                                              \
    /* not interposed for waiting: they change what rest_handlers.c remembers */                             \
    X(sigaction, int, (int, const struct sigaction *, struct sigaction *))                                   \
    X(signal, sighandler_t, (int, sighandler_t))                                                             \
    X(sysv_signal, sighandler_t, (int, sighandler_t))                                                        \
    X(sigset, sighandler_t, (int, sighandler_t))                                                             \
    X(sigignore, int, (int))                                                                                 \
    X(siginterrupt, int, (int, int))

#pragma GCC visibility push(hidden)

/* The definitions behind us; NULL until they are looked up. */
struct rest_calls {
#define DECLARE(name, result, arguments) result(*name) arguments;
    REST_CALLS(DECLARE)
#undef DECLARE
};
extern struct rest_calls rest_calls;
/* In the constructor: not at the first call, which may be one of a signal handler. */
void rest_calls_resolve(void);

/* Valid from the first instruction on. */
#define NEXT(name)                                                                                           \
    (likely(READ_RELAXED(rest_calls.name) != NULL) ? rest_calls.name                                         \
                                                   : (rest_calls_resolve(), rest_calls.name))

/* A wait in steps. */
struct rest_steps {
    uint64_t mask; /* of the program; for calls: rest_set */
    bool masked;   /* signals are blocked but for the sleeps */
    bool overdue;  /* the next sleep is none, because a round is overdue */
    unsigned ms;   /* length of the next step; 0: nothing is left to give back, wait as long as it takes */
    uint64_t deadline_ns; /* of the call; UINT64_MAX: none */
};

/* Entry work: a round, if one is late by so much. What would have interrupted the call, had it waited
 * already: nothing, a handler with SA_RESTART, or one without; it has run then. Nothing where os_restricted
 * is set. */
enum rest_entry { REST_UNDISTURBED, REST_HANDLED, REST_INTERRUPTED };
enum rest_entry rest_entry(int32_t late_ms);

/* Have wait(steps, arguments) done in steps, with signals blocked if that is allowed. False: in this process,
 * or at this moment, there are none; nothing has been done. */
enum rest_signals { REST_MASKED, REST_UNMASKED };
bool rest_in_steps(enum rest_signals signals, uint64_t deadline_ns, void (*wait)(struct rest_steps *, void *),
                   void *arguments);

/* How long the next sleep may be; NULL: without end. *last: the call's own time ends with it. */
struct timespec *rest_step(struct rest_steps *steps, struct timespec *length, bool *last);
/* The same in milliseconds, rounded up; -1: without end. */
int rest_step_ms(struct rest_steps *steps, bool *last);
/* A step has passed: a round. */
void rest_next(struct rest_steps *steps);

#define REST_SECOND_NS 1000000000u
static inline struct timespec rest_time_of(uint64_t ns) {
    return (struct timespec){.tv_sec = (time_t)(ns / REST_SECOND_NS), .tv_nsec = (long)(ns % REST_SECOND_NS)};
}
static inline uint64_t rest_ns_of(const struct timespec *time) {
    return (uint64_t)time->tv_sec * REST_SECOND_NS + (uint64_t)time->tv_nsec;
}

/* A time from now on; UINT64_MAX if it is further than can be told. */
uint64_t rest_deadline(int64_t seconds, int64_t ns);
/* What is left of it, 0 if it is over. */
struct timespec rest_until(uint64_t deadline_ns);
int rest_until_ms(uint64_t deadline_ns);

static inline bool rest_is_time(const struct timespec *time) {
    return time->tv_sec >= 0 && time->tv_nsec >= 0 && time->tv_nsec < 1000000000;
}

/* Can the program's memory be read there, written there? At most a page. Writing spoils up to 8 bytes. Where
 * os_restricted is set: yes. */
bool rest_is_readable(const void *start, size_t length);
bool rest_is_writable(void *start, size_t length);

/* Which signals have handlers, and which of those interrupt for good (no SA_RESTART); bit 0 is signal 1. */
struct rest_handlers {
    uint64_t handled, interrupting;
};
struct rest_handlers rest_handlers(void);
/* The program changes one. */
void rest_forget_handlers(void);

/* A signal's action as the kernel has it; errno may change. False: it has none. */
struct rest_action {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};
bool rest_ask_action(int signal, struct rest_action *action);

static inline uint64_t rest_signal_bit(int signal) {
    return (uint64_t)1 << (signal - 1);
}
/* The kernel has 64 signals, and the calls pass a set on for it to read that much. A sigset_t is sixteen
 * times as long, which is too much for the stack of a call that waits. */
static inline const sigset_t *rest_set(const uint64_t *word) {
    return (const sigset_t *)(const void *)word;
}
/* The kernel's part of a set. */
static inline uint64_t rest_signal_word(const sigset_t *set) {
    uint64_t word;
    __builtin_memcpy(&word, set, sizeof word);
    return word;
}

#pragma GCC visibility pop

#endif
