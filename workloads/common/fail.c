// SPDX-License-Identifier: MIT
// Ending early: one message, one cleanup, one exit status, whichever thread found the trouble.
//
// The process leaves by _exit: other threads are still inside malloc or blocked in sockets, and running exit
// handlers below them would turn a clear message into a hang.
#include "fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *fail_name = "workload";
static void (*fail_cleanup)(void);
static atomic_flag fail_started = ATOMIC_FLAG_INIT;

void fail_set_program(const char *name) {
    fail_name = name;
}

const char *fail_program(void) {
    return fail_name;
}

void fail_set_cleanup(void (*cleanup)(void)) {
    fail_cleanup = cleanup;
}

void fail_silence(void) {
    atomic_flag_test_and_set(&fail_started);
}

static _Noreturn void fail_leave(enum fail_code code, const char *reason, const char *format, va_list args) {
    // A second failing thread waits here for the first one's _exit.
    while (atomic_flag_test_and_set(&fail_started))
        pause();

    // A fixed buffer and write(2): the heap may be the very thing that is broken.
    char line[512];
    int used = snprintf(line, sizeof line, "%s: ", fail_name);
    used += vsnprintf(line + used, sizeof line - (size_t)used, format, args);
    if (reason != NULL && used < (int)sizeof line)
        used += snprintf(line + used, sizeof line - (size_t)used, ": %s", reason);
    if (used > (int)sizeof line - 2) used = (int)sizeof line - 2;
    line[used++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)used);
    (void)ignored;

    if (fail_cleanup != NULL) fail_cleanup();
    _exit(code);
}

void fail_exit(enum fail_code code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail_leave(code, NULL, format, args);
}

void fail_errno(const char *format, ...) {
    char reason[128];
    const char *text = strerror_r(errno, reason, sizeof reason);
    va_list args;
    va_start(args, format);
    fail_leave(FAIL_RUN, text, format, args);
}

void fail_memory(const char *call, size_t bytes) {
    fail_exit(FAIL_RUN, "out of memory: %s of %zu bytes failed", call, bytes);
}
