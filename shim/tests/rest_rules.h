/* SPDX-License-Identifier: MIT */
/* rest_rules.h: what the tests of waiting calls share. They run with the library and without it, and see the
 * same. */
#ifndef ZP_SHIM_TESTS_REST_RULES_H
#define ZP_SHIM_TESTS_REST_RULES_H

#include "check.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#define ROUNDS 200
/* So late may anything be on a machine that is busy with other things; and so late in half of all rounds. */
#define LATE_US 2000000
#define USUALLY_LATE_US 20000
/* So many of a test's timers may come before the wait begins, which misses them then. */
#define MISSED_MAX 2
#define AGAIN_S 1
/* No wait of a test ends by itself before that. */
#define LONG_S 100

static inline int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
static inline int64_t now_us(void) {
    return now_ns() / 1000;
}

static uint64_t random_state;

static inline uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

/* Up to 90 ms; half of them close to where the library's first round is. */
static inline int64_t random_us(void) {
    uint64_t x = random_next();
    return x & 1 ? 20000 + (int64_t)(x >> 1) % 7000 : 1000 + (int64_t)(x >> 1) % 90000;
}

/* Memory for the library to give back: from here on the calls wait in steps. */
static inline void make_idle(void) {
    const size_t n = 2 * MIB;
    char *p = get(n);
    CHECK(p);
    for (size_t at = 0; at < n; at += 4096)
        p[at] = 1;
    free(p);
}

static inline uint64_t mask_now(void) {
    sigset_t set;
    uint64_t word;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &set) == 0);
    memcpy(&word, &set, sizeof word);
    return word;
}

static inline void handle(int signal, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    CHECK(sigaction(signal, &action, NULL) == 0);
}

static inline void after_us(int64_t us) {
    /* Again, should it come before the wait begins. */
    struct itimerval timer = {.it_interval = {us ? AGAIN_S : 0, 0}, .it_value = {us / 1000000, us % 1000000}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static inline int compare_times(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* How late half of all children's ends are heard of in raw system calls: so busy is the machine. */
#define CONTROLS 30
static inline int64_t machine_delay_us(void) {
    int64_t delays[CONTROLS];
    volatile int64_t *ended_us = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(ended_us != MAP_FAILED);
    for (int i = 0; i < CONTROLS; i++) {
        long us = random_us();
        pid_t child = fork();
        if (child == 0) {
            syscall(SYS_nanosleep, &(struct timespec){.tv_nsec = us * 1000}, NULL);
            *ended_us = now_us();
            _exit(0);
        }
        make_idle(); /* who works gets his processor later */
        /* ECHILD: a handler, or the kernel, has taken it. */
        while (syscall(SYS_wait4, child, NULL, 0, NULL) != child && errno == EINTR)
            ;
        delays[i] = now_us() - *ended_us;
    }
    qsort(delays, CONTROLS, sizeof *delays, compare_times);
    return delays[CONTROLS / 2];
}

/* Nothing came too early, nothing far too late, and half of all in time, as far as the machine allows. */
static inline void check_late(const char *name, int64_t *late_us, size_t n) {
    qsort(late_us, n, sizeof *late_us, compare_times);
    int64_t half = late_us[n / 2], allowed = USUALLY_LATE_US;
    if (half > allowed) allowed += 2 * machine_delay_us();
    bool good = late_us[0] >= 0 && half <= allowed && late_us[n - 1] <= LATE_US;
    if (!good || getenv("ZP_VERBOSE"))
        fprintf(stderr, "%s: late by %lld, half %lld of %lld, at most %lld us\n", name, (long long)late_us[0],
                (long long)half, (long long)allowed, (long long)late_us[n - 1]);
    CHECK(good);
}

/* Runs each of n cases in a process of its own, so many at once, and says which failed. */
static inline int in_children(size_t n, size_t at_once, const char *(*name)(size_t), void (*run)(size_t)) {
    pid_t pids[64];
    CHECK(n <= 64);
    int n_failed = 0;
    for (size_t i = 0, done = 0; done < n;) {
        if (i < n && i < done + at_once) {
            if ((pids[i++] = fork()) != 0) continue;
            random_state = 0x9e3779b97f4a7c15u * i ^ (uint64_t)getpid();
            run(i - 1);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(pids[done], &status, 0) == pids[done]);
        printf("%s: %s\n", name(done++), status ? "failed" : "ok");
        n_failed += status != 0;
    }
    return n_failed != 0;
}

#endif
