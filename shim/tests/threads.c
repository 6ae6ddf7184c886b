/* SPDX-License-Identifier: MIT */
/* threads.c: threads that end while others free their blocks, children whose threads come first, handlers
 * that allocate in a storm. usage: threads CASE */
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

/* --- one thread allocates and ends, another frees --- */

#define N_SLOTS 64
static _Atomic(void *) slots[N_SLOTS];
static const size_t slot_sizes[4] = {40 * KIB, 200 * KIB, MIB, 9 * MIB};

static void hand_over(size_t slot, void *p) {
    void *old = atomic_exchange(&slots[slot], p);
    if (!old) return;
    CHECK(stamped(old, slot_sizes[slot % 4], slot_sizes[slot % 4], slot));
    free(old);
}

static void *short_lived(void *seed) {
    uint64_t rng = (uintptr_t)seed;
    for (int i = 0; i < 10; i++) {
        size_t slot = rng_range(&rng, 0, N_SLOTS - 1), n = slot_sizes[slot % 4];
        void *p = get(n);
        CHECK(p);
        stamp(p, n, slot);
        hand_over(slot, p);
    }
    return NULL;
}

static size_t resident_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    size_t size = 0, resident = 0;
    CHECK(file && fscanf(file, "%zu %zu", &size, &resident) == 2);
    fclose(file);
    return resident * 4096;
}

static int exit_while_others_free(void) {
    size_t after_first = 0;
    for (int i = 0; i < 1500; i++) {
        pthread_t threads[4];
        for (int t = 0; t < 4; t++)
            CHECK(pthread_create(&threads[t], NULL, short_lived, (void *)(uintptr_t)(i * 4 + t + 1)) == 0);
        for (int t = 0; t < 4; t++)
            CHECK(pthread_join(threads[t], NULL) == 0);
        if (i == 300) after_first = resident_bytes();
    }
    size_t end = resident_bytes();
    CHECK(end < after_first + after_first / 4 + 32 * MIB); /* 6000 threads have left nothing behind */
    for (size_t slot = 0; slot < N_SLOTS; slot++)
        hand_over(slot, NULL);
    return 0;
}

/* --- fork --- */

static void *use_in_child(void *barrier) {
    pthread_barrier_wait(barrier);
    for (int i = 0; i < 30; i++) {
        size_t n = (size_t)(i % 6 + 1) * 300 * KIB;
        char *p = get(n), *q = calloc(1, n);
        CHECK(p && q && all_zero(q, n));
        stamp(p, n, 1);
        p = realloc(p, 3 * n);
        CHECK(p && stamped(p, n, n, 1));
        free(p);
        free(q);
    }
    return NULL;
}

/* The child's threads come to the pool all at once, before anything of it has been repaired. */
static int threads_in_the_child(void) {
    free(get(MIB));
    time_t enough = time(NULL) + 30; /* fewer children where page faults are slow */
    for (int f = 0; f < 100 && (f < 10 || time(NULL) < enough); f++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(20);
            pthread_t threads[4];
            pthread_barrier_t barrier;
            pthread_barrier_init(&barrier, NULL, 4);
            for (int t = 0; t < 4; t++)
                CHECK(pthread_create(&threads[t], NULL, use_in_child, &barrier) == 0);
            for (int t = 0; t < 4; t++)
                pthread_join(threads[t], NULL);
            _exit(0);
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    return 0;
}

/* The last thread ends by the raw system call, not by exit_group: the process must be gone with it. */
static int raw_exit(void) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        memset(get(64 * MIB), 1, 64 * MIB);
        usleep(50000); /* whatever works in the background is at work */
        syscall(SYS_exit, 7);
    }
    int status = 0;
    for (int i = 0; i < 50; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid) {
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
            return 0;
        }
        usleep(100000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    say("still there after 5 s\n");
    return 1;
}

/* --- signals --- */

static volatile sig_atomic_t n_handled;

static void handler(int number) {
    (void)number;
    int saved = errno;
    n_handled++;
    size_t n = (size_t)(n_handled % 60 + 4) * 10 * KIB;
    char *p = get(n);
    if (p) {
        stamp(p, n, 9);
        CHECK(stamped(p, n, n, 9));
        free(p);
    }
    signal_after_us(40);
    errno = saved;
}

/* Only large calls in the main flow: glibc's own malloc may not be interrupted by a handler that calls it. */
static int handlers_that_allocate(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    signal_after_us(40);
    uint64_t rng = 5;
    void *live[24] = {NULL};
    size_t sizes[24];
    while (n_handled < 20000) {
        size_t slot = rng_range(&rng, 0, 23);
        if (live[slot]) {
            CHECK(stamped(live[slot], sizes[slot], sizes[slot], slot));
            if (rng_next(&rng) % 3) {
                free(live[slot]);
                live[slot] = NULL;
                continue;
            }
            sizes[slot] = rng_range(&rng, 40 * KIB, 600 * KIB);
            live[slot] = realloc(live[slot], sizes[slot]);
        } else {
            sizes[slot] = rng_range(&rng, 40 * KIB, 600 * KIB);
            live[slot] = rng_next(&rng) % 2 ? get(sizes[slot]) : calloc(1, sizes[slot]);
        }
        CHECK(live[slot]);
        stamp(live[slot], sizes[slot], slot);
    }
    signal(SIGALRM, SIG_IGN); /* the last one may be under way */
    for (size_t slot = 0; slot < 24; slot++)
        free(live[slot]);
    return 0;
}

MAIN_OF_CASES(threads, {"exit-while-others-free", exit_while_others_free},
              {"threads-in-the-child", threads_in_the_child}, {"raw-exit", raw_exit},
              {"handlers-that-allocate", handlers_that_allocate})
