/* SPDX-License-Identifier: MIT */
/* rest_table.h: the calls that wait, as a table of functions that wait in them. */
#ifndef ZP_SHIM_TESTS_REST_TABLE_H
#define ZP_SHIM_TESTS_REST_TABLE_H

#include "rest_places.h"
#include "rest_rules.h"

#include <poll.h>
#include <sys/select.h>

/* The calls, each waiting for so long: -1 with errno if it was interrupted. What is left is checked against
 * the clock. */

/* What a call says is left, rounded down to units, after it was made at start_ns to wait for us. In
 * nanoseconds: microseconds are rounded, and all between the call and its answer takes less. */
static bool is_left(int64_t left_ns, int64_t unit_ns, int64_t us, int64_t start_ns) {
    int64_t least = us * 1000 - (now_ns() - start_ns);
    return left_ns + unit_ns > least && left_ns <= least + (int64_t)LATE_US * 1000;
}

static int in_sleep(int64_t us) {
    unsigned left = sleep((unsigned)(us / 1000000));
    if (!left) return 0;
    CHECK(left == us / 1000000 - 1 || left == us / 1000000);
    errno = EINTR;
    return -1;
}
static int in_usleep(int64_t us) {
    return usleep((useconds_t)us);
}
static int in_nanosleep(int64_t us) {
    struct timespec time = {us / 1000000, us % 1000000 * 1000}, left;
    int64_t start = now_ns();
    int result = nanosleep(&time, &left);
    if (result < 0) CHECK(is_left(left.tv_sec * 1000000000 + left.tv_nsec, 1, us, start));
    return result;
}
static int in_clock_nanosleep(int64_t us) {
    struct timespec time = {us / 1000000, us % 1000000 * 1000};
    int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &time, &time);
    errno = error;
    return error ? -1 : 0;
}
static int in_absolute(int64_t us) {
    int64_t end = now_us() + us;
    struct timespec time = {end / 1000000, end % 1000000 * 1000};
    int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
    errno = error;
    return error ? -1 : 0;
}
static int in_poll(int64_t us) {
    return poll(&(struct pollfd){.fd = empty[0], .events = POLLIN}, 1, (int)((us + 999) / 1000));
}
static int in_ppoll(int64_t us) {
    struct timespec time = {us / 1000000, us % 1000000 * 1000};
    return ppoll(&(struct pollfd){.fd = empty[0], .events = POLLIN}, 1, &time, NULL);
}
static int in_select(int64_t us) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(empty[0], &set);
    struct timeval time = {us / 1000000, us % 1000000};
    int64_t start = now_ns();
    int result = select(empty[0] + 1, &set, NULL, NULL, &time);
    int64_t left = time.tv_sec * 1000000 + time.tv_usec;
    CHECK(result == 0 ? left == 0 && !FD_ISSET(empty[0], &set) : is_left(left * 1000, 1000, us, start));
    return result;
}
static int in_pselect(int64_t us) {
    struct timespec time = {us / 1000000, us % 1000000 * 1000}, before = time;
    int result = pselect(0, NULL, NULL, NULL, &time, NULL);
    CHECK(memcmp(&time, &before, sizeof time) == 0);
    return result;
}
static int in_epoll(int64_t us) {
    return epoll_wait(events, &(struct epoll_event){0}, 1, (int)((us + 999) / 1000));
}
static int in_epoll_pwait(int64_t us) {
    return epoll_pwait(events, &(struct epoll_event){0}, 1, (int)((us + 999) / 1000), NULL);
}
static int in_sigtimedwait(int64_t us) {
    struct timespec time = {us / 1000000, us % 1000000 * 1000};
    int result = sigtimedwait(&usr1, NULL, &time);
    return result < 0 && errno == EAGAIN ? 0 : result;
}
/* Without an end of their own. */
static int in_pause(int64_t us) {
    return (void)us, pause();
}
static int in_sigsuspend(int64_t us) {
    return (void)us, sigsuspend(&none);
}
static int in_sigwaitinfo(int64_t us) {
    return (void)us, sigwaitinfo(&usr1, NULL);
}
static int in_poll_for_good(int64_t us) {
    return (void)us, poll(&(struct pollfd){.fd = empty[0], .events = POLLIN}, 1, -1);
}
/* These go on if the handler was set with SA_RESTART. */
static int in_read(int64_t us) {
    return (void)us, (int)read(empty[0], &byte, 1);
}
static int in_read_socket(int64_t us) {
    return (void)us, (int)read(connection[0], &byte, 1);
}
static int in_readv(int64_t us) {
    return (void)us, (int)readv(empty[0], &vector, 1);
}
static int in_recv(int64_t us) {
    return (void)us, (int)recv(connection[0], &byte, 1, 0);
}
static int in_recvfrom(int64_t us) {
    return (void)us, (int)recvfrom(connection[0], &byte, 1, 0, NULL, NULL);
}
static int in_recvmsg(int64_t us) {
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    return (void)us, (int)recvmsg(connection[0], &message, 0);
}
static int in_accept(int64_t us) {
    (void)us;
    int fd = accept(listener, NULL, NULL);
    return fd < 0 ? -1 : close(fd) + 1;
}

enum kind { TIMED, ENDLESS, RESTARTED };
static const struct call {
    const char *name;
    int (*wait)(int64_t us);
    enum kind kind;
} calls[] = {
    {"nanosleep", in_nanosleep, TIMED},
    {"usleep", in_usleep, TIMED},
    {"clock_nanosleep", in_clock_nanosleep, TIMED},
    {"absolute", in_absolute, TIMED},
    {"poll", in_poll, TIMED},
    {"ppoll", in_ppoll, TIMED},
    {"select", in_select, TIMED},
    {"pselect", in_pselect, TIMED},
    {"epoll_wait", in_epoll, TIMED},
    {"epoll_pwait", in_epoll_pwait, TIMED},
    {"sigtimedwait", in_sigtimedwait, TIMED},
#define N_TIMED 11
    {"sleep", in_sleep, ENDLESS},
    {"pause", in_pause, ENDLESS},
    {"sigsuspend", in_sigsuspend, ENDLESS},
    {"sigwaitinfo", in_sigwaitinfo, ENDLESS},
    {"poll-for-good", in_poll_for_good, ENDLESS},
    {"read", in_read, RESTARTED},
    {"read-socket", in_read_socket, RESTARTED},
    {"readv", in_readv, RESTARTED},
    {"recv", in_recv, RESTARTED},
    {"recvfrom", in_recvfrom, RESTARTED},
    {"recvmsg", in_recvmsg, RESTARTED},
    {"accept", in_accept, RESTARTED},
};
#define N_CALLS (sizeof calls / sizeof calls[0])

static const char *name_of(size_t i) {
    return calls[i].name;
}

#endif
