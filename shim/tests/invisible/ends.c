/* SPDX-License-Identifier: MIT */
/* ends.c: threads that end, and what their last calls leave behind.
 * usage: ends HOW THREADS KIB [AT_ONCE]     threads run one after the other, or AT_ONCE together */
#include "invisible.h"

#include <limits.h>
#include <pthread.h>

/* How compilers register destructors of C++ thread_local objects. */
extern int __cxa_thread_atexit_impl(void (*destroy)(void *), void *object, void *library);
extern void *__dso_handle;

static pthread_key_t key;
static size_t size;
static __thread int n_rounds;

/* Allocates and frees in every round, the last one too. */
static void use_each_round(void *round) {
    use_once(size);
    if ((size_t)round < PTHREAD_DESTRUCTOR_ITERATIONS) pthread_setspecific(key, (char *)round + 1);
}

/* The block itself is kept until the last round. */
static void free_in_last_round(void *block) {
    if (++n_rounds < PTHREAD_DESTRUCTOR_ITERATIONS)
        pthread_setspecific(key, block);
    else
        free(block);
}

static void free_it(void *block) {
    free(block);
}
static void use_it(void *unused) {
    use_once(size);
}

static void *by_rounds(void *unused) {
    pthread_setspecific(key, (void *)1);
    return NULL;
}
static void *by_last_round(void *unused) {
    pthread_setspecific(key, get_touched(size));
    return NULL;
}
static void *by_object(void *unused) {
    __cxa_thread_atexit_impl(free_it, get_touched(size), &__dso_handle);
    __cxa_thread_atexit_impl(use_it, NULL, &__dso_handle);
    return NULL;
}
/* Objects are destroyed first; the key's rounds come behind. */
static void *by_both(void *unused) {
    __cxa_thread_atexit_impl(free_it, get_touched(size), &__dso_handle);
    pthread_setspecific(key, (void *)1);
    return NULL;
}
/* The C library frees its own text when all destructors are done. */
static void *by_library(void *unused) {
    char *text = strerror(1000);
    KEEP(text);
    use_once(size);
    return NULL;
}
static void *by_nothing(void *unused) {
    use_once(size);
    return NULL;
}
static void *by_exit(void *unused) {
    pthread_setspecific(key, (void *)1);
    use_once(size);
    pthread_exit(NULL);
}
static void *by_cancel(void *unused) {
    pthread_setspecific(key, (void *)1);
    use_once(size);
    pause();
    return NULL;
}

static const struct way {
    const char *name;
    void *(*work)(void *);
    void (*destroy)(void *);
} ways[] = {{"rounds", by_rounds, use_each_round}, {"last-round", by_last_round, free_in_last_round},
            {"object", by_object, NULL},           {"object-and-rounds", by_both, use_each_round},
            {"library", by_library, NULL},         {"plain", by_nothing, NULL},
            {"exit", by_exit, use_each_round},     {"cancel", by_cancel, use_each_round}};

static void run_together(const struct way *way, size_t n) {
    pthread_t threads[64];
    for (size_t i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, way->work, NULL)) exit(2);
    for (size_t i = 0; i < n; i++) {
        if (way->work == by_cancel) pthread_cancel(threads[i]);
        pthread_join(threads[i], NULL);
    }
}

int main(int argc, char **argv) {
    const struct way *way = NULL;
    for (size_t i = 0; argc > 3 && i < sizeof ways / sizeof *ways; i++)
        if (strcmp(ways[i].name, argv[1]) == 0) way = &ways[i];
    if (!way) return 2;
    size_t n = number(argv, 2), at_once = argc > 4 ? number(argv, 4) : 1, done = 0;
    size = number(argv, 3) * KIB;
    if (at_once > 64) return 2;
    pthread_key_create(&key, way->destroy);
    use_once(16 * MIB);
    double early = 0;
    for (; done < n; done += at_once) {
        run_together(way, at_once);
        /* All that is made once is there by then. */
        if (early == 0 && done >= n / 100) early = (double)status_of(getpid(), "VmRSS") / 1024;
    }
    report("growth", (double)status_of(getpid(), "VmRSS") / 1024 - early);
    rest_and_report();
    return 0;
}
