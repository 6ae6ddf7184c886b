/* SPDX-License-Identifier: MIT */
/* namespaces.c: programs that enter namespaces or run at their limit of processes after using large blocks:
 * whatever works in the background must not be in their way. Imports no prctl on purpose: sandbox.c does.
 * usage: namespaces CASE */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void cycles(size_t unit) {
    for (size_t i = 1; i <= 8; i++) {
        size_t n = i * unit;
        char *p = get(n), *q = calloc(1, n);
        CHECK(p && q);
        memset(p, 1, n);
        CHECK(all_zero(q, n));
        memset(q, 1, n);
        p = realloc(p, 2 * n);
        CHECK(p && p[n - 1] == 1);
        free(q);
        p = realloc(p, n / 2);
        free(p);
        q = calloc(1, n + n / 2);
        CHECK(all_zero(q, n + n / 2));
        free(q);
    }
}

/* May this process do it at all? Asked in a child that has not allocated anything. */
static bool permitted(int flags) {
    int status;
    pid_t pid = fork();
    if (pid == 0) _exit(unshare(flags) ? 1 : 0);
    return waitpid(pid, &status, 0) == pid && status == 0;
}

static int user_namespace_after_large_blocks(void) {
    if (!permitted(CLONE_NEWUSER)) return SKIP;
    cycles(8 * MIB);
    usleep(50000);
    CHECK(unshare(CLONE_NEWUSER) == 0);
    return 0;
}

static int first_child_in_a_pid_namespace(void) {
    if (!permitted(CLONE_NEWUSER | CLONE_NEWPID)) return SKIP;
    CHECK(unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0);
    cycles(8 * MIB);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) _exit(getpid() == 1 ? 0 : 3); /* nobody else may be the first process there */
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    return 0;
}

/* --- rights --- */

static int count_threads(void) {
    DIR *directory = opendir("/proc/self/task");
    int n = 0;
    CHECK(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        n += entry->d_name[0] != '.';
    closedir(directory);
    return n;
}

/* Who gives up being root must not find a thread of root's left in the process. */
static int dropped_user(void) {
    if (geteuid() != 0) return SKIP;
    cycles(8 * MIB);
    if (setgid(65534) || setuid(65534)) return SKIP;
    for (int i = 0; i < 30 && count_threads() > 1; i++)
        usleep(100000);
    CHECK(count_threads() == 1);
    cycles(MIB);
    return 0;
}

/* --- process limits --- */

static int no_more_processes(void) {
    /* Root is not bound by the limit. */
    if (geteuid() == 0 && (setgid(65534) || setuid(65534))) return SKIP;
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_NPROC, &none)) return SKIP;
    errno = 0;
    if (fork() >= 0) _exit(SKIP); /* both parent and child */
    cycles(8 * MIB);
    cycles(8 * MIB);
    return 0;
}

MAIN_OF_CASES(namespaces, {"user-namespace", user_namespace_after_large_blocks},
              {"pid-namespace", first_child_in_a_pid_namespace}, {"dropped-user", dropped_user},
              {"no-more-processes", no_more_processes})
