/* SPDX-License-Identifier: MIT */
/* report_write.c: see report_write.h. May change errno. */
#include "report_write.h"

#include "sync/fatal.h"
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 1000
/* How much a pipe takes without waiting, once it is ready. */
#define PIECE_BYTES 4096

/* One line per process, in one write, so that the lines of a process tree do not mix. */
static const char *write_at_once(int fd, const char *text, size_t length) {
    errno = 0;
    if (write(fd, text, length) == (ssize_t)length) return NULL;
    return errno ? strerrordesc_np(errno) : "short write";
}

/* A file as report_append takes it. NULL, and the descriptor; or why not. */
static const char *open_file(const char *path, int flags, int *out) {
    /* O_NONBLOCK: a FIFO without a reader would wait for one. Never readable for others. */
    int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600);
    if (fd < 0) return strerrordesc_np(errno);
    struct stat status;
    const char *why = NULL;
    if (fstat(fd, &status))
        why = strerrordesc_np(errno);
    else if (!S_ISREG(status.st_mode))
        why = "not a regular file";
    else if (status.st_uid != geteuid())
        why = "another user's file";
    else if (status.st_nlink != 1)
        why = "a file with more than one name";
    if (why) close(fd);
    *out = why ? -1 : fd;
    return why;
}

const char *report_append(const char *path, const char *text, size_t length) {
    int fd = -1;
    const char *why = open_file(path, O_APPEND, &fd);
    if (why) return why;
    why = write_at_once(fd, text, length);
    close(fd);
    return why;
}

const char *report_replace(const char *path, int *out) {
    const char *why = open_file(path, 0, out);
    if (!why && ftruncate(*out, 0)) {
        why = strerrordesc_np(errno);
        close(*out);
    }
    return why;
}

const char *report_piece(int fd, const char *text, size_t length) {
    while (length > 0) {
        ssize_t n = write(fd, text, length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n ? strerrordesc_np(errno) : "short write";
        text += n;
        length -= (size_t)n;
    }
    return NULL;
}

/* --- descriptors that may have to be waited for --- */

struct target {
    int fd;
    bool is_socket;
    bool waits; /* the descriptor itself would wait: write small pieces only */
};

static ssize_t write_piece(const struct target *target, const char *text, size_t length) {
    if (target->is_socket) return send(target->fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    return write(target->fd, text, target->waits ? min_size(length, PIECE_BYTES) : length);
}

static const char *write_patiently(const struct target *target, const char *text, size_t length) {
    uint64_t end_ns = os_clock_ns() + PATIENCE_MS * 1000000ull;
    while (length > 0) {
        struct pollfd ready = {.fd = target->fd, .events = POLLOUT};
        uint64_t now_ns = os_clock_ns();
        if (now_ns >= end_ns || poll(&ready, 1, (int)((end_ns - now_ns) / 1000000) + 1) == 0)
            return "nobody reads";
        ssize_t n = write_piece(target, text, length);
        if (n > 0) {
            text += n;
            length -= (size_t)n;
        } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return strerrordesc_np(errno);
        }
    }
    return NULL;
}

/* The same pipe through a descriptor of our own that does not wait; -1 if that cannot be had (no /proc).
 * Setting the flag on the descriptor itself would change it for everybody who shares it. */
static int reopen(int fd) {
    char path[40] = "/proc/self/fd/", digits[24];
    strcat(path, format_decimal(digits, (uint64_t)fd));
    return open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
}

static const char *write_to_pipe(int fd, bool is_socket, const char *text, size_t length) {
    sigset_t pipe_signal, before, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    int own = is_socket ? -1 : reopen(fd);
    struct target target = {.fd = own < 0 ? fd : own, .is_socket = is_socket, .waits = own < 0};
    const char *why = write_patiently(&target, text, length);
    if (own >= 0) close(own);
    /* A signal that was pending before is the program's, and a new one is ours; blocked signals do not add
     * up. */
    if (why && !sigismember(&pending, SIGPIPE)) sigtimedwait(&pipe_signal, NULL, &(struct timespec){0, 0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return why;
}

const char *report_write(int fd, const char *text, size_t length) {
    struct stat status;
    if (fstat(fd, &status)) return strerrordesc_np(errno);
    bool is_socket = S_ISSOCK(status.st_mode);
    if (is_socket || S_ISFIFO(status.st_mode) || isatty(fd))
        return write_to_pipe(fd, is_socket, text, length);
    return write_at_once(fd, text, length);
}
