/* SPDX-License-Identifier: MIT */
/* tasks.c: what others see of a process's tasks: signals to each of them, places that a limit leaves, calls
 * that want one task. usage: tasks HOW NUMBER... */
#include "invisible.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static sem_t answered;

static void answer(int signal) {
    sem_post(&answered);
}

static void *sleeper(void *unused) {
    for (;;)
        pause();
    return NULL;
}

static void *user(void *unused) {
    use_once(8 * MIB);
    return NULL;
}

/* Some that stay, some that have used memory and ended. */
static void have_threads(size_t n_staying, size_t n_ended) {
    pthread_t thread;
    for (size_t i = 0; i < n_staying; i++)
        if (pthread_create(&thread, NULL, sleeper, NULL)) exit(2);
    for (size_t i = 0; i < n_ended; i++)
        if (pthread_create(&thread, NULL, user, NULL) || pthread_join(thread, NULL)) exit(2);
}

static void use_much(void) {
    use_once(64 * MIB);
    use_blocks(64, 2);
    usleep(300000);
}

/* STAYING ENDED: every task that the system names gets a signal and is waited for. */
static int signals(char **a) {
    signal(SIGUSR1, answer);
    sem_init(&answered, 0, 0);
    have_threads(number(a, 0), number(a, 1));
    use_much();
    alarm(8);
    DIR *folder = opendir("/proc/self/task");
    size_t n_own = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        int task = atoi(entry->d_name);
        if (task <= 0 || syscall(SYS_tgkill, getpid(), task, SIGUSR1)) continue;
        while (sem_wait(&answered))
            continue;
        n_own++;
    }
    closedir(folder);
    say("each task answered", n_own > number(a, 0));
    return 0;
}

/* As signals, from a child process, and the handler runs in the task that was meant. */
static volatile int answered_by;
static void answer_with_name(int signal) {
    answered_by = (int)syscall(SYS_gettid);
}

static int signals_from_outside(char **a) {
    signal(SIGUSR1, answer_with_name);
    have_threads(number(a, 0), number(a, 1));
    use_much();
    alarm(8);
    char path[64];
    int parent = getpid();
    snprintf(path, sizeof path, "/proc/%d/task", parent);
    DIR *folder = opendir(path);
    for (struct dirent *entry; (entry = readdir(folder));) {
        int task = atoi(entry->d_name), child;
        if (task <= 0) continue;
        answered_by = 0;
        if ((child = fork()) == 0) {
            syscall(SYS_tgkill, parent, task, SIGUSR1);
            _exit(0);
        }
        while (waitpid(child, NULL, 0) < 0)
            continue;
        while (answered_by != task)
            usleep(1000);
    }
    closedir(folder);
    puts("each task answered by itself");
    return 0;
}

static size_t n_tasks(void) {
    return status_of(getpid(), "Threads");
}

/* ENDED BLOCKS: how many tasks does the process have, at once and after a moment? */
static int count(char **a) {
    size_t most = 0;
    have_threads(0, number(a, 0));
    for (int i = 0; i < 20; i++) {
        use_blocks(number(a, 1), 1);
        if (n_tasks() > most) most = n_tasks();
        usleep(50000);
    }
    report("tasks", (double)most);
    return 0;
}

/* STAYING ENDED: the task that the library may have beside threads is one. */
static int count_with_threads(char **a) {
    size_t most = 0;
    have_threads(number(a, 0), number(a, 1));
    for (int i = 0; i < 20; i++) {
        use_blocks(32, 1);
        if (n_tasks() > most) most = n_tasks();
        usleep(50000);
    }
    report("tasks", (double)(most - number(a, 0)));
    return 0;
}

/* Calls that the kernel refuses to a process with more than one task; they reach us without a symbol of their
 * name. */
static int unshares(char **a) {
    have_threads(0, number(a, 0));
    use_much();
    static const struct {
        const char *name;
        int flags;
    } wanted[] = {{"mount", CLONE_NEWNS},
                  {"user", CLONE_NEWUSER},
                  {"thread", CLONE_THREAD},
                  {"handlers", CLONE_SIGHAND},
                  {"memory", CLONE_VM}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        int child = fork();
        if (child == 0) {
            use_once(64 * MIB);
            usleep(200000);
            _exit(syscall(SYS_unshare, wanted[i].flags) != 0);
        }
        int status;
        waitpid(child, &status, 0);
        say(wanted[i].name, status == 0);
    }
    say("in the parent", syscall(SYS_unshare, CLONE_NEWUSER) == 0);
    return 0;
}

/* A user namespace is joined, which a process with two tasks may not. */
static int joins(char **a) {
    int child = fork(), pipe_ends[2], status;
    char path[64];
    if (pipe(pipe_ends)) return 2;
    if (child == 0) {
        pause();
        _exit(0);
    }
    use_much();
    int inner = fork();
    if (inner == 0) {
        close(pipe_ends[0]);
        if (syscall(SYS_unshare, CLONE_NEWUSER)) _exit(1);
        if (write(pipe_ends[1], "x", 1) != 1) _exit(1);
        pause();
    }
    close(pipe_ends[1]);
    char byte;
    bool there = read(pipe_ends[0], &byte, 1) == 1;
    snprintf(path, sizeof path, "/proc/%d/ns/user", inner);
    int space = open(path, O_RDONLY);
    say("setns", there && space >= 0 && syscall(SYS_setns, space, CLONE_NEWUSER) == 0);
    kill(inner, SIGKILL);
    kill(child, SIGKILL);
    waitpid(inner, &status, 0);
    return 0;
}

/* All places up to N are taken by threads, or by processes. */
static int fill_places(size_t n, bool by_processes) {
    size_t i = 1;
    for (; i < n; i++) {
        pthread_t thread;
        if (by_processes) {
            int child = fork();
            if (child < 0) break;
            if (child == 0) {
                pause();
                _exit(0);
            }
        } else if (pthread_create(&thread, NULL, sleeper, NULL)) {
            break;
        }
    }
    printf("%zu of %zu places\n", i, n);
    fflush(stdout);
    signal(SIGTERM, SIG_IGN);
    if (by_processes) kill(0, SIGTERM);
    return i != n;
}

/* N EARLIER ENDED PROCESSES: the group of the process has N places; EARLIER threads are there before memory
 * is used. */
static int places(char **a) {
    size_t n = number(a, 0), n_earlier = number(a, 1);
    have_threads(n_earlier, number(a, 2));
    use_much();
    return fill_places(n - n_earlier, number(a, 3));
}

/* The same where RLIMIT_NPROC of another user is the limit. */
static int user_places(char **a) {
    uid_t user = 200000 + (uid_t)getpid();
    struct rlimit limit = {number(a, 0), number(a, 0)};
    if (setgroups(0, NULL) || setresgid(user, user, user)) return 77;
    if (setrlimit(RLIMIT_NPROC, &limit) || setresuid(user, user, user)) return 77;
    return places(a);
}

int main(int argc, char **argv) {
    static const struct named cases[] = {{"signals", signals},
                                         {"signals-from-outside", signals_from_outside},
                                         {"count", count},
                                         {"count-with-threads", count_with_threads},
                                         {"unshares", unshares},
                                         {"joins", joins},
                                         {"places", places},
                                         {"user-places", user_places},
                                         {NULL, NULL}};
    int status = run_named(cases, argv);
    fflush(stdout);
    _exit(status);
}
