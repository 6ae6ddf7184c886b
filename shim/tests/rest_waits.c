/* SPDX-License-Identifier: MIT */
/* rest_waits.c: waits for children and for data lose nothing and take nothing where the library waits in
 * steps. usage: rest_waits children|data|at-once|wrong */
#include "rest_rules.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* --- children: that end at random moments, with each way to wait and each way to hear of them --- */

enum hearing { NOT, HANDLER, HANDLER_RESTART, REAPER, BLOCKED, IGNORED, ALARM, ALARM_RESTART, N_HEARINGS };
static const char *const hearing_names[] = {"default", "handler", "restart", "reaper",
                                            "blocked", "ignored", "alarm",   "alarm-restart"};
enum way { WAIT, WAITPID, WAIT3, WAIT4, WAITID, N_WAYS };
static const char *const way_names[] = {"wait", "waitpid", "wait3", "wait4", "waitid"};

static volatile sig_atomic_t n_heard, n_reaped;

static void hear(int signal) {
    (void)signal;
    n_heard++;
}

static void reap(int signal) {
    (void)signal;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        n_reaped++;
}

static volatile sig_atomic_t n_alarms;

static void alarm_comes(int signal) {
    (void)signal;
    n_alarms++;
}

static pid_t wait_by(enum way way, pid_t child, int *status) {
    siginfo_t info;
    switch (way) {
    case WAIT:
        return wait(status);
    case WAITPID:
        return waitpid(child, status, 0);
    case WAIT3:
        return wait3(status, 0, NULL);
    case WAIT4:
        return wait4(child, status, 0, &(struct rusage){0});
    default:
        memset(&info, 0, sizeof info);
        if (waitid(P_PID, (id_t)child, &info, WEXITED)) return -1;
        CHECK(info.si_signo == SIGCHLD && info.si_code == CLD_EXITED);
        *status = info.si_status << 8;
        return info.si_pid;
    }
}

static const char *children_name(size_t i) {
    static char name[64];
    snprintf(name, sizeof name, "%s, SIGCHLD %s", way_names[i % N_WAYS], hearing_names[i / N_WAYS]);
    return name;
}

static void listen_as(enum hearing hearing) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (hearing == HANDLER) handle(SIGCHLD, hear, 0);
    if (hearing == HANDLER_RESTART) handle(SIGCHLD, hear, SA_RESTART);
    if (hearing == REAPER) handle(SIGCHLD, reap, SA_RESTART);
    if (hearing == ALARM || hearing == ALARM_RESTART) {
        handle(SIGCHLD, hear, hearing == ALARM ? SA_RESTART : 0);
        handle(SIGALRM, alarm_comes, hearing == ALARM ? 0 : SA_RESTART);
    }
    if (hearing == BLOCKED) sigprocmask(SIG_BLOCK, &set, NULL);
    if (hearing == IGNORED) handle(SIGCHLD, SIG_IGN, 0);
}

#define CHILDREN 60 /* for each way and hearing: 300 and more for each of both */

