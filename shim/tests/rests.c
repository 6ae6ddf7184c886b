/* SPDX-License-Identifier: MIT */
/* rests.c: a process with one thread fills and frees memory and then rests in a call for good. Seen from
 * outside, that memory goes back, and there is one task all the time. One child for each call, all at once.
 */
#include "rest_places.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#define FILL (64 * MIB)
#define RESTS_AT (16 * MIB)
#define PATIENCE_S 40 /* on a machine that is busy with other things */
#define EXPECTED_S 10
#define LONG_S 1000

static pid_t child;
static struct timespec length = {.tv_sec = LONG_S};

static struct pollfd *waited(void) {
    static struct pollfd fd;
    fd = (struct pollfd){.fd = empty[0], .events = POLLIN};
    return &fd;
}

static fd_set *waited_set(void) {
    static fd_set set;
    FD_ZERO(&set);
    FD_SET(empty[0], &set);
    return &set;
}

static struct timespec end_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    now.tv_sec += LONG_S;
    return now;
}

static struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
static struct epoll_event event;
static struct timespec end;
static siginfo_t information;
static struct timeval period = {.tv_sec = LONG_S};

#define CALL(name, expression)                                                                               \
    static void in_##name(void) {                                                                            \
        (void)!(expression);                                                                                 \
    }
CALL(sleep, sleep(LONG_S))
CALL(usleep, usleep(LONG_S * 1000000u))
CALL(nanosleep, nanosleep(&length, NULL))
CALL(clock_nanosleep, clock_nanosleep(CLOCK_REALTIME, 0, &length, NULL))
CALL(clock_nanosleep_absolute,
     (end = end_of(CLOCK_MONOTONIC), clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL)))
CALL(pause, pause())
CALL(sigsuspend, sigsuspend(&none))
CALL(poll, poll(waited(), 1, -1))
CALL(poll_timeout, poll(waited(), 1, LONG_S * 1000))
CALL(ppoll, ppoll(waited(), 1, NULL, &none))
CALL(select, select(empty[0] + 1, waited_set(), NULL, NULL, NULL))
CALL(select_timeout, select(0, NULL, NULL, NULL, &period))
CALL(pselect, pselect(empty[0] + 1, waited_set(), NULL, NULL, &length, &none))
CALL(epoll_wait, epoll_wait(events, &event, 1, -1))
CALL(epoll_pwait, epoll_pwait(events, &event, 1, -1, &none))
CALL(sigwait, sigwait(&usr1, &(int){0}))
CALL(sigwaitinfo, sigwaitinfo(&usr1, &information))
CALL(sigtimedwait, sigtimedwait(&usr1, &information, &length))
CALL(wait, wait(NULL))
CALL(waitpid, waitpid(child, NULL, 0))
CALL(wait3, wait3(NULL, 0, NULL))
CALL(wait4, wait4(-1, NULL, 0, NULL))
CALL(waitid, waitid(P_ALL, 0, &information, WEXITED))
CALL(read_pipe, read(empty[0], &byte, 1))
CALL(read_socket, read(connection[0], &byte, 1))
CALL(readv, readv(empty[0], &vector, 1))
CALL(recv, recv(connection[0], &byte, 1, 0))
CALL(recvfrom, recvfrom(connection[0], &byte, 1, 0, NULL, NULL))
CALL(recvmsg, recvmsg(connection[0], &message, 0))
CALL(accept, accept(listener, NULL, NULL))
CALL(accept4, accept4(listener, NULL, NULL, SOCK_CLOEXEC))

/* As event loops that look around several times a second. */
static void in_short_polls(void) {
    for (;;)
        poll(waited(), 1, 10);
}

static void in_short_sleeps(void) {
    for (;;)
        usleep(5000);
}

static const struct rest {
    const char *name;
    void (*call)(void);
    bool has_child;
} rests[] = {
#define REST(name)                                                                                           \
    { #name, in_##name, false }
    REST(sleep),
    REST(usleep),
    REST(nanosleep),
    REST(clock_nanosleep),
    REST(clock_nanosleep_absolute),
    REST(pause),
    REST(sigsuspend),
    REST(poll),
    REST(poll_timeout),
    REST(ppoll),
    REST(select),
    REST(select_timeout),
    REST(pselect),
    REST(epoll_wait),
    REST(epoll_pwait),
    REST(sigwait),
    REST(sigwaitinfo),
    REST(sigtimedwait),
    REST(read_pipe),
    REST(read_socket),
    REST(readv),
    REST(recv),
    REST(recvfrom),
    REST(recvmsg),
    REST(accept),
    REST(accept4),
    REST(short_polls),
    REST(short_sleeps),
    {"wait", in_wait, true},
    {"waitpid", in_waitpid, true},
    {"wait3", in_wait3, true},
    {"wait4", in_wait4, true},
    {"waitid", in_waitid, true},
};
#define N_RESTS (sizeof rests / sizeof rests[0])

static void rest(const struct rest *rest, int ready) {
    prepare();
    pid_t self = getpid();
    if (rest->has_child && (child = fork()) == 0) {
        while (getppid() == self)
            usleep(200000);
        _exit(0);
    }
    if (strncmp(rest->name, "sig", 3) == 0) sigprocmask(SIG_BLOCK, &usr1, NULL);
    enum { N_BLOCKS = 16 };
    char *blocks[N_BLOCKS];
    for (int i = 0; i < N_BLOCKS; i++)
        memset(blocks[i] = get(FILL / N_BLOCKS), 1, FILL / N_BLOCKS);
    CHECK(in_pool(blocks[0]));
    for (int i = 0; i < N_BLOCKS; i++)
        free(blocks[i]);
    CHECK(write(ready, "", 1) == 1);
    rest->call();
    CHECK(!"it has returned");
}

/* From /proc: the number after the name, in a file of a process. */
static size_t number_of(pid_t pid, const char *name) {
    char path[64], line[256];
    size_t value = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    CHECK(file);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0) value = strtoul(line + strlen(name), NULL, 10);
    fclose(file);
    return value;
}

int main(int argc, char **argv) {
    pid_t pids[N_RESTS];
    bool done[N_RESTS] = {false};
    size_t n_left = N_RESTS;
    int ready[2];
    (void)argc;
    require_shim();
    CHECK(pipe(ready) == 0);
    for (size_t i = 0; i < N_RESTS; i++)
        if ((pids[i] = fork()) == 0) rest(&rests[i], ready[1]);
    for (size_t i = 0; i < N_RESTS; i++)
        CHECK(read(ready[0], &byte, 1) == 1);
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    bool ended = false;
    for (double waited_s = 0; n_left && waited_s < PATIENCE_S && !ended;) {
        usleep(250000);
        clock_gettime(CLOCK_MONOTONIC, &now);
        waited_s = (double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9;
        for (size_t i = 0; i < N_RESTS; i++) {
            if (number_of(pids[i], "Threads:") != 1) {
                fprintf(stderr, "%s: %zu tasks\n", rests[i].name, number_of(pids[i], "Threads:"));
                ended = true;
            }
            if (done[i] || number_of(pids[i], "VmRSS:") * KIB > RESTS_AT) continue;
            done[i] = true;
            n_left--;
            if (waited_s > EXPECTED_S || argv[1]) fprintf(stderr, "%s: %.1f s\n", rests[i].name, waited_s);
        }
    }
    for (size_t i = 0; i < N_RESTS; i++) {
        if (!done[i]) fprintf(stderr, "%s: %zu KiB are left\n", rests[i].name, number_of(pids[i], "VmRSS:"));
        kill(pids[i], SIGKILL);
    }
    return n_left || ended;
}
