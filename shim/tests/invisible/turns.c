/* SPDX-License-Identifier: MIT */
/* turns.c: memory that lies in the caches of many threads, while they work and when they rest.
 * usage: turns HOW THREADS KIB [ROUNDS] */
#include "invisible.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#ifdef IMPORTS
/* Programs that import these may forbid system calls, so that the library knows less about sleeping threads.
 */
void *volatile imported[] = {(void *)prctl, (void *)syscall};
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t all_hold, all_done;
static size_t n_threads, size, turn, n_turns;
static bool by_calloc, by_realloc;
/* Whose turn it is: order[turn % n_threads]. */
static size_t *order;
static size_t (*size_of)(size_t thread);

static size_t same_size(size_t thread) {
    return size;
}
/* Sizes of a quarter to seven quarters. */
static size_t mixed_size(size_t thread) {
    return size / 4 * (1 + thread % 7);
}

static void use(size_t n) {
    if (by_calloc) {
        void *p = calloc(1, n);
        KEEP(p);
        free(touch_each(p, n, PAGE));
    } else if (by_realloc) {
        void *p = get_touched(n / 3);
        p = realloc(p, n);
        free(touch_each(p, n, PAGE));
    } else {
        use_once(n);
    }
}

/* One thread at a time uses a block and frees it; threads never end. */
static void *one_at_a_time(void *me) {
    size_t mine = (size_t)me;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (turn >= n_turns || order[turn % n_threads] != mine)
            pthread_cond_wait(&turned, &lock);
        use(size_of(mine));
        turn++;
        pthread_cond_broadcast(&turned);
    }
    return NULL;
}

static void *together(void *me) {
    void *p = get_touched(size_of((size_t)me));
    pthread_barrier_wait(&all_hold);
    free(p);
    pthread_barrier_wait(&all_done);
    pause();
    return NULL;
}

/* One use each without waking the others: 2000 threads would spend their time in that. */
static void *once(void *me) {
    pthread_mutex_lock(&lock);
    use(size_of((size_t)me));
    turn++;
    pthread_cond_signal(&turned);
    pthread_mutex_unlock(&lock);
    pause();
    return NULL;
}

static void start(void *(*work)(void *)) {
    pthread_attr_t small_stack;
    pthread_t thread;
    pthread_attr_init(&small_stack);
    pthread_attr_setstacksize(&small_stack, 256 * KIB);
    for (size_t i = 0; i < n_threads; i++)
        if (pthread_create(&thread, &small_stack, work, (void *)i)) exit(2);
}

static void take_turns(void) {
    pthread_mutex_lock(&lock);
    start(one_at_a_time);
    while (turn < n_turns)
        pthread_cond_wait(&turned, &lock);
    pthread_mutex_unlock(&lock);
}

static void shuffle(void) {
    uint64_t state = 7;
    for (size_t i = n_threads - 1; i > 0; i--) {
        size_t other = rng_next(&state) % (i + 1), was = order[i];
        order[i] = order[other];
        order[other] = was;
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    const char *how = argv[1];
    n_threads = number(argv, 2);
    size = number(argv, 3) * KIB;
    n_turns = n_threads * (argc > 4 ? number(argv, 4) : 2);
    order = malloc(n_threads * sizeof *order);
    for (size_t i = 0; i < n_threads; i++)
        order[i] = i;
    by_calloc = strcmp(how, "calloc") == 0;
    by_realloc = strcmp(how, "realloc") == 0;
    size_of = strncmp(how, "mixed", 5) == 0 ? mixed_size : same_size;
    if (strcmp(how, "shuffled") == 0) shuffle();
    if (strcmp(how, "together") == 0 || strcmp(how, "mixed-together") == 0) {
        pthread_barrier_init(&all_hold, NULL, (unsigned)n_threads);
        pthread_barrier_init(&all_done, NULL, (unsigned)n_threads + 1);
        start(together);
        pthread_barrier_wait(&all_done);
    } else if (strcmp(how, "once") == 0) {
        start(once);
        pthread_mutex_lock(&lock);
        while (turn < n_threads)
            pthread_cond_wait(&turned, &lock);
        pthread_mutex_unlock(&lock);
    } else {
        take_turns();
    }
    rest_and_report();
    _exit(0);
}
