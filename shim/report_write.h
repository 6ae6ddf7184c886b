/* SPDX-License-Identifier: MIT */
/* report_write.h: writes at a program's exit into a file or descriptor that somebody else has named, without
 * harm to the program. */
#ifndef ZP_SHIM_REPORT_WRITE_H
#define ZP_SHIM_REPORT_WRITE_H

#include <stddef.h>

/* Appends text to a file, which is made if there is none. Refused: what is no regular file, belongs to
 * another user than the effective one, has other names, or is reached through a symbolic link. NULL, or why
 * it was not written. */
const char *report_append(const char *path, const char *text, size_t length)
    __attribute__((visibility("hidden")));

/* For files of more than a line: opens such a file, emptied; NULL and the descriptor, or why not. Then pieces
 * of the text; NULL, or why it was not written. */
const char *report_replace(const char *path, int *fd) __attribute__((visibility("hidden")));
const char *report_piece(int fd, const char *text, size_t length) __attribute__((visibility("hidden")));

/* Writes text to an open descriptor. No SIGPIPE comes of it, and a pipe or socket that nobody reads is given
 * up after a second. NULL, or why it was not written, or not all of it. */
const char *report_write(int fd, const char *text, size_t length) __attribute__((visibility("hidden")));

#endif
