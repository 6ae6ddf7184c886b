/* SPDX-License-Identifier: MIT */
/* under_filter.c: starts a program under a filter that refuses one system call.    usage: under_filter CALL
 *     ERRNO COMMAND... */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        unsigned number;
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
    unsigned number = 0;
    for (size_t i = 0; argc > 3 && i < sizeof calls / sizeof calls[0]; i++)
        if (strcmp(calls[i].name, argv[1]) == 0) number = calls[i].number;
    if (!number) {
        fprintf(stderr, "usage: under_filter CALL ERRNO COMMAND...\n");
        return 2;
    }
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)atoi(argv[2]) & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return 77;
    execvp(argv[3], argv + 3);
    return 127;
}