static void children(size_t which) {
    enum way way = (enum way)(which % N_WAYS);
    enum hearing hearing = (enum hearing)(which / N_WAYS);
    int64_t late[CHILDREN];
    volatile int64_t *ended_us = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(ended_us != MAP_FAILED);
    listen_as(hearing);
    uint64_t mask = mask_now();
    for (int i = 0; i < CHILDREN; i++) {
        n_heard = n_reaped = n_alarms = 0;
        int64_t us = random_us(), start = now_us();
        pid_t child = fork();
        if (child == 0) {
            usleep((useconds_t)us);
            *ended_us = now_us();
            _exit(i % 100);
        }
        make_idle();
        int status = 0;
        if (hearing == ALARM || hearing == ALARM_RESTART) after_us(us / 2 + 1000);
        pid_t ended = wait_by(way, child, &status);
        if (hearing == ALARM && ended == -1) { /* rather than the end of the child, if that came later */
            CHECK(errno == EINTR && n_alarms == 1 && now_us() - start >= us / 2);
            CHECK(waitpid(child, &status, 0) == child && mask_now() == mask);
            late[i] = 0;
            continue;
        }
        after_us(0);
        late[i] = now_us() - *ended_us;
        CHECK(mask_now() == mask);
        if (hearing == IGNORED) {
            CHECK(ended == -1 && errno == ECHILD);
            continue;
        }
        if (hearing == REAPER && ended == -1) { /* the handler was first, before the wait began */
            CHECK(errno == ECHILD && n_reaped == 1);
            late[i] = 0;
            continue;
        }
        CHECK(ended == child && WIFEXITED(status) && WEXITSTATUS(status) == i % 100);
        if (hearing != REAPER && hearing != NOT && hearing != BLOCKED) CHECK(n_heard == 1);
        CHECK(n_reaped == 0 && waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
        if (hearing == BLOCKED) {
            sigset_t pending;
            CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGCHLD));
        }
    }
    check_late(children_name(which), late, CHILDREN);
}

/* --- data: that comes at random moments, until the other side closes --- */

static const char *const sources[] = {"pipe", "socket", "tcp", "terminal", "named pipe", "datagrams"};
enum { PIPE, SOCKET, TCP, TERMINAL, NAMED, DATAGRAMS, N_SOURCES };
enum { READ, READV, RECV, RECVFROM, RECVMSG, N_READS };
#define N_DATA (N_SOURCES * N_READS)

static const char *data_name(size_t i) {
    static const char *const reads[] = {"read", "readv", "recv", "recvfrom", "recvmsg"};
    static char name[64];
    snprintf(name, sizeof name, "%s by %s", sources[i / N_READS], reads[i % N_READS]);
    return name;
}

/* A listening socket of this machine; *address is where. */
static int listening(struct sockaddr_in *address) {
    socklen_t length = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    CHECK(bind(fd, (struct sockaddr *)address, length) == 0 && listen(fd, 8) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
    return fd;
}

static void open_source(size_t source, int fds[2]) {
    char name[] = "/tmp/zp-rest-XXXXXX";
    struct sockaddr_in address;
    int fd;
    switch (source) {
    case PIPE:
        CHECK(pipe(fds) == 0);
        break;
    case SOCKET:
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
        break;
    case DATAGRAMS:
        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
        break;
    case TERMINAL:
        CHECK(openpty(&fds[1], &fds[0], NULL, NULL, NULL) == 0);
        break;
    case NAMED:
        CHECK(mkdtemp(name) && rmdir(name) == 0 && mkfifo(name, 0600) == 0);
        fds[0] = open(name, O_RDONLY | O_NONBLOCK);
        fds[1] = open(name, O_WRONLY);
        CHECK(unlink(name) == 0 && fcntl(fds[0], F_SETFL, 0) == 0);
        break;
    default:
        fd = listening(&address);
        fds[1] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(fds[1], (struct sockaddr *)&address, sizeof address) == 0);
        make_idle();
        fds[0] = accept(fd, NULL, NULL);
        CHECK(close(fd) == 0);
    }
    CHECK(fds[0] >= 0 && fds[1] >= 0);
}

