// SPDX-License-Identifier: MIT
// Loops around read, write, pread, pwrite and send.
#include "io.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

// One call moves at most this much; the kernel's own limit is just below 2 GiB.
static const size_t io_most = (size_t)1 << 30;

enum io_way { IO_READ, IO_WRITE, IO_READ_AT, IO_WRITE_AT, IO_SEND };

static ssize_t io_step(enum io_way way, int fd, unsigned char *at, size_t bytes, off_t offset) {
    switch (way) {
    case IO_READ:
        return read(fd, at, bytes);
    case IO_WRITE:
        return write(fd, at, bytes);
    case IO_READ_AT:
        return pread(fd, at, bytes, offset);
    case IO_WRITE_AT:
        return pwrite(fd, at, bytes, offset);
    case IO_SEND:
        return send(fd, at, bytes, MSG_NOSIGNAL);
    }
    return -1;
}

static ssize_t io_all(enum io_way way, int fd, unsigned char *at, size_t bytes, off_t offset) {
    size_t done = 0;
    while (done < bytes) {
        size_t rest = bytes - done < io_most ? bytes - done : io_most;
        ssize_t moved = io_step(way, fd, at + done, rest, offset + (off_t)done);
        if (moved < 0 && errno == EINTR) continue;
        if (moved < 0) return -1;
        if (moved == 0) break;
        done += (size_t)moved;
    }
    return (ssize_t)done;
}

ssize_t io_read(int fd, void *into, size_t bytes) {
    return io_all(IO_READ, fd, into, bytes, 0);
}

ssize_t io_read_at(int fd, void *into, size_t bytes, off_t offset) {
    return io_all(IO_READ_AT, fd, into, bytes, offset);
}

// A write of zero bytes for a non-empty request never ends well; call it a full disk.
static bool io_wrote(ssize_t done, size_t bytes) {
    if (done >= 0 && (size_t)done < bytes) errno = ENOSPC;
    return done >= 0 && (size_t)done == bytes;
}

bool io_write(int fd, const void *from, size_t bytes) {
    return io_wrote(io_all(IO_WRITE, fd, (unsigned char *)(size_t)from, bytes, 0), bytes);
}

bool io_write_at(int fd, const void *from, size_t bytes, off_t offset) {
    return io_wrote(io_all(IO_WRITE_AT, fd, (unsigned char *)(size_t)from, bytes, offset), bytes);
}

bool io_send(int socket, const void *from, size_t bytes) {
    return io_wrote(io_all(IO_SEND, socket, (unsigned char *)(size_t)from, bytes, 0), bytes);
}
