/* SPDX-License-Identifier: MIT */
/* sandbox.c: programs under a seccomp filter: their own, before their first large block or after, for one
 * thread or all, one that kills or one that refuses; one that they are started under; and calls that install
 * none. usage: sandbox CASE */
#include "../../core/tests/filter.h"
#include "check.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

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

/* --- seccomp --- */

#define CALLS_MAX 64

/* What malloc needs, and the end of a program. */
static const int memory_calls[] = {SYS_write,      SYS_mmap,         SYS_munmap,         SYS_mprotect,
                                   SYS_madvise,    SYS_brk,          SYS_futex,          SYS_exit,
                                   SYS_exit_group, SYS_rt_sigreturn, SYS_clock_nanosleep};
/* What exec, the loader, the C library's start and pthread_create need. */
static const int loader_calls[] = {SYS_execve,          SYS_openat,          SYS_read,     SYS_pread64,
                                   SYS_close,           SYS_newfstatat,      SYS_fstat,    SYS_arch_prctl,
                                   SYS_set_tid_address, SYS_set_robust_list, SYS_rseq,     SYS_prlimit64,
                                   SYS_getrandom,       SYS_access,          SYS_readlink, SYS_clone3,
                                   SYS_rt_sigprocmask,  SYS_rt_sigaction};
/* What a pool might like to ask, and services may not: most of it is not in systemd's @system-service. */
static const int service_lacks[] = {
    SYS_mincore,       SYS_pkey_mprotect, SYS_mbind,       SYS_capset, SYS_sched_setscheduler,
    SYS_sysinfo,       SYS_membarrier,    SYS_sched_yield, SYS_getcpu, SYS_sched_getaffinity,
    SYS_mlock,         SYS_munlock,       SYS_mremap,      SYS_gettid, SYS_get_mempolicy,
    SYS_rt_sigpending, SYS_clock_gettime, SYS_clone};

/* The calls of the list are treated in one way, all others in the other; but the C library's realloc, which
 * serves what the pool refuses, may move a mapping. */
static void install_filter(const int *calls, size_t n, unsigned listed, unsigned otherwise,
                           bool all_threads) {
    static const struct sock_filter moving[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mremap, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MREMAP_MAYMOVE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct filter filter = {0};
    for (size_t i = 0; i < sizeof moving / sizeof moving[0]; i++)
        filter_add(&filter, moving[i]);
    filter_calls(&filter, calls, n, listed, otherwise);
    struct sock_fprog program = filter_program(&filter);
    bool installed = all_threads ? prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                                       syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                               SECCOMP_FILTER_FLAG_TSYNC, &program) == 0
                                 : filter_install(&filter);
    if (!installed) _exit(SKIP);
}

static void restrict_to_memory_calls(unsigned otherwise, bool all_threads) {
    install_filter(memory_calls, FILTER_LENGTH(memory_calls), SECCOMP_RET_ALLOW, otherwise, all_threads);
}

/* --- threads that allocate until the process ends --- */

enum { N_THREADS = 4 };
static _Atomic int n_working, n_done;
static _Atomic bool filtered;

static void *works(void *seed) {
    cycles(MIB);
    n_working++;
    while (!filtered)
        free(get(3 * MIB));
    cycles((size_t)seed * MIB + MIB);
    for (size_t size = 1; size < 64 * MIB; size = size * 3 / 2 + 1)
        for (int i = 0; i < 3; i++) {
            char *p = get(size), *q = calloc(1, size), *r = memalign(4096, size);
            CHECK(p && q && r);
            p[size / 2] = 1, r[size - 1] = 1;
            q = realloc(q, size + size / 4);
            free(r);
            free(p);
            free(q);
        }
    n_done++;
    for (;;)
        usleep(100000); /* a thread that ends makes more calls */
    return seed;
}

static void start_threads(void) {
    pthread_t thread;
    for (size_t i = 0; i < N_THREADS; i++)
        CHECK(pthread_create(&thread, NULL, works, (void *)i) == 0);
    while (n_working < N_THREADS)
        usleep(1000);
}