static ssize_t read_by(size_t way, int fd, char *data, size_t n) {
    struct iovec parts[2] = {{data, 1}, {data + 1, n - 1}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    switch (way) {
    case READ:
        return read(fd, data, n);
    case READV:
        return readv(fd, parts, 2);
    case RECV:
        return recv(fd, data, n, 0);
    case RECVFROM:
        return recvfrom(fd, data, n, 0, NULL, NULL);
    default:
        return recvmsg(fd, &message, 0);
    }
}

#define LINE 18

static void data(size_t which) {
    int fds[2];
    size_t source = which / N_READS, way = which % N_READS;
    char line[64];
    int64_t late[ROUNDS];
    open_source(source, fds);
    pid_t writer = fork();
    if (writer == 0) {
        close(fds[0]);
        for (int i = 0; i < ROUNDS; i++) {
            usleep((useconds_t)random_us());
            snprintf(line, sizeof line, "%016llx\n", (long long)now_us());
            CHECK(write(fds[1], line, LINE - 1) == LINE - 1);
        }
        if (source == TERMINAL) usleep(500000); /* what has not been read goes with the other side */
        _exit(0);
    }
    close(fds[1]);
    if (way > READV && source != SOCKET && source != TCP && source != DATAGRAMS) {
        make_idle();
        CHECK(read_by(way, fds[0], line, sizeof line) == -1 && errno == ENOTSOCK);
        kill(writer, SIGKILL);
        return;
    }
    for (int i = 0; i < ROUNDS; i++) {
        make_idle();
        ssize_t n = read_by(way, fds[0], line, LINE - 1);
        late[i] = now_us() - (int64_t)strtoull(line, NULL, 16);
        CHECK(n == LINE - 1);
    }
    make_idle();
    ssize_t n = read_by(way, fds[0], line, sizeof line);
    CHECK(source == TERMINAL ? n == -1 && errno == EIO : n == 0);
    CHECK(waitpid(writer, NULL, 0) == writer);
    check_late(data_name(which), late, ROUNDS);
}

/* --- at once: calls that do not wait, or for a time of their own --- */

/* Makes a call that must fail at once, or after ms. */
#define FAILS(error, ms, call)                                                                               \
    do {                                                                                                     \
        make_idle();                                                                                         \
        int64_t start_us = now_us();                                                                         \
        long result = (call);                                                                                \
        int found = errno;                                                                                   \
        int64_t took_us = now_us() - start_us;                                                               \
        if (result != -1 || found != (error) || took_us < (ms)*1000 || took_us > (ms)*1000 + LATE_US)        \
            fprintf(stderr, #call ": %ld, %d after %lld us\n", result, found, (long long)took_us);           \
        CHECK(result == -1 && found == (error) && took_us >= (ms)*1000 && took_us <= (ms)*1000 + LATE_US);   \
    } while (0)

static int at_once(void) {
    int fds[2], pair[2], unnamed[2];
    char byte;
    struct sockaddr_in address;
    int listener = listening(&address), idle = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval timeout = {0, 40000};
    CHECK(pipe(fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(unnamed) == 0);
    for (int i = 0; i < 10; i++) {
        FAILS(EAGAIN, 0, recv(pair[0], &byte, 1, MSG_DONTWAIT));
        FAILS(EBADF, 0, read(fds[1], &byte, 1));
        FAILS(EBADF, 0, read(999, &byte, 1));
        FAILS(ENOTCONN, 0, recv(listener, &byte, 1, 0));
        FAILS(ENOTCONN, 0, recv(idle, &byte, 1, 0));
        FAILS(EINVAL, 0, accept(idle, NULL, NULL));
        FAILS(ENOTSOCK, 0, accept(fds[0], NULL, NULL));
        FAILS(EINVAL, 0, accept4(listener, NULL, NULL, 1));
        FAILS(ECHILD, 0, wait(NULL));
        FAILS(ECHILD, 0, waitpid(1, NULL, 0));
        FAILS(EINVAL, 0, waitid(P_ALL, 0, NULL, 0));
        FAILS(EISDIR, 0, read(open("/", O_RDONLY), &byte, 1));
        CHECK(read(fds[0], &byte, 0) == 0);
        CHECK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
        FAILS(EAGAIN, 40, read(pair[0], &byte, 1));
        CHECK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){0, 0}, sizeof timeout) == 0);
        CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(listener, F_SETFL, O_NONBLOCK) == 0);
        FAILS(EAGAIN, 0, read(fds[0], &byte, 1));
        FAILS(EAGAIN, 0, accept(listener, NULL, NULL));
        CHECK(fcntl(fds[0], F_SETFL, 0) == 0 && fcntl(listener, F_SETFL, 0) == 0);
    }
    CHECK(close(unnamed[1]) == 0);
    make_idle();
    CHECK(read(unnamed[0], &byte, 1) == 0);
    printf("at once: ok\n");
    return 0;
}

