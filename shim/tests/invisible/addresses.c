/* SPDX-License-Identifier: MIT */
/* addresses.c: under a limit of addresses or data, blocks are taken until none is left and freed: what works
 * then without the library? usage: addresses as|data LIMIT_MIB BLOCK_KIB HOW */
#include "invisible.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

static size_t limit_bytes;

static void *nothing(void *unused) {
    return NULL;
}

static void exhaust(size_t block) {
    size_t most = limit_bytes / block + 1, n = 0;
    char **blocks = calloc(most, sizeof *blocks);
    while (n < most && (blocks[n] = get(block)))
        *blocks[n++] = 1;
    while (n)
        free(blocks[--n]);
    free(blocks);
}

/* Eight threads with stacks of 8 MiB at once. */
static void threads(void) {
    pthread_t thread[8];
    int n = 0;
    while (n < 8 && pthread_create(&thread[n], NULL, nothing, NULL) == 0)
        n++;
    for (int i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    say("8 threads", n == 8);
}

static size_t __attribute__((noinline)) deep(size_t n) {
    volatile char part[4096];
    part[n & 4095] = 1;
    return n ? deep(n - 1) + (size_t)part[n & 4095] : 0;
}

static void stack(void) {
    say("6 MiB of stack", deep(1500) == 1500);
}

static void mapping(void) {
    void *p = mmap(NULL, limit_bytes / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("a mapping of half the limit", p != MAP_FAILED);
    void *q = p == MAP_FAILED ? MAP_FAILED : mremap(p, limit_bytes / 2, limit_bytes / 4 * 3, MREMAP_MAYMOVE);
    say("grown to three quarters", q != MAP_FAILED);
}

static void library(void) {
    say("dlopen", dlopen("libresolv.so.2", RTLD_NOW) != NULL);
    say("dlopen of another",
        dlopen("libnss_files.so.2", RTLD_NOW) != NULL || dlopen("libanl.so.1", RTLD_NOW) != NULL);
}

/* Two blocks grow in turns to three eighths of the limit each; then one of two fifths is asked for, and
 * refused or not. */
static void growth(void) {
    size_t end = limit_bytes / 8 * 3 / (2 * MIB) * (2 * MIB);
    char *a = get(MIB), *b = get(MIB);
    for (size_t n = 2 * MIB; n <= end && a && b; n += 2 * MIB) {
        a = realloc(a, n);
        b = realloc(b, n);
        if (a && b) a[n - 1] = b[n - 1] = 1;
    }
    say("two blocks of three eighths", a && b);
    say("a sixth beside them", get(limit_bytes / 6) != NULL);
}

static void blocks(void) {
    say("one block of half the limit", get(limit_bytes / 2) != NULL);
    say("a quarter, zeroed", calloc(1, limit_bytes / 4) != NULL);
}

static void small(void) {
    size_t n = limit_bytes / 2 / 1008, i = 0;
    while (i < n && get(1000))
        i++;
    say("half of the limit in small blocks", i == n);
}

static void child(void) {
    int pid = fork(), status = 1;
    if (pid == 0) {
        mapping();
        threads();
        _exit(0);
    }
    waitpid(pid, &status, 0);
    say("child", pid > 0 && status == 0);
}

/* A thread that grows its own stack of 64 MiB, mapped by the C library. */
static void *deep_thread(void *unused) {
    return (void *)deep(10000);
}

static void large_stack(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 * MIB);
    bool made = pthread_create(&thread, &attributes, deep_thread, NULL) == 0;
    if (made) pthread_join(thread, NULL);
    say("a thread with 64 MiB of stack", made);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } ways[] = {{"threads", threads}, {"stack", stack},   {"mapping", mapping},
                {"dlopen", library},  {"growth", growth}, {"blocks", blocks},
                {"small", small},     {"child", child},   {"large-stack", large_stack}};
    if (argc < 5) return 2;
    limit_bytes = number(argv, 2) * MIB;
    struct rlimit limit = {limit_bytes, limit_bytes};
    if (setrlimit(strcmp(argv[1], "as") == 0 ? RLIMIT_AS : RLIMIT_DATA, &limit)) return 77;
    if (number(argv, 3)) exhaust(number(argv, 3) * KIB);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (strcmp(ways[i].name, argv[4]) == 0) ways[i].run();
    fflush(stdout);
    _exit(0);
}
