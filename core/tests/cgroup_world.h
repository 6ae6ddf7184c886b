/* SPDX-License-Identifier: MIT */
/* cgroup_world.h: control groups and files of /proc that a test makes up, in a mount namespace of its own.
 * For a child (run_child). */
#ifndef ZP_TESTS_CGROUP_WORLD_H
#define ZP_TESTS_CGROUP_WORLD_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

#define WORLD "/sys/fs/cgroup"
#define NOT_ALLOWED 77

static inline bool world_write(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return false;
    bool good = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return good;
}

/* An empty world, but for /proc/self/cgroup, which is WORLD/self from now on. False where mounting is not
 * allowed. */
static inline bool world_make(void) {
    char own[64];
    snprintf(own, sizeof own, "/proc/%d/cgroup", (int)getpid());
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", WORLD, "tmpfs", 0, NULL) == 0 && world_write(WORLD "/self", "") &&
           mount(WORLD "/self", own, NULL, MS_BIND, NULL) == 0;
}

/* Let WORLD/NAME stand for a file of /proc. */
static inline bool world_replace(const char *path, const char *name, const char *text) {
    char file[128];
    snprintf(file, sizeof file, WORLD "/%s", name);
    return world_write(file, text) && mount(file, path, NULL, MS_BIND, NULL) == 0;
}

static inline int wrong(const char *what, size_t got) {
    fprintf(stderr, "%s: %zu\n", what, got);
    return 1;
}

/* Run a test's body in a child: it returns 0, NOT_ALLOWED, or 1 after saying on stderr what is wrong. */
static inline void world_run(int (*body)(void *)) {
    struct child_result result = run_child(body, NULL);
    if (result.exit_status == NOT_ALLOWED) cr_skip_test("mounting is not allowed here");
    cr_assert_eq(result.exit_status, 0, "signal %d, %s", result.signal, result.text);
}

#endif
