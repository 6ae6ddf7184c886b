/* SPDX-License-Identifier: MIT */
/* fork_storm.c: sixteen threads fork at once while others use stdio and malloc; every child must come to its
 * end.
 *
 * A child allocates a thousand blocks, frees what its parent had allocated, writes through stdio and leaves,
 * every other one by exit(). A child or parent that hangs is ended by alarm(2), which shows in the counts
 * printed. */
#include "common.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#define N_THREADS 16
#define N_BLOCKS 1000
#define N_INHERITED 24
#define CHILD_SECONDS 60

static atomic_long n_left, n_bad;
static atomic_bool done;
static FILE *shared;

static size_t size_of(unsigned i) {
    /* Most small, some of the pool's, now and then a big one. */
    if (i % 100 == 7) return (1 + i % 5) * MIB;
    if (i % 4 == 1) return 32 * KIB + (i % 13) * 8 * KIB;
    return 16 + i % 500;
}

static void child(void **inherited, unsigned seed) {
    alarm(CHILD_SECONDS);
    static void *blocks[N_BLOCKS];
    for (unsigned i = 0; i < N_BLOCKS; i++) {
        size_t size = size_of(i + seed) & ~(size_t)7;
        blocks[i] = get(size < 16 ? 16 : size);
        if (!blocks[i]) _exit(3);
    }
    for (int i = 0; i < N_INHERITED; i++) {
        size_t size = size_of((unsigned)i) & ~(size_t)7;
        if (!good(inherited[i], size)) _exit(4);
        free(inherited[i]);
    }
    fprintf(shared, "child %u\n", seed);
    fflush(shared);
    for (unsigned i = 0; i < N_BLOCKS; i++) {
        size_t size = size_of(i + seed) & ~(size_t)7;
        if (!good(blocks[i], size < 16 ? 16 : size)) _exit(5);
        free(blocks[i]);
    }
    if (seed % 2) _exit(0);
    exit(0);
}

static void *forker(void *number) {
    unsigned seed = (unsigned)(size_t)number;
    while (atomic_fetch_sub(&n_left, 1) > 0) {
        void *inherited[N_INHERITED];
        for (int i = 0; i < N_INHERITED; i++)
            inherited[i] = get(size_of((unsigned)i) & ~(size_t)7);
        seed = seed * 7 + 1;
        pid_t pid = fork();
        if (pid == 0) child(inherited, seed);
        int status = -1;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
            atomic_fetch_add(&n_bad, 1);
            fprintf(stderr, "child ended with status 0x%x\n", (unsigned)status);
        }
        for (int i = 0; i < N_INHERITED; i++)
            free(inherited[i]);
    }
    return NULL;
}

/* Keeps the stdio and allocator locks busy at the moment of every fork. */
static void *noise(void *number) {
    unsigned i = (unsigned)(size_t)number;
    while (!atomic_load(&done)) {
        void *p = get((size_of(i++) | 64) & ~(size_t)7);
        fprintf(shared, "noise %u\n", i);
        if (i % 16 == 0) fflush(NULL);
        free(p);
        p = get(300 * KIB + (i % 7) * 100 * KIB);
        free(p);
        usleep(200);
    }
    return NULL;
}

int main(int argc, char **argv) {
    long n_forks = argc > 1 ? atol(argv[1]) : 100;
    atomic_store(&n_left, n_forks);
    shared = fopen("/dev/null", "w");
    alarm(argc > 2 ? (unsigned)atol(argv[2]) : 300);
    pthread_t threads[N_THREADS], noisy[2];
    for (size_t i = 0; i < 2; i++)
        pthread_create(&noisy[i], NULL, noise, (void *)i);
    for (size_t i = 0; i < N_THREADS; i++)
        pthread_create(&threads[i], NULL, forker, (void *)i);
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&done, true);
    for (int i = 0; i < 2; i++)
        pthread_join(noisy[i], NULL);
    printf("%ld forks, %ld bad\n", n_forks, atomic_load(&n_bad));
    return atomic_load(&n_bad) != 0;
}
