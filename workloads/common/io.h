// SPDX-License-Identifier: MIT
// Whole reads and writes: short transfers and EINTR are the rule on sockets and possible on files.
#ifndef WORKLOADS_IO_H
#define WORKLOADS_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

// read(2) until `bytes` are there. Returns the number read: less only at end of file, -1 with errno on error.
ssize_t io_read(int fd, void *into, size_t bytes);

// write(2) everything. False with errno on error.
bool io_write(int fd, const void *from, size_t bytes);

// pread/pwrite counterparts, for files shared by several threads.
ssize_t io_read_at(int fd, void *into, size_t bytes, off_t offset);
bool io_write_at(int fd, const void *from, size_t bytes, off_t offset);

// send(2) everything without SIGPIPE.
bool io_send(int socket, const void *from, size_t bytes);

#endif
