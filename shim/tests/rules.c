/* SPDX-License-Identifier: MIT */
/* rules.c: the rules of malloc that programs rely on; each case prints what it finds, the same with and
 * without the library. */
#include "reliability/common.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const size_t sizes[] = {1, 100, 4096, 32767, 32768, 65536, 300000, 1 << 20, 5000000, 40 << 20};
#define N_SIZES (sizeof sizes / sizeof sizes[0])

static void reallocs(void) {
    for (size_t i = 0; i < N_SIZES; i++)
        for (size_t j = 0; j < N_SIZES; j++) {
            unsigned char *p = hide(malloc(sizes[i]));
            memset(p, (int)(i + 1), sizes[i]);
            p = hide(realloc(p, sizes[j]));
            size_t kept = sizes[i] < sizes[j] ? sizes[i] : sizes[j], n_wrong = 0;
            for (size_t k = 0; k < kept; k++)
                n_wrong += p[k] != i + 1;
            memset(p, 0, sizes[j]);
            if (n_wrong) printf("%zu -> %zu: %zu bytes lost\n", sizes[i], sizes[j], n_wrong);
            free(p);
        }
    for (size_t i = 0; i < N_SIZES; i++) {
        char *p = hide(malloc(sizes[i]));
        memset(p, 7, sizes[i]);
        for (size_t k = 0; k < 5000; k += 999) {
            errno = 0;
            void *q = hide(realloc(p, SIZE_MAX - k));
            printf("%zu huge %d errno %d intact %d\n", sizes[i], q != NULL, errno,
                   p[0] == 7 && p[sizes[i] - 1] == 7);
        }
        size_t usable = malloc_usable_size(p);
        char *same = hide(realloc(p, usable));
        /* Above 32 MiB glibc itself may move, since it maps such blocks. */
        if (sizes[i] < 32 * MIB) printf("%zu growing to the usable size moves %d\n", sizes[i], same != p);
        printf("%zu to nothing %d\n", sizes[i], hide(realloc(same, 0)) != NULL);
    }
}

static void errors(void) {
    size_t too_much[] = {SIZE_MAX, SIZE_MAX - 4095, (size_t)PTRDIFF_MAX + 1, SIZE_MAX / 2};
    for (size_t i = 0; i < 4; i++) {
        errno = 0;
        void *p = hide(malloc(too_much[i]));
        printf("malloc %zu: %d errno %d\n", too_much[i], p != NULL, errno);
        errno = 0;
        p = hide(calloc(too_much[i] / 2, 4));
        printf("calloc: %d errno %d\n", p != NULL, errno);
        errno = 0;
        p = hide(reallocarray(NULL, too_much[i], 2));
        printf("reallocarray: %d errno %d\n", p != NULL, errno);
    }
    size_t alignments[] = {0, 1, 3, 8, 16, 24, 4096, 8192, 12288, 1 << 21, (size_t)1 << 62};
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++)
        for (size_t j = 0; j < N_SIZES; j++) {
            void *out = &out;
            int status = posix_memalign(&out, alignments[i], sizes[j]);
            printf("posix_memalign %zu %zu: %d left alone %d", alignments[i], sizes[j], status,
                   out == (void *)&out);
            if (!status) printf(" aligned %d", (uintptr_t)out % alignments[i] == 0), free(out);
            if (alignments[i] && !(alignments[i] & (alignments[i] - 1))) {
                out = hide(aligned_alloc(alignments[i], sizes[j]));
                printf(" aligned_alloc %d aligned %d", out != NULL, (uintptr_t)out % alignments[i] == 0);
                free(out);
            }
            puts("");
        }
    for (size_t i = 0; i < N_SIZES; i++) {
        void *p = hide(malloc(sizes[i]));
        errno = 1234;
        free(p);
        printf("errno after free %d\n", errno);
    }
}

