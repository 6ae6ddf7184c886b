/* SPDX-License-Identifier: MIT */
/* under_filter.c: starts a program under a filter that refuses one system call.    usage: under_filter CALL
 *     ERRNO COMMAND... */
#include "../../../core/tests/filter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int number;
    } calls[] = {
        {"membarrier", SYS_membarrier},
        {"madvise", SYS_madvise},
        {"mremap", SYS_mremap},
        {"mprotect", SYS_mprotect},
        {"mincore", SYS_mincore},
        {"munlock", SYS_munlock},
        {"clone", SYS_clone},
        {"prctl", SYS_prctl},
        {"sched_getaffinity", SYS_sched_getaffinity},
        {"sysinfo", SYS_sysinfo},
        {"openat", SYS_openat},
        {"clock_nanosleep", SYS_clock_nanosleep},
    };
    int number = 0;
    for (size_t i = 0; argc > 3 && i < sizeof calls / sizeof calls[0]; i++)
        if (strcmp(calls[i].name, argv[1]) == 0) number = calls[i].number;
    if (!number) {
        fprintf(stderr, "usage: under_filter CALL ERRNO COMMAND...\n");
        return 2;
    }
    unsigned refused = SECCOMP_RET_ERRNO | ((unsigned)atoi(argv[2]) & SECCOMP_RET_DATA);
    struct filter filter = {0};
    filter_calls(&filter, &number, 1, refused, SECCOMP_RET_ALLOW);
    if (!filter_install(&filter)) return 77;
    execvp(argv[3], argv + 3);
    return 127;
}
