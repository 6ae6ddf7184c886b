/* SPDX-License-Identifier: MIT */
/* namespaces.c: a program that imports unshare and setns, which the kernel refuses to a process with two
 * threads. */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>

static void busy(void) {
    warm_up();
    free(get_filled(40 * MIB));
    usleep(50000);
}

static void namespaces(void) {
    busy();
    printf("user namespace: %s\n", unshare(CLONE_NEWUSER) ? strerror(errno) : "ok");
    printf("mount namespace: %s\n", unshare(CLONE_NEWNS) ? strerror(errno) : "ok");
    int fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    printf("the same again: %s\n", fd < 0 || setns(fd, CLONE_NEWNS) ? strerror(errno) : "ok");
    if (fd >= 0) close(fd);
    busy();
}

static const struct test_case cases[] = {{"namespaces", namespaces}, {NULL, NULL}};

int main(int argc, char **argv) {
    return run_case(cases, argc, argv);
}
