/* SPDX-License-Identifier: MIT */
/* process.c: what a program sees of the background thread: how many tasks there are, and whether forks,
 * threads and namespaces are refused because of it. process_signals.c has who answers signals. usage: process
 * CASE */
#include "../../core/tests/filter.h"
#include "process_tasks.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static bool becomes(unsigned n, int within_ms) {
    for (int ms = 0; n_threads() != n; ms += 20) {
        if (ms > within_ms) return false;
        pause_ms(20);
    }
    return true;
}

/* --- how many --- */

static int one_thread_one_task(void) {
    for (int i = 0; i < 5; i++) {
        free(use_much());
        CHECK(n_threads() == 1);
    }
    return 0;
}

/* With several threads it comes; when they have ended it leaves, and does not come and go with short ones. */
static int comes_and_leaves_with_threads(void) {
    pthread_t thread = start_sleeper();
    void *kept = use_much();
    CHECK(n_threads() == 3);
    end_sleeper(thread);
    CHECK(becomes(1, 4000));
    free(kept);
    unsigned n_seen = 0;
    for (int i = 0; i < 20; i++) {
        free(use_much());
        n_seen += n_threads() > 1;
    }
    CHECK(n_seen == 0);
    return 0;
}

/* Asked for in a process with one thread: gone when the fork is over, as those want it who count. */
static int fork_finds_one_task(void) {
    free(use_much());
    CHECK(n_threads() == 2);
    pid_t pid = fork();
    unsigned n = n_threads();
    if (pid == 0) _exit(n == 1 ? 0 : 1);
    CHECK(n == 1);
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    pause_ms(1100);
    free(use_much());
    CHECK(n_threads() == 2);
    return 0;
}

/* A descriptor for where we are: the kernel still looks whether there is one thread. */
static int namespaces_by_every_way(void) {
    if (geteuid() != 0) return SKIP;
    for (int way = 0; way < 4; way++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (way == 3) CHECK(unshare(CLONE_NEWUSER) == 0);
            free(use_much());
            CHECK(n_threads() == 2);
            int fd = open("/proc/self/ns/time", O_RDONLY | O_CLOEXEC);
            if (way == 0 && unshare(CLONE_NEWUSER)) _exit(errno == EINVAL ? 1 : SKIP);
            if (way == 1 && syscall(SYS_unshare, CLONE_NEWUSER)) _exit(errno == EINVAL ? 1 : SKIP);
            if (way == 2 && fd >= 0 && setns(fd, 0)) _exit(errno == EUSERS ? 1 : SKIP);
            if (way == 3 && fd >= 0 && syscall(SYS_setns, fd, 0) && errno == EUSERS) _exit(1);
            CHECK(n_threads() == 1);
            _exit(0);
        }
        int status = -1;
        CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
        if (WEXITSTATUS(status) == SKIP) continue;
        CHECK(status == 0);
    }
    return 0;
}

/* --- room --- */

/* The last place that a user, or a control group, has. */
static int gives_up_its_place(void) {
    pthread_t thread = start_sleeper();
    void *kept = use_much();
    CHECK(n_threads() == 3);
    if (geteuid() != 0) return SKIP;
    char folder[100], path[140], text[40];
    for (int v2 = 0; v2 < 2; v2++) {
        snprintf(folder, sizeof folder, "/sys/fs/cgroup%s/zeropool-process-%d", v2 ? "" : "/pids", getpid());
        if (mkdir(folder, 0755) == 0) break;
        if (v2) return SKIP;
    }
    const char *const names[] = {"cgroup.procs", "pids.max"};
    bool good = true;
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        snprintf(text, sizeof text, "%d", i ? 3 : getpid());
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        good &= fd >= 0 && write(fd, text, strlen(text)) > 0;
        close(fd);
    }
    pthread_t more;
    int error = good ? pthread_create(&more, NULL, sleeper, NULL) : 0;
    unsigned n = n_threads();
    pthread_t one_more;
    int too_much = good ? pthread_create(&one_more, NULL, sleeper, NULL) : EAGAIN;
    /* Out of the group, or it cannot be removed. */
    char *parent = strrchr(folder, '/');
    *parent = '\0';
    snprintf(path, sizeof path, "%s/cgroup.procs", folder);
    *parent = '/';
    snprintf(text, sizeof text, "%d", getpid());
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool left = fd >= 0 && write(fd, text, strlen(text)) > 0;
    close(fd);
    for (int i = 0; i < 50 && rmdir(folder); i++)
        pause_ms(20);
    CHECK(left);
    if (!good) return SKIP;
    CHECK(error == 0 && n == 3 && too_much == EAGAIN);
    sem_post(&over); /* wakes either of the two */
    end_sleeper(thread);
    pthread_join(more, NULL);
    free(kept);
    return 0;
}

