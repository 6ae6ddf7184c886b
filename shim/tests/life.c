/* SPDX-License-Identifier: MIT */
/* life.c: calls at every moment of a program's and a thread's life: before constructors, after destructors,
 * in TLS destructors, with an emptied environment and closed descriptors. usage: life CASE */
#include "check.h"
#include "early_lib.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>

static void *from_constructor;
static size_t constructor_size;

__attribute__((constructor(101))) static void first(void) {
    constructor_size = 7 * MIB;
    from_constructor = get(constructor_size);
    if (from_constructor) stamp(from_constructor, constructor_size, 7);
    void *p = NULL;
    if (posix_memalign(&p, 1 << 16, MIB) == 0) free(p);
}

static int early(void) {
    CHECK(from_constructor && stamped(from_constructor, constructor_size, constructor_size, 7));
    free(from_constructor);
    early_check_and_free();
    return 0;
}

/* What libraries do before the shim's own constructor must not cost the program its background thread. */
static int decay_after_early_use(void) {
    early_check_and_free();
    free(from_constructor);
    char *p = get(100 * MIB);
    memset(p, 1, 100 * MIB);
    free(p);
    size_t size = 0, resident = 0;
    for (int i = 0; i < 80; i++) {
        usleep(100000);
        FILE *file = fopen("/proc/self/statm", "r");
        CHECK(file && fscanf(file, "%zu %zu", &size, &resident) == 2);
        fclose(file);
        if (resident * 4096 < 30 * MIB) return 0;
    }
    say("still resident after 8 s\n");
    return 1;
}

/* --- the end --- */

static void *for_exit[4];

static void at_exit_handler(void) {
    for (int i = 0; i < 4; i++) {
        CHECK(stamped(for_exit[i], MIB << i, MIB << i, (uint64_t)i));
        free(for_exit[i]);
        for_exit[i] = get(MIB << i);
        CHECK(for_exit[i]);
        stamp(for_exit[i], MIB << i, (uint64_t)i);
    }
}

__attribute__((destructor(101))) static void last(void) {
    for (int i = 0; i < 4; i++) {
        if (!for_exit[i]) return;
        CHECK(stamped(for_exit[i], MIB << i, MIB << i, (uint64_t)i));
        free(for_exit[i]);
    }
    void *p = calloc(1, 9 * MIB);
    CHECK(p && all_zero(p, 9 * MIB));
    free(p);
}

static int late(void) {
    for (int i = 0; i < 4; i++) {
        for_exit[i] = get(MIB << i);
        stamp(for_exit[i], MIB << i, (uint64_t)i);
    }
    void *p = get(3 * MIB);
    stamp(p, 3 * MIB, 42);
    early_keep(p);
    CHECK(atexit(at_exit_handler) == 0);
    exit(0); /* handlers, destructors here, then those of early_lib */
}

/* The case "late" from outside: the child's destructors must have said their line. */
static int late_seen(void) {
    int ends[2];
    char text[200] = "";
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl("/proc/self/exe", "life", "late", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    for (size_t used = 0; used < sizeof text - 1;) {
        ssize_t n = read(ends[0], text + used, sizeof text - 1 - used);
        if (n <= 0) break;
        used += (size_t)n;
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    say(text);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(strcmp(text, "late calls work\n") == 0);
    return 0;
}

/* --- threads --- */

static pthread_key_t key;
static _Atomic int n_destroyed;

/* Run as long as the value comes back: glibc makes four rounds, in one of which the shim's own cache is given
 * up. */
static void destroy(void *value) {
    CHECK(stamped(value, 300 * KIB, 300 * KIB, 5));
    free(value);
    void *big = get(20 * MIB), *small = get(60 * KIB);
    CHECK(big && small);
    stamp(small, 60 * KIB, 6);
    free(big);
    CHECK(stamped(small, 60 * KIB, 60 * KIB, 6));
    free(small);
    if (++n_destroyed % 4) {
        void *again = get(300 * KIB);
        stamp(again, 300 * KIB, 5);
        pthread_setspecific(key, again);
    }
}

extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;

static void destroy_cxx(void *value) {
    CHECK(stamped(value, 5 * MIB, 5 * MIB, 8));
    free(value);
    free(get(MIB));
}

static void *thread_with_destructors(void *ignored) {
    (void)ignored;
    void *value = get(300 * KIB), *cxx = get(5 * MIB);
    stamp(value, 300 * KIB, 5);
    stamp(cxx, 5 * MIB, 8);
    CHECK(pthread_setspecific(key, value) == 0);
    CHECK(__cxa_thread_atexit_impl(destroy_cxx, cxx, &__dso_handle) == 0);
    free(get(40 * KIB));
    return NULL;
}

static int tls_destructors(void) {
    CHECK(pthread_key_create(&key, destroy) == 0);
    for (int i = 0; i < 200; i++) {
        pthread_t threads[4];
        for (int t = 0; t < 4; t++)
            CHECK(pthread_create(&threads[t], NULL, thread_with_destructors, NULL) == 0);
        for (int t = 0; t < 4; t++)
            CHECK(pthread_join(threads[t], NULL) == 0);
    }
    CHECK(n_destroyed >= 800);
    return 0;
}

static void *end_main_thread(void *main_thread) {
    pthread_join(*(pthread_t *)main_thread, NULL);
    for (int i = 0; i < 100; i++) {
        void *p = get((size_t)(i + 1) * 100 * KIB);
        CHECK(p);
        free(p);
    }
    _exit(0);
}

static int main_thread_ends_first(void) {
    static pthread_t self;
    pthread_t thread;
    self = pthread_self();
    free(get(64 * MIB)); /* enough to start whatever works in the background */
    CHECK(pthread_create(&thread, NULL, end_main_thread, &self) == 0);
    alarm(10);
    pthread_exit(NULL);
}

/* --- strange surroundings --- */

extern char **environ;

static int emptied_environment(void) {
    environ = NULL;
    for (int i = 0; i < 50; i++)
        free(get((size_t)(i + 1) * MIB));
    CHECK(getenv("PATH") == NULL);
    return 0;
}

static int closed_descriptors(void) {
    for (int fd = 0; fd < 20; fd++)
        close(fd);
    for (int i = 0; i < 50; i++) {
        char *p = get((size_t)(i + 1) * MIB);
        if (!p) _exit(1);
        memset(p, 1, MIB);
        free(p);
    }
    /* What opens now must get the lowest numbers: the library must not have taken any. */
    for (int fd = 0; fd < 4; fd++)
        if (open("/dev/null", O_RDWR) != fd) _exit(2);
    _exit(0);
}

MAIN_OF_CASES(life, {"early", early}, {"decay-after-early-use", decay_after_early_use}, {"late", late},
              {"late-seen", late_seen}, {"tls-destructors", tls_destructors},
              {"main-thread-ends-first", main_thread_ends_first},
              {"emptied-environment", emptied_environment}, {"closed-descriptors", closed_descriptors})
