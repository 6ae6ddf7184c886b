// SPDX-License-Identifier: MIT
// Exit codes of the workloads, and the one way to end early from any thread.
#ifndef WORKLOADS_FAIL_H
#define WORKLOADS_FAIL_H

#include <stddef.h>

enum fail_code {
    FAIL_NONE = 0,  // contents intact, all I/O succeeded
    FAIL_RUN = 1,   // corruption, I/O failure or out of memory
    FAIL_USAGE = 2, // the command line was wrong
};

// Prefix of every message; call it first, single-threaded. `name` must live for ever.
void fail_set_program(const char *name);
const char *fail_program(void);

// Something to undo before the process ends (the temporary directory). At most one; async-signal-safe.
void fail_set_cleanup(void (*cleanup)(void));

// From now on failing threads wait in silence: the process is about to die from a signal, and what they
// stumble over (files that are gone) must not replace that. Async-signal-safe.
void fail_silence(void);

// Print "program: message" to stderr, clean up and leave with `code`. Any thread; only the first caller is
// heard, because one overlap shows up in several threads and the first report is the useful one.
_Noreturn void fail_exit(enum fail_code code, const char *format, ...) __attribute__((format(printf, 2, 3)));

// The same with strerror(errno) appended.
_Noreturn void fail_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The allocator returned NULL.
_Noreturn void fail_memory(const char *call, size_t bytes);

#endif
