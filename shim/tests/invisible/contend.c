/* SPDX-License-Identifier: MIT */
/* contend.c: many threads of which each takes and frees blocks of sizes of its own. Built with and without
 * references to functions by which a program may forbid system calls: that must not make waiting dearer.
 * usage: contend THREADS LEAST_KIB SPREAD_KIB MS */
#include "invisible.h"

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#ifdef IMPORT_PRCTL
void *volatile imported[] = {(void *)prctl};
#elif defined IMPORT_MORE
void *volatile imported[] = {(void *)prctl, (void *)syscall, (void *)unshare, (void *)setns};
#endif

static volatile int stop;
static size_t least, spread;
static size_t n_done[256];

static void *work(void *me) {
    uint64_t state = (uint64_t)(uintptr_t)me + 1;
    void *held[4] = {NULL};
    size_t n = 0;
    for (; !stop; n++) {
        uint64_t random = rng_next(&state);
        free(held[random & 3]);
        held[random & 3] = get(least + (random >> 8) % spread);
    }
    n_done[(size_t)me] = n;
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[256];
    size_t n = number(argv, 1), sum = 0;
    if (argc < 5 || n > 256) return 2;
    least = number(argv, 2) * KIB;
    spread = number(argv, 3) * KIB;
    free(get(64 * MIB));
    for (size_t i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i)) return 2;
    double start = clock_us(CLOCK_PROCESS_CPUTIME_ID);
    usleep((useconds_t)number(argv, 4) * 1000);
    stop = 1;
    double used_us = clock_us(CLOCK_PROCESS_CPUTIME_ID) - start;
    for (size_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL), sum += n_done[i];
    report("pairs-per-ms", (double)sum / (double)number(argv, 4));
    report("pairs-per-cpu-ms", (double)sum / (used_us / 1000));
    return 0;
}
