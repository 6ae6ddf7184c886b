/* SPDX-License-Identifier: MIT */
/* process_tasks.h: how a test brings the background thread: a second thread, and memory to give back. */
#ifndef ZP_SHIM_TESTS_PROCESS_TASKS_H
#define ZP_SHIM_TESTS_PROCESS_TASKS_H

#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

static inline void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) && errno == EINTR) {
    }
}

/* More than the background thread comes for, and it has time to come. */
static inline void *use_much(void) {
    char *p = get(64 * MIB);
    CHECK(p);
    memset(p, 1, 64 * MIB);
    for (size_t i = 0; i < 8; i++)
        free(get(i * MIB + MIB));
    pause_ms(100);
    return p;
}

static sem_t over;
static inline void *sleeper(void *ignored) {
    while (sem_wait(&over)) {
    }
    return ignored;
}

static inline pthread_t start_sleeper(void) {
    pthread_t thread;
    CHECK(sem_init(&over, 0, 0) == 0);
    CHECK(pthread_create(&thread, NULL, sleeper, NULL) == 0);
    return thread;
}

static inline void end_sleeper(pthread_t thread) {
    sem_post(&over);
    CHECK(pthread_join(thread, NULL) == 0);
}

#endif
