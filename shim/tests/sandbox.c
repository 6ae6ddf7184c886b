/* SPDX-License-Identifier: MIT */
/* sandbox.c: programs that put themselves under a seccomp filter, by prctl, as the library can see from their imports: before
 * their first large block or after, with a filter that kills or one that refuses.    usage: sandbox CASE */
#include "check.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static void cycles(size_t unit)
{
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

/* --- seccomp --- */

static void restrict_to_memory_calls(unsigned otherwise, bool all_threads)
{
    static const int allowed[] = {SYS_read, SYS_write, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap, SYS_brk,
                                  SYS_futex, SYS_exit, SYS_exit_group, SYS_rt_sigreturn, SYS_sigaltstack,
                                  SYS_clock_nanosleep};
    enum { N = sizeof allowed / sizeof allowed[0] };
    struct sock_filter code[N + 3];
    code[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < N; i++)
        code[i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i], (unsigned char)(N - i), 0);
    code[N + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise);
    code[N + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {N + 3, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) _exit(SKIP);
    if (all_threads ? syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program)
                    : prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(SKIP);
}

static int seccomp_after_use(void)
{
    cycles(MIB);
    restrict_to_memory_calls(SECCOMP_RET_KILL_PROCESS, false);
    cycles(MIB);
    cycles(5 * MIB); /* larger than anything so far: fresh memory, and looks at how it was used */
    _exit(0);
}

static int seccomp_before_use(void)
{
    void *volatile small = malloc(100); /* glibc itself asks for randomness once */
    free(small);
    restrict_to_memory_calls(SECCOMP_RET_KILL_PROCESS, false);
    cycles(MIB);
    cycles(5 * MIB);
    _exit(0);
}

static int seccomp_refusing(void)
{
    cycles(MIB);
    restrict_to_memory_calls(SECCOMP_RET_ERRNO | EPERM, false);
    cycles(5 * MIB);
    _exit(0);
}

/* A filter for all threads also reaches those that the program does not know of. */
static int seccomp_for_all_threads(void)
{
    cycles(8 * MIB);
    restrict_to_memory_calls(SECCOMP_RET_KILL_PROCESS, true);
    struct timespec second = {1, 100000000};
    nanosleep(&second, NULL);
    nanosleep(&second, NULL);
    cycles(MIB);
    _exit(0);
}

/* Strict mode allows read, write and the raw exit; exit_group is death. In a program started anew, since the children of one that
 * imports prctl have nothing in the background anyway. */
static int strict_child(void)
{
    memset(get(64 * MIB), 1, 64 * MIB);
    usleep(50000);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) _exit(SKIP);
    syscall(SYS_exit, 7);
    return 1;
}

static int seccomp_strict(void)
{
    int status = 0;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl("/proc/self/exe", "sandbox", "strict-child", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 50; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid) {
            CHECK(WIFEXITED(status));
            CHECK(WEXITSTATUS(status) == 7 || WEXITSTATUS(status) == SKIP);
            return WEXITSTATUS(status) == 7 ? 0 : SKIP;
        }
        usleep(100000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    say("still there after 5 s\n");
    return 1;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } cases[] = {{"seccomp-after-use", seccomp_after_use}, {"seccomp-before-use", seccomp_before_use},
                 {"seccomp-refusing", seccomp_refusing}, {"seccomp-for-all-threads", seccomp_for_all_threads},
                 {"seccomp-strict", seccomp_strict}, {"strict-child", strict_child}};
    require_shim();
    for (size_t i = 0; argc == 2 && i < sizeof cases / sizeof cases[0]; i++)
        if (strcmp(argv[1], cases[i].name) == 0) {
            int status = cases[i].run();
            if (status == SKIP) puts("not permitted here");
            return status;
        }
    say("usage: sandbox CASE\n");
    return 2;
}
