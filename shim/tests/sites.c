/* SPDX-License-Identifier: MIT */
/* sites.c: programs to be profiled by sites.py, which knows what they do. usage: sites CASE */
#include "check.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#define LARGE (100 * KIB)

/* In the caller itself, where its stack is looked for. */
#define get(n)                                                                                               \
    ({                                                                                                       \
        void *p_ = malloc(n);                                                                                \
        KEEP(p_);                                                                                            \
        p_;                                                                                                  \
    })

/* --- one call of each function, each from a function of its own --- */

#define FROM(name, call)                                                                                     \
    __attribute__((noinline)) void *from_##name(size_t n) {                                                  \
        void *p = call;                                                                                      \
        KEEP(p);                                                                                             \
        CHECK(p);                                                                                            \
        return p;                                                                                            \
    }
static void *posix_memaligned(size_t n) {
    void *p = NULL;
    CHECK(posix_memalign(&p, 64, n) == 0);
    return p;
}
FROM(malloc, malloc(n))
FROM(calloc, calloc(2, n / 2))
FROM(realloc, realloc(NULL, n))
FROM(reallocarray, reallocarray(NULL, 2, n / 2))
FROM(memalign, memalign(8192, n))
FROM(aligned_alloc, aligned_alloc(64, n))
FROM(posix_memalign, posix_memaligned(n))
FROM(valloc, valloc(n))
FROM(pvalloc, pvalloc(n))

static int family(void) {
    static void *(*const all[])(size_t) = {from_malloc,         from_calloc,   from_realloc,
                                           from_reallocarray,   from_memalign, from_aligned_alloc,
                                           from_posix_memalign, from_valloc,   from_pvalloc};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        errno = 77;
        memset(all[i](LARGE), 1, LARGE); /* the blocks stay */
        free(all[i](LARGE));
        free(all[i](100));
        CHECK(errno == 77);
    }
    /* What fails is no call. */
    errno = 0;
    CHECK(!get(SIZE_MAX / 2) && errno == ENOMEM);
    void *p = from_malloc(LARGE);
    CHECK(!realloc(p, SIZE_MAX / 2) && malloc_usable_size(p) >= LARGE);
    free(p);
    return 0;
}

/* --- what becomes of blocks --- */

static void *free_it(void *p) {
    free(p);
    return NULL;
}

static void rest(long ms) {
    nanosleep(&(struct timespec){0, ms * 1000000}, NULL);
}

__attribute__((noinline)) void *lives(void) {
    return get(MIB);
}
__attribute__((noinline)) void *passed_on(void) {
    return get(MIB);
}
__attribute__((noinline)) void *half_touched(void) {
    return memset(get(MIB), 1, MIB / 2);
}
__attribute__((noinline)) void *stays(void) {
    return get(3 * MIB);
}

static int fates(void) {
    for (int i = 0; i < 4; i++) {
        void *p = lives();
        rest(20);
        free(p);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, free_it, passed_on()) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    for (int i = 0; i < 2000; i++)
        free(half_touched());
    KEEP((void *){stays()});
    return 0;
}

/* The peak is two blocks of peak_a and one of peak_b, though each has more at other times. */
__attribute__((noinline)) void *peak_a(void) {
    return get(4 * MIB);
}
__attribute__((noinline)) void *peak_b(void) {
    return get(3 * MIB);
}

static int peak(void) {
    void *b[3] = {peak_b(), peak_b(), peak_b()};
    free(b[0]);
    free(b[1]);
    void *a[2] = {peak_a(), peak_a()}; /* 11 MiB */
    free(b[2]);
    void *more = peak_a() /* 12 MiB */, *last;
    free(a[0]);
    free(a[1]);
    last = peak_b();
    CHECK(more && last);
    return 0;
}

/* --- many threads --- */

enum { THREADS = 16, CALLS = 62500 };
static _Atomic(void *) shelf[64];

static void *work(void *argument) {
    uint64_t random = 88172645463325252u + (uintptr_t)argument * 7919;
    for (int i = 0; i < CALLS; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        size_t size = 32 * KIB + random % 16 * 4 * KIB;
        void *p = random >> 20 & 1 ? get(size) : calloc(1, size);
        CHECK(p);
        free(atomic_exchange(&shelf[random >> 32 & 63], p));
    }
    return NULL;
}

static int stress(void) {
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < 64; i++)
        free(shelf[i]);
    return 0;
}

/* --- more stacks and blocks than there is room for --- */

__attribute__((noinline)) int left(unsigned path, int depth);
__attribute__((noinline)) int right(unsigned path, int depth);

static int either(unsigned path, int depth) {
    if (depth == 0) {
        free(get(LARGE));
        return 1;
    }
    return path & 1 ? left(path >> 1, depth - 1) : right(path >> 1, depth - 1);
}
int left(unsigned path, int depth) {
    int result = either(path, depth);
    __asm__ volatile("" : "+r"(result));
    return result;
}
int right(unsigned path, int depth) {
    int result = either(path, depth);
    __asm__ volatile("" : "+r"(result));
    return result + 1;
}

static int many(void) {
    for (unsigned path = 0; path < 1 << 15; path++)
        left(path, 15);
    return 0;
}

static int crowd(void) {
    enum { N = 300000 };
    static void *blocks[N];
    for (int i = 0; i < N; i++)
        blocks[i] = get(64);
    for (int i = 0; i < N; i++)
        free(blocks[i]);
    return 0;
}

/* --- handlers, children --- */

static volatile sig_atomic_t n_handled;

static void handler(int number) {
    (void)number;
    n_handled++;
    free(get(LARGE));
}

static int handlers(void) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval often = {{0, 200}, {0, 200}};
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int i = 0; i < 20000 || n_handled < 100; i++)
        free(get(LARGE));
    return 0;
}

static int children(void) {
    free(from_malloc(LARGE));
    void *inherited = from_calloc(LARGE);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        free(inherited);
        free(from_memalign(LARGE));
        exit(0);
    }
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    pid = fork();
    if (pid == 0) {
        free(from_valloc(LARGE));
        execl("/proc/self/exe", "sites", "one", NULL);
        _exit(1);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    return 0;
}

static int one(void) {
    free(from_pvalloc(LARGE));
    puts("one");
    return 0;
}

/* The filter kills whoever asks about memory. */
static int filtered(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mincore, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_it, passed_on()) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    for (int i = 0; i < 100; i++)
        free(half_touched());
    return 0;
}

static int seven(void) {
    free(from_malloc(LARGE));
    puts("seven");
    return 7;
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"family", family},     {"fates", fates},       {"peak", peak},         {"stress", stress},
        {"many", many},         {"crowd", crowd},       {"filtered", filtered}, {"one", one},
        {"handlers", handlers}, {"children", children}, {"seven", seven},
    };
    return RUN_CASE("sites", cases);
}
