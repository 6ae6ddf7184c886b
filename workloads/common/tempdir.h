// SPDX-License-Identifier: MIT
// A temporary directory that is gone afterwards: on return, on failure, and on INT, TERM, HUP, QUIT or a
// crash.
#ifndef WORKLOADS_TEMPDIR_H
#define WORKLOADS_TEMPDIR_H

#include <stddef.h>

// mkdtemp below $TMPDIR (or /tmp); installs the signal handlers. Exits with FAIL_RUN when it cannot.
void tempdir_create(void);

// Create and open (read-write) the file of this kind ('a' to 'z') and number. Files of a kind are numbered 0,
// 1, 2... without gaps. Call it only before other threads start: that is what keeps removal free of races.
int tempdir_new_file(char kind, unsigned number);

// Open an existing one; any thread.
int tempdir_open_file(char kind, unsigned number, int flags);

// Remove files and directory; idempotent, async-signal-safe.
void tempdir_remove(void);

// A nameless file in $TMPDIR (or /tmp): nothing to remove, whatever happens.
int tempdir_nameless_file(void);

#endif