/* --- wrong: pointers to nowhere and impossible times --- */

static int wrong(void) {
    void *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *beyond = (void *)UINTPTR_MAX;
    int fds[2], events = epoll_create1(0);
    volatile int many = 100000;
    char byte;
    sigset_t none;
    struct timespec bad = {0, 1000000000}, negative = {-1, 0}, short_time = {0, 30000000};
    sigemptyset(&none);
    CHECK(pipe(fds) == 0);
    for (int i = 0; i < 10; i++) {
        FAILS(EFAULT, 0, nanosleep(nowhere, NULL));
        FAILS(EFAULT, 0, (errno = clock_nanosleep(CLOCK_MONOTONIC, 0, nowhere, NULL)) ? -1 : 0);
        FAILS(EFAULT, 0, (errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, nowhere, NULL)) ? -1 : 0);
        FAILS(EINVAL, 0, (errno = clock_nanosleep(77, 0, &short_time, NULL)) ? -1 : 0);
        FAILS(EINVAL, 0, nanosleep(&bad, NULL));
        FAILS(EINVAL, 0, nanosleep(&negative, NULL));
        FAILS(EFAULT, 0, poll(nowhere, 1, -1));
        FAILS(EINVAL, 0, ppoll(NULL, 0, &bad, NULL));
        FAILS(EFAULT, 0, ppoll(NULL, 0, NULL, nowhere));
        FAILS(EFAULT, 0, select(3, nowhere, NULL, NULL, NULL));
        FAILS(EBADF, 0, select(60, &(fd_set){.fds_bits = {1ul << 50}}, NULL, NULL, NULL));
        FAILS(EINVAL, 0, select(0, NULL, NULL, NULL, &(struct timeval){-1, 0}));
        FAILS(EINVAL, 0, select(-1, NULL, NULL, NULL, NULL));
        FAILS(EFAULT, 0, pselect(0, NULL, NULL, NULL, NULL, nowhere));
        FAILS(EINVAL, 0, epoll_wait(events, &(struct epoll_event){0}, 0, -1));
        FAILS(EBADF, 0, epoll_wait(999, &(struct epoll_event){0}, 1, -1));
        FAILS(EFAULT, 0, epoll_pwait(events, &(struct epoll_event){0}, 1, -1, nowhere));
        FAILS(EFAULT, 0, sigsuspend(nowhere));
        FAILS(EFAULT, 0, sigtimedwait(nowhere, NULL, &short_time));
        FAILS(EFAULT, 0, sigtimedwait(&none, NULL, nowhere));
        FAILS(EINVAL, 0, sigtimedwait(&none, NULL, &bad));
        FAILS(EAGAIN, 30, sigtimedwait(&none, NULL, &short_time));
        FAILS(EFAULT, 0, read(fds[0], beyond, 1));
        FAILS(EFAULT, 0, readv(fds[0], nowhere, 1));
        FAILS(EINVAL, 0, readv(fds[0], &(struct iovec){&byte, 1}, many));
        FAILS(EFAULT, 0, recvmsg(socket(AF_INET, SOCK_DGRAM, 0), nowhere, 0));
        FAILS(EINVAL, 0, waitpid(-1, NULL, 0x1000));
        if (fork() == 0) _exit(0);
        FAILS(EFAULT, 0, (usleep(40000), waitpid(-1, nowhere, 0)));
    }
    printf("wrong: ok\n");
    return 0;
}

int main(int argc, char **argv) {
    const char *test = argc > 1 ? argv[1] : "";
    if (strcmp(test, "children") == 0) return in_children(N_WAYS * N_HEARINGS, 14, children_name, children);
    if (strcmp(test, "data") == 0) return in_children(N_DATA, N_DATA, data_name, data);
    if (strcmp(test, "at-once") == 0) return at_once();
    if (strcmp(test, "wrong") == 0) return wrong();
    return 2;
}