/* --- who we are --- */

static size_t resident_bytes(void) {
    /* In a foreign /proc, /proc/self is right. */
    FILE *file = fopen("/proc/self/statm", "r");
    size_t size = 0, resident = 0;
    CHECK(file && fscanf(file, "%zu %zu", &size, &resident) == 2);
    fclose(file);
    return resident * 4096;
}

/* How many tasks have been made since `from`, a task number in this namespace? */
static pid_t newest_task(void) {
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    CHECK(pid > 0 && waitpid(pid, NULL, 0) == pid);
    return pid;
}

/* A user of a namespace for processes whose /proc is its parent's: numbers there are other processes'. */
static int under_a_foreign_proc(void) {
    if (geteuid() != 0 || syscall(SYS_unshare, CLONE_NEWPID)) return SKIP;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(setgid(65534) == 0 && setuid(65534) == 0);
        prctl(PR_SET_DUMPABLE, 0); /* its files in /proc are root's then */
        pthread_t thread = start_sleeper();
        pid_t before = newest_task();
        char *p = get(200 * MIB);
        memset(p, 1, 200 * MIB);
        free(p);
        p = get(10 * MIB);
        memset(p, 1, 10 * MIB);
        for (int i = 0; i < 100 && resident_bytes() > 40 * MIB; i++)
            pause_ms(100);
        CHECK(resident_bytes() <= 40 * MIB);
        pid_t after = newest_task();
        CHECK(after - before <= 3); /* itself, ours, and one more */
        free(p);
        end_sleeper(thread);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    return 0;
}

static int changed_user(void) {
    if (geteuid() != 0) return SKIP;
    pthread_t thread = start_sleeper();
    void *kept = use_much();
    CHECK(n_threads() == 3);
    CHECK(setgid(65534) == 0);
    CHECK(becomes(2, 3000));
    pause_ms(1100);
    free(kept);
    end_sleeper(thread);
    return 0;
}

/* --- the main thread has left --- */

static long raw(long number, long a, long b, long c) {
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

/* Nothing is asked of the kernel for a thread that cannot be had any more: death for who blocks signals or
 * asks for its number. */
static void *outlives_main(void *ignored) {
    pause_ms(300);
    static const int calls[] = {SYS_rt_sigprocmask, SYS_getpid};
    struct filter filter = {0};
    filter_calls(&filter, calls, FILTER_LENGTH(calls), SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ALLOW);
    struct sock_fprog program = filter_program(&filter);
    /* Past the C library, so that the library does not take itself for restricted. */
    if (raw(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0) ||
        raw(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (long)&program))
        _exit(SKIP);
    for (size_t i = 0; i < 2000; i++) {
        void *p = get((i % 37 + 1) * MIB), *q = get(i % 11 * MIB + 300000);
        free(p);
        free(q);
    }
    _exit(0);
    return ignored;
}

static int after_the_main_thread(void) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        pthread_t thread;
        free(get(64 * MIB));
        free(get(3 * MIB));
        CHECK(pthread_create(&thread, NULL, outlives_main, NULL) == 0);
        pthread_exit(NULL);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

MAIN_OF_CASES(process, {"one-thread-one-task", one_thread_one_task},
              {"comes-and-leaves-with-threads", comes_and_leaves_with_threads},
              {"fork-finds-one-task", fork_finds_one_task},
              {"namespaces-by-every-way", namespaces_by_every_way},
              {"gives-up-its-place", gives_up_its_place}, {"under-a-foreign-proc", under_a_foreign_proc},
              {"changed-user", changed_user}, {"after-the-main-thread", after_the_main_thread})