static void finish_threads(void) {
    filtered = true;
    while (n_done < N_THREADS)
        usleep(1000);
}

static int seccomp_after_use(void) {
    cycles(MIB);
    restrict_to_memory_calls(SECCOMP_RET_KILL_PROCESS, false);
    cycles(MIB);
    cycles(5 * MIB); /* larger than anything so far: fresh memory, and looks at how it was used */
    _exit(0);
}

static int seccomp_before_use(void) {
    void *volatile small = malloc(100); /* glibc itself asks for randomness once */
    free(small);
    restrict_to_memory_calls(SECCOMP_RET_KILL_PROCESS, false);
    cycles(MIB);
    cycles(5 * MIB);
    _exit(0);
}

static int seccomp_refusing(void) {
    cycles(MIB);
    restrict_to_memory_calls(SECCOMP_RET_ERRNO | EPERM, false);
    cycles(5 * MIB);
    _exit(0);
}

/* A filter for all threads also reaches those that the program does not know of. */
static int seccomp_for_all_threads(void) {
    start_threads();
    cycles(8 * MIB);
    restrict_to_memory_calls(SECCOMP_RET_KILL_PROCESS, true);
    finish_threads();
    cycles(MIB);
    _exit(0);
}

/* Under another filter from the first instruction on. */
static int inherited_child(void) {
    start_threads();
    cycles(MIB);
    cycles(5 * MIB);
    finish_threads();
    _exit(0);
}

static int run_inherited(const int *calls, size_t n, unsigned listed, unsigned otherwise) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        install_filter(calls, n, listed, otherwise, false);
        execl("/proc/self/exe", "sandbox", "inherited-child", (char *)NULL);
        _exit(127);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int seccomp_inherited(void) {
    int calls[CALLS_MAX];
    memcpy(calls, memory_calls, sizeof memory_calls);
    memcpy(calls + FILTER_LENGTH(memory_calls), loader_calls, sizeof loader_calls);
    return run_inherited(calls, FILTER_LENGTH(memory_calls) + FILTER_LENGTH(loader_calls), SECCOMP_RET_ALLOW,
                         SECCOMP_RET_KILL_PROCESS);
}

static int seccomp_service(void) {
    return run_inherited(service_lacks, FILTER_LENGTH(service_lacks), SECCOMP_RET_KILL_PROCESS,
                         SECCOMP_RET_ALLOW);
}

/* Attempts that cannot succeed change nothing: the background thread, which goes before each, comes back. */
static int seccomp_probes(void) {
    start_threads();
    char *p = get(64 * MIB);
    usleep(100000);
    CHECK(n_threads() == N_THREADS + 2);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) == -1 && errno == EFAULT);
    CHECK(n_threads() == N_THREADS + 1);
    errno = 0;
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, NULL) == -1 &&
          errno == EFAULT);
    CHECK(syscall(SYS_prctl, PR_SET_SECCOMP, 77, NULL) == -1 && errno == EINVAL);
    usleep(1100000);
    for (int i = 0; i < 50 && n_threads() < N_THREADS + 2; i++) {
        free(get((size_t)(i % 7 + 1) * 3 * MIB));
        usleep(20000);
    }
    CHECK(n_threads() == N_THREADS + 2);
    free(p);
    _exit(0);
}

/* Strict mode allows read, write and the raw exit; exit_group is death. */
static int strict_child(void) {
    memset(get(64 * MIB), 1, 64 * MIB);
    usleep(50000);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) _exit(SKIP);
    syscall(SYS_exit, 7);
    return 1;
}

static int seccomp_strict(void) {
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

MAIN_OF_CASES(sandbox, {"seccomp-after-use", seccomp_after_use}, {"seccomp-before-use", seccomp_before_use},
              {"seccomp-refusing", seccomp_refusing}, {"seccomp-for-all-threads", seccomp_for_all_threads},
              {"seccomp-inherited", seccomp_inherited}, {"seccomp-service", seccomp_service},
              {"seccomp-probes", seccomp_probes}, {"inherited-child", inherited_child},
              {"seccomp-strict", seccomp_strict}, {"strict-child", strict_child})
