/* SPDX-License-Identifier: MIT */
/* busy.c: children that a process forks while its other threads allocate and free all the time.
 * usage: busy THREADS CHILDREN KIB [from-thread|threads-in-child] */
#include "invisible.h"

#include <pthread.h>
#include <sys/wait.h>

static size_t n_children, size;
static bool threads_in_child;

static void *allocate_for_ever(void *seed) {
    uint64_t state = (uint64_t)(uintptr_t)seed;
    void *held[8] = {NULL};
    for (;;) {
        uint64_t random = rng_next(&state);
        size_t i = random & 7;
        free(held[i]);
        held[i] = get(270000 + (random >> 8) % 900000);
    }
    return NULL;
}

struct seen {
    double us, pooled;
};

/* What the pair costs once warm, and whether the pool serves it. */
static void *measure(void *result) {
    struct seen *seen = result;
    const int n_rounds = 50;
    void *p = get_touched(size);
    seen->pooled = in_pool(p);
    free(p);
    use_once(size);
    double start = clock_us(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < n_rounds; i++)
        use_once(size);
    seen->us = (clock_us(CLOCK_THREAD_CPUTIME_ID) - start) / n_rounds;
    return NULL;
}

static int by_us(const void *a, const void *b) {
    double x = ((const struct seen *)a)->us, y = ((const struct seen *)b)->us;
    return (x > y) - (x < y);
}

static void *fork_them(void *unused) {
    struct seen *all = calloc(n_children, sizeof *all);
    double without = 0, worst_without = 0;
    for (size_t i = 0; i < n_children; i++) {
        int ends[2];
        if (pipe(ends)) exit(2);
        int pid = fork();
        if (pid == 0) {
            struct seen seen = {0, 0};
            pthread_t thread;
            alarm(20);
            if (threads_in_child)
                pthread_create(&thread, NULL, measure, &seen), pthread_join(thread, NULL);
            else
                measure(&seen);
            if (write(ends[1], &seen, sizeof seen) != (ssize_t)sizeof seen) _exit(1);
            _exit(0);
        }
        close(ends[1]);
        if (read(ends[0], &all[i], sizeof all[i]) != (ssize_t)sizeof all[i]) exit(3);
        close(ends[0]);
        waitpid(pid, NULL, 0);
        if (!all[i].pooled) without++;
        if (!all[i].pooled && all[i].us > worst_without) worst_without = all[i].us;
    }
    qsort(all, n_children, sizeof *all, by_us);
    report("without-pool", without);
    report("median-us", all[n_children / 2].us);
    report("ninth-tenth-us", all[n_children * 9 / 10].us);
    report("worst-without-us", worst_without);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t thread;
    if (argc < 4) return 2;
    n_children = number(argv, 2);
    size = number(argv, 3) * KIB;
    threads_in_child = argc > 4 && strcmp(argv[4], "threads-in-child") == 0;
    use_once(16 * MIB);
    for (size_t i = 0; i < number(argv, 1); i++)
        pthread_create(&thread, NULL, allocate_for_ever, (void *)(i + 1));
    usleep(100000);
    if (argc > 4 && strcmp(argv[4], "from-thread") == 0) {
        pthread_create(&thread, NULL, fork_them, NULL);
        pthread_join(thread, NULL);
    } else {
        fork_them(NULL);
    }
    _exit(0);
}
