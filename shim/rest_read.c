/* SPDX-License-Identifier: MIT */
/* rest_read.c: reading and accepting, in steps. See rest_calls.h.
 *
 * The steps wait until there is something to read; then the program's own call is made, once. In steps: what
 * blocks, comes from a pipe without a name or a socket without a timeout, and asks for nothing special; and
 * only if the program's handlers agree on whether they interrupt such calls. All else has entry work only:
 * terminals and named pipes, of which poll does not say all that read would do.
 */
#undef _FORTIFY_SOURCE
#include "rest_calls.h"

#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The end of user addresses; calls with higher ones fail at once. */
#define ADDRESSES_END (((uintptr_t)1 << 47) - PAGE_BYTES)
/* At most so many buffers of a call are looked at. */
#define VECTORS_MAX 16

enum from { FROM_ANY, FROM_SOCKET, FROM_LISTENER };

static int option_of(int fd, int option, void *value, socklen_t size) {
    return (int)syscall(SYS_getsockopt, fd, SOL_SOCKET, option, value, &size);
}

/* Is this a descriptor without a timeout, of a kind that poll tells all about, and listening as the call
 * wants it? */
static bool is_plain_socket(int fd, bool listens) {
    struct timeval timeout = {0, 0};
    int domain = 0, is_listener = 0;
    if (option_of(fd, SO_DOMAIN, &domain, sizeof domain) ||
        (domain != AF_UNIX && domain != AF_INET && domain != AF_INET6))
        return false;
    if (option_of(fd, SO_RCVTIMEO, &timeout, sizeof timeout) || timeout.tv_sec || timeout.tv_usec)
        return false;
    return option_of(fd, SO_ACCEPTCONN, &is_listener, sizeof is_listener) == 0 &&
           (is_listener != 0) == listens;
}

/* There is nothing to read: does the call wait, and until poll reports data? */
enum waits { WAITS_NOT, WAITS_OTHERWISE, WAITS_AS_POLL };

static enum waits how_it_waits(int fd, enum from from) {
    long flags = syscall(SYS_fcntl, fd, F_GETFL);
    struct stat info;
    struct statfs system;
    if (flags < 0 || (flags & (O_NONBLOCK | O_PATH)) || (flags & O_ACCMODE) == O_WRONLY || fstat(fd, &info))
        return WAITS_NOT;
    if (S_ISSOCK(info.st_mode)) return is_plain_socket(fd, from == FROM_LISTENER) ? WAITS_AS_POLL : WAITS_NOT;
    if (from != FROM_ANY) return WAITS_NOT;
    bool is_pipe =
        S_ISFIFO(info.st_mode) && syscall(SYS_fstatfs, fd, &system) == 0 && system.f_type == PIPEFS_MAGIC;
    return is_pipe ? WAITS_AS_POLL : WAITS_OTHERWISE;
}

struct reading {
    int fd;
    bool mixed; /* it is unknown which handler ran */
    bool interrupted;
};

static void wait_readable(struct rest_steps *steps, void *arguments) {
    struct reading *reading = arguments;
    for (;;) {
        struct rest_handlers handlers = rest_handlers();
        uint64_t open = handlers.handled & ~steps->mask;
        uint64_t interrupting = handlers.interrupting & open;
        reading->mixed = interrupting && interrupting != open;
        if (reading->mixed) return;
        struct pollfd waited = {.fd = reading->fd, .events = POLLIN};
        struct timespec length;
        bool last;
        int n = NEXT(ppoll)(&waited, 1, rest_step(steps, &length, &last), rest_set(&steps->mask));
        if (n == 0) {
            rest_next(steps);
        } else if (n > 0 || errno != EINTR) {
            return;
        } else if (interrupting) {
            reading->interrupted = true;
            return;
        }
    }
}

/* Waits until the call would not wait. False: a handler has interrupted that. */
static noinline_cold bool wait_to_read(int fd, enum from from) {
    if (os_restricted) {
        rest_entry(0);
        return true;
    }
    struct reading reading = {.fd = fd};
    struct pollfd now = {.fd = fd, .events = POLLIN};
    int saved = errno;
    if (NEXT(poll)(&now, 1, 0) == 0) {
        enum waits waits = how_it_waits(fd, from);
        bool in_steps =
            waits == WAITS_AS_POLL && rest_in_steps(REST_MASKED, UINT64_MAX, wait_readable, &reading);
        if (!in_steps || reading.mixed)
            reading.interrupted = rest_entry(0) == REST_INTERRUPTED && waits != WAITS_NOT;
    }
    errno = reading.interrupted ? EINTR : saved;
    return !reading.interrupted;
}

