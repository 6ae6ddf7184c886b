/* SPDX-License-Identifier: MIT */
/* process.c: what a program sees of the background thread: how many tasks there are, who answers signals,
 * whether forks, threads and namespaces are refused because of it.    usage: process CASE */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) && errno == EINTR) {
    }
}

/* More than the background thread comes for, and it has time to come. */
static void *use_much(void) {
    char *p = get(64 * MIB);
    CHECK(p);
    memset(p, 1, 64 * MIB);
    for (size_t i = 0; i < 8; i++)
        free(get(i * MIB + MIB));
    pause_ms(100);
    return p;
}

static sem_t over;
static void *sleeper(void *ignored) {
    while (sem_wait(&over)) {
    }
    return ignored;
}

static pthread_t start_sleeper(void) {
    pthread_t thread;
    CHECK(sem_init(&over, 0, 0) == 0);
    CHECK(pthread_create(&thread, NULL, sleeper, NULL) == 0);
    return thread;
}

static void end_sleeper(pthread_t thread) {
    sem_post(&over);
    CHECK(pthread_join(thread, NULL) == 0);
}

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

/* --- signals --- */

static int answers[2];
static sem_t answered;
static __thread int counted = 40;
static __thread char buffer[3000];

static void answer(int signal) {
    (void)signal;
    pid_t id = (pid_t)syscall(SYS_gettid);
    errno = 0;
    counted += 2;
    memset(buffer, 1, sizeof buffer);
    void *volatile p = malloc(100); /* not allowed, and done */
    free(p);
    pthread_t self = pthread_self();
    if (counted != 42 || !pthread_equal(self, pthread_self()) ||
        write(answers[1], &id, sizeof id) != sizeof id)
        _exit(9);
    counted -= 2;
    sem_post(&answered);
}

static int send(int way, pid_t id) {
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    if (way == 0) return tgkill(getpid(), id, SIGUSR1);
    if (way == 1) return (int)syscall(SYS_tgkill, getpid(), id, SIGUSR1);
    if (way == 2) return (int)syscall(SYS_tkill, id, SIGUSR1);
    return (int)syscall(SYS_rt_tgsigqueueinfo, getpid(), id, SIGUSR1, &info);
}

static int ask_all(int way) {
    DIR *folder = opendir("/proc/self/task");
    int n = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        pid_t id = atoi(entry->d_name), said = 0;
        if (!id) continue;
        CHECK(send(way, id) == 0);
        struct pollfd ready = {answers[0], POLLIN, 0};
        struct timespec end;
        clock_gettime(CLOCK_REALTIME, &end);
        end.tv_sec += 5;
        int waited;
        while ((waited = sem_timedwait(&answered, &end)) && errno == EINTR) {
        }
        CHECK(waited == 0);
        while (poll(&ready, 1, 1000) < 0) {
        }
        CHECK(read(answers[0], &said, sizeof said) == sizeof said && said == id);
        n++;
    }
    closedir(folder);
    return n;
}

/* Each task runs the handler itself, with what handlers may rely on. */
static int every_task_answers(void) {
    CHECK(pipe(answers) == 0 && sem_init(&answered, 0, 0) == 0);
    signal(SIGUSR1, answer);
    pthread_t thread = start_sleeper();
    free(use_much());
    void *kept = use_much();
    CHECK(n_threads() == 3);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < 40; i++) {
        CHECK(ask_all(i % 4) == 3);
        if (i % 8 == 0) free(get(20 * MIB)); /* while it has something to do */
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double ms = (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) / 1e6;
    printf("%.1f ms to ask all\n", ms / 40);
    CHECK(ms / 40 < 200);
    free(kept);
    end_sleeper(thread);
    return 0;
}

static _Atomic pid_t taker;
static void note_taker(int signal) {
    (void)signal;
    taker = (pid_t)syscall(SYS_gettid);
}

/* Blocked by all threads of the program: it waits for them, also while the same signal is sent to our thread.
 */
static int the_process_keeps_its_signals(void) {
    signal(SIGUSR2, note_taker);
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    pthread_t thread = start_sleeper();
    void *kept = use_much();
    CHECK(n_threads() == 3);
    CHECK(kill(getpid(), SIGUSR2) == 0);
    pause_ms(1500);
    CHECK(taker == 0);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR2));
    /* The stranger among the tasks is the one that has nothing blocked away for good: it answers once, for
     * itself. */
    DIR *folder = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(folder));)
        if (atoi(entry->d_name)) tgkill(getpid(), atoi(entry->d_name), SIGUSR2);
    closedir(folder);
    for (int i = 0; i < 100 && !taker; i++)
        pause_ms(20);
    CHECK(taker && taker != getpid());
    taker = 0;
    pause_ms(300);
    CHECK(taker == 0);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR2));
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    CHECK(taker == getpid());
    free(kept);
    end_sleeper(thread);
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
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
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

int main(int argc, char **argv) {
    static const struct test_case cases[] = {{"one-thread-one-task", one_thread_one_task},
                                             {"comes-and-leaves-with-threads", comes_and_leaves_with_threads},
                                             {"fork-finds-one-task", fork_finds_one_task},
                                             {"namespaces-by-every-way", namespaces_by_every_way},
                                             {"every-task-answers", every_task_answers},
                                             {"the-process-keeps-its-signals", the_process_keeps_its_signals},
                                             {"gives-up-its-place", gives_up_its_place},
                                             {"under-a-foreign-proc", under_a_foreign_proc},
                                             {"changed-user", changed_user},
                                             {"after-the-main-thread", after_the_main_thread}};
    require_shim();
    int status = RUN_CASE("process", cases);
    if (status == SKIP) puts("not permitted here");
    return status;
}