static void zeroes(void) {
    size_t n_dirty = 0;
    for (int round = 0; round < 30; round++)
        for (size_t i = 4; i < N_SIZES; i++) {
            unsigned char *p = hide(calloc(1, sizes[i]));
            for (size_t k = 0; k < sizes[i]; k++)
                n_dirty += p[k] != 0;
            memset(p, 0xff, round % 3 ? sizes[i] : 4096);
            if (round % 4 == 1) p = hide(realloc(p, sizes[i] / 2));
            free(p);
        }
    printf("%zu bytes not zero\n", n_dirty);
}

static void *volatile last_words[8];
static void at_exit(void) {
    for (int i = 0; i < 8; i++) {
        free(last_words[i]);
        last_words[i] = hide(malloc(1 << 20));
    }
}

static char *early;
__attribute__((constructor(101))) static void before_everything(void) {
    early = get(100000);
}
__attribute__((destructor(101))) static void after_everything(void) {
    free(early);
    free(get(1 << 20));
}

static void ends(void) {
    printf("before main %d\n", good(early, 100000));
    atexit(at_exit);
    at_exit();
}

static pthread_key_t key;
static void *mailbox[8];
static void thread_ends(void *block) {
    free(block);
    free(get(300000));
}

static void *thread_main(void *slot) {
    pthread_setspecific(key, get(500000));
    for (int i = 0; i < 200; i++) {
        size_t *mine = get(40000 + (size_t)i * 1000);
        void *other = __atomic_exchange_n((void **)slot, mine, __ATOMIC_ACQ_REL);
        free(other);
    }
    return NULL;
}

static void threads(void) {
    pthread_key_create(&key, thread_ends);
    for (int round = 0; round < 20; round++) {
        pthread_t t[8];
        for (int i = 0; i < 8; i++)
            pthread_create(&t[i], NULL, thread_main, &mailbox[i / 2]);
        for (int i = 0; i < 8; i++)
            pthread_join(t[i], NULL);
    }
    for (int i = 0; i < 8; i++)
        free(mailbox[i]);
    puts("done");
}

static volatile int n_signals;
/* glibc alone crashes of that now and then, so not in the run without the library */
static int handler_allocates;

static void handler(int number) {
    (void)number;
    n_signals = n_signals + 1;
    /* not allowed by the standard; must not hang or corrupt all the same while we are inside malloc */
    if (handler_allocates) free(get(100000));
    signal_after_us(200);
}

static void storm(void) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    int n_bad = 0;
    const char *preloaded = getenv("LD_PRELOAD");
    handler_allocates = preloaded && strstr(preloaded, "zeropool");
    /* Only sizes that the pool serves: glibc itself deadlocks when a handler meets it in malloc. */
    signal_after_us(200);
    /* a fast run may be over before the timer has fired */
    for (int i = 0; i < 20000 || n_signals <= 3; i++) {
        size_t size = 40000 + (size_t)(i % 50) * 10000;
        void *p = get(size);
        n_bad += !good(p, size);
        free(p);
    }
    signal(SIGALRM, SIG_IGN); /* a timer may still be running */
    printf("%d bad, signals came %d\n", n_bad, n_signals > 3);
}

static void children(void) {
    size_t *held[20];
    for (int i = 0; i < 20; i++)
        held[i] = get(50000 + (size_t)i * 40000);
    for (int n = 0; n < 50; n++) {
        pid_t child = fork();
        if (child == 0) {
            int n_bad = 0;
            for (int i = 0; i < 20; i++) {
                n_bad += !good(held[i], 50000 + (size_t)i * 40000);
                free(held[i]);
            }
            for (int i = 0; i < 200; i++) {
                void *p = get(40000 + (size_t)i * 2000);
                n_bad += !good(p, 40000 + (size_t)i * 2000);
                free(p);
            }
            _exit(n_bad);
        }
        int status = -1; /* where fork is refused, too */
        waitpid(child, &status, 0);
        if (status) printf("child ends with %d\n", status);
    }
    for (int i = 0; i < 20; i++)
        free(held[i]);
    puts("done");
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"reallocs", reallocs}, {"errors", errors}, {"zeroes", zeroes},     {"ends", ends},
        {"threads", threads},   {"storm", storm},   {"children", children}, {NULL, NULL},
    };
    return run_case(cases, argc, argv);
}