/* The kernel refuses the buffer's address before it waits, or there is nothing to read into: the call does
 * not wait. */
static bool is_buffer(const void *start, size_t n) {
    return n > 0 && n < ADDRESSES_END && (uintptr_t)start < ADDRESSES_END - n;
}

static bool are_buffers(const struct iovec *vectors, size_t n) {
    size_t total = 0;
    if (n == 0 || n > VECTORS_MAX || !rest_is_readable(vectors, n * sizeof *vectors)) return false;
    for (size_t i = 0; i < n; i++) {
        if (vectors[i].iov_len && !is_buffer(vectors[i].iov_base, vectors[i].iov_len)) return false;
        total += vectors[i].iov_len;
    }
    return total > 0 && total < ADDRESSES_END;
}

/* Flags with which a call waits for the first data, and for nothing else. */
static bool are_plain(int flags) {
    return !(flags & ~(MSG_PEEK | MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC));
}

EXPORT ssize_t read(int fd, void *buffer, size_t n) {
    if (unlikely(rest_wanted(&shim_pool)) && is_buffer(buffer, n) && !wait_to_read(fd, FROM_ANY)) return -1;
    return NEXT(read)(fd, buffer, n);
}

EXPORT ssize_t readv(int fd, const struct iovec *vectors, int n) {
    if (unlikely(rest_wanted(&shim_pool)) && n > 0 && are_buffers(vectors, (size_t)n) &&
        !wait_to_read(fd, FROM_ANY))
        return -1;
    return NEXT(readv)(fd, vectors, n);
}

EXPORT ssize_t recv(int fd, void *buffer, size_t n, int flags) {
    if (unlikely(rest_wanted(&shim_pool)) && are_plain(flags) && is_buffer(buffer, n) &&
        !wait_to_read(fd, FROM_SOCKET))
        return -1;
    return NEXT(recv)(fd, buffer, n, flags);
}

EXPORT ssize_t recvfrom(int fd, void *buffer, size_t n, int flags, struct sockaddr *address,
                        socklen_t *length) {
    if (unlikely(rest_wanted(&shim_pool)) && are_plain(flags) && is_buffer(buffer, n) &&
        !wait_to_read(fd, FROM_SOCKET))
        return -1;
    return NEXT(recvfrom)(fd, buffer, n, flags, address, length);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    if (unlikely(rest_wanted(&shim_pool)) && are_plain(flags) && rest_is_readable(message, sizeof *message) &&
        are_buffers(message->msg_iov, message->msg_iovlen) && !wait_to_read(fd, FROM_SOCKET))
        return -1;
    return NEXT(recvmsg)(fd, message, flags);
}

EXPORT int accept(int fd, struct sockaddr *address, socklen_t *length) {
    if (unlikely(rest_wanted(&shim_pool)) && !wait_to_read(fd, FROM_LISTENER)) return -1;
    return NEXT(accept)(fd, address, length);
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    if (unlikely(rest_wanted(&shim_pool)) && !(flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) &&
        !wait_to_read(fd, FROM_LISTENER))
        return -1;
    return NEXT(accept4)(fd, address, length, flags);
}

/* The checked forms end the program if the buffer is too small; the C library's own form is left to do
 * that. */
EXPORT ssize_t __read_chk(int fd, void *buffer, size_t n, size_t room);
ssize_t __read_chk(int fd, void *buffer, size_t n, size_t room) {
    return n > room ? NEXT(__read_chk)(fd, buffer, n, room) : read(fd, buffer, n);
}

EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t n, size_t room, int flags);
ssize_t __recv_chk(int fd, void *buffer, size_t n, size_t room, int flags) {
    return n > room ? NEXT(__recv_chk)(fd, buffer, n, room, flags) : recv(fd, buffer, n, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buffer, size_t n, size_t room, int flags,
                              struct sockaddr *address, socklen_t *length);
ssize_t __recvfrom_chk(int fd, void *buffer, size_t n, size_t room, int flags, struct sockaddr *address,
                       socklen_t *length) {
    return n > room ? NEXT(__recvfrom_chk)(fd, buffer, n, room, flags, address, length)
                    : recvfrom(fd, buffer, n, flags, address, length);
}

EXPORT __typeof__(read) __read __attribute__((alias("read")));
