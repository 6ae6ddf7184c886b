/* SPDX-License-Identifier: MIT */
/* coverage.c: in builds with -Db_coverage=true, counters are written also by processes that do not end
 * through exit().
 *
 * libgcov writes them in a destructor, so children that leave by _exit, abort or another program's image
 * would count for nothing, and those are the ones that walk the odd paths. These definitions come before the
 * C library's in the search order. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void __gcov_dump(void);
extern void __gcov_reset(void);

#define EXPORT __attribute__((visibility("default")))

/* Reset as well: a process that goes on, or a parent whose memory a vfork child shares, writes the rest
 * later. */
static void dump(void) {
    int saved = errno;
    __gcov_dump();
    __gcov_reset();
    errno = saved;
}

EXPORT _Noreturn void _exit(int status) {
    dump();
    for (;;)
        syscall(SYS_exit_group, status);
}

EXPORT _Noreturn void _Exit(int status) {
    _exit(status);
}

EXPORT _Noreturn void abort(void) {
    sigset_t set;
    dump();
    sigemptyset(&set);
    sigaddset(&set, SIGABRT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(SIGABRT);
    signal(SIGABRT, SIG_DFL);
    raise(SIGABRT);
    for (;;)
        syscall(SYS_exit_group, 127);
}
