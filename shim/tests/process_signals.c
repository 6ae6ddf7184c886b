/* SPDX-License-Identifier: MIT */
/* process_signals.c: each task answers the signals sent to it, the background thread among them, and those of
 * the process go to the program's threads. usage: process_signals CASE */
#include "process_tasks.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>

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

MAIN_OF_CASES(process_signals, {"every-task-answers", every_task_answers},
              {"the-process-keeps-its-signals", the_process_keeps_its_signals})
