/* SPDX-License-Identifier: MIT */
/* hardened.c: what ZEROPOOL_HARDENED=1 promises. Each property's case fails without it. usage: hardened
 * CASE */
#include "check.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

static sigjmp_buf back;

static void on_fault(int number) {
    (void)number;
    siglongjmp(back, 1);
}

static bool write_faults(volatile char *p) {
    if (sigsetjmp(back, 1)) return true;
    *p = 1;
    return false;
}

static bool read_faults(const volatile char *p) {
    if (sigsetjmp(back, 1)) return true;
    (void)*p;
    return false;
}

static size_t some_size(uint64_t *rng) {
    return rng_range(rng, 32 * KIB, (size_t)1 << rng_range(rng, 16, 23));
}

/* --- properties --- */

static int overflow(void) {
    uint64_t rng = 1;
    for (int i = 0; i < 2000; i++) {
        size_t n = some_size(&rng), align = (size_t)1 << rng_range(&rng, 4, 16);
        size_t beyond = (n + 15) & ~(size_t)15;
        char *p = i % 4 == 0   ? malloc(n)
                  : i % 4 == 1 ? calloc(1, n)
                  : i % 4 == 2 ? realloc(malloc(n / 2 + 32 * KIB), n)
                               : NULL;
        if (!p) { /* aligned more than malloc does it, the end is exact for sizes that are multiples */
            n &= ~(align - 1);
            if (n < 32 * KIB) continue;
            beyond = (n + 4095) & ~(size_t)4095;
            if (align <= 4096) beyond = n;
            p = aligned_alloc(align, n);
        }
        CHECK(p && (uintptr_t)p % 16 == 0);
        memset(p, 0x5a, n);
        CHECK(write_faults(p + beyond));
        CHECK(read_faults(p + beyond));
        CHECK(write_faults(p + beyond + 4095));
        free(p);
    }
    return 0;
}

/* An underflow meets the guard within the page in which the block begins. */
static int underflow(void) {
    uint64_t rng = 2;
    for (int i = 0; i < 1000; i++) {
        char *p = get(some_size(&rng));
        CHECK(write_faults((char *)((uintptr_t)p & ~(uintptr_t)4095) - 1));
        free(p);
    }
    return 0;
}

static int use_after_free(void) {
    uint64_t rng = 3;
    for (int i = 0; i < 1000; i++) {
        size_t n = some_size(&rng);
        char *p = get(n), *old = p;
        memset(p, 0x5a, n);
        if (i % 2)
            free(p);
        else
            p = realloc(p, n + 100);
        KEEP(old);
        for (size_t at = 0; at < n; at += n / 7)
            CHECK(read_faults(old + at) && write_faults(old + at));
        if (i % 2 == 0) free(p);
    }
    return 0;
}

/* A freed address comes back neither soon nor predictably. */
static int quarantine(void) {
    enum { LATER = 8000 };
    char *p = get(64 * KIB), *old = p;
    free(p);
    for (int i = 0; i < LATER; i++) {
        p = get(60 * KIB + (size_t)i % 4096);
        CHECK(p + 64 * KIB <= old || p >= old + 64 * KIB);
        free(p);
        KEEP(p);
        CHECK(i % 100 || read_faults(old));
    }
    return 0;
}

static int placement(void) {
    enum { BLOCKS = 256 };
    uintptr_t at[BLOCKS];
    int rising = 0, near = 0;
    for (int i = 0; i < BLOCKS; i++) {
        at[i] = (uintptr_t)get(100000);
        if (!i) continue;
        rising += at[i] > at[i - 1];
        near += at[i] - at[i - 1] + 8 * MIB < 16 * MIB;
    }
    CHECK(rising > BLOCKS / 4 && rising < BLOCKS * 3 / 4 && near < BLOCKS / 4);
    /* Another process, another order. */
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "hardened", "one-address", (char *)NULL);
        _exit(1);
    }
    close(ends[1]);
    char text[64] = "", mine[64];
    ssize_t n = read(ends[0], text, sizeof text - 1);
    waitpid(pid, NULL, 0);
    snprintf(mine, sizeof mine, "%zx\n", (size_t)at[0]);
    CHECK(n > 1 && strcmp(text, mine) != 0);
    return 0;
}

static int one_address(void) {
    printf("%zx\n", (size_t)get(100000));
    return 0;
}

/* What one owner wrote no later owner reads. */
static int zero_on_free(void) {
    uint64_t rng = 4;
    for (int i = 0; i < 1500; i++) {
        size_t n = some_size(&rng);
        char *p = get(n);
        CHECK(all_zero(p, n));
        memset(p, 0xa5, n);
        free(p);
    }
    return 0;
}

static int usable_size(void) {
    uint64_t rng = 5;
    for (int i = 0; i < 1000; i++) {
        size_t n = some_size(&rng);
        char *p = get(n);
        CHECK(malloc_usable_size(p) == n);
        char *same = realloc(p, n);
        CHECK(same == p);
        free(p);
    }
    return 0;
}

static char *early;
__attribute__((constructor(101))) static void before_everything(void) {
    early = get(100000);
}

/* Also blocks from before the library's own constructor. */
static int early_blocks(void) {
    CHECK(early && write_faults(early + 100000));
    char *old = early;
    free(early);
    KEEP(old);
    CHECK(read_faults(old));
    return 0;
}

/* --- what must go on working --- */

static int count_mappings(void) {
    int n = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    for (int c; file && (c = fgetc(file)) != EOF;)
        n += c == '\n';
    fclose(file);
    return n;
}

/* More blocks than there may be mappings: they are served, some unguarded, and the program still can map. */
static int many_blocks(void) {
    enum { BLOCKS = 70000 };
    static char *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = get(33000);
        CHECK(blocks[i]);
        *(int *)blocks[i] = i;
        if (i == 20000) CHECK(count_mappings() > 20000); /* the mode is on */
    }
    CHECK(count_mappings() < 40000);
    void *mine = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mine != MAP_FAILED);
    for (int i = 0; i < BLOCKS; i++)
        CHECK(*(int *)blocks[i] == i);
    for (int i = 0; i < BLOCKS; i++) {
        if (i % 3 == 0) blocks[i] = realloc(blocks[i], 66000);
        CHECK(*(int *)blocks[i] == i);
        free(blocks[i]);
    }
    CHECK(count_mappings() < 1000);
    char *p = get(100000); /* and guards are back */
    CHECK(write_faults(p + 100000));
    return 0;
}

static void *swapped[64];

static void *swapper(void *seed) {
    uint64_t rng = (uintptr_t)seed;
    for (int i = 0; i < 4000; i++) {
        size_t n = rng_range(&rng, 32 * KIB, 200 * KIB);
        size_t *p = get(n);
        CHECK(p);
        p[0] = n;
        p[n / 8 - 1] = ~n;
        errno = 4711;
        p = __atomic_exchange_n(&swapped[rng_range(&rng, 0, 63)], p, __ATOMIC_ACQ_REL);
        if (p) CHECK(p[0] == ~p[p[0] / 8 - 1] && malloc_usable_size(p) == p[0]);
        free(p);
        CHECK(errno == 4711);
        if (seed == (void *)1 && i % 200 == 0) {
            pid_t pid = fork();
            if (pid == 0) {
                for (int k = 0; k < 64; k++) {
                    free(__atomic_exchange_n(&swapped[k], NULL, __ATOMIC_ACQ_REL));
                    free(get(50000));
                }
                _exit(0);
            }
            int status;
            CHECK(waitpid(pid, &status, 0) == pid && status == 0);
        }
    }
    return NULL;
}

static int threads(void) {
    pthread_t t[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, swapper, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    return 0;
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"overflow", overflow},         {"underflow", underflow},     {"use-after-free", use_after_free},
        {"quarantine", quarantine},     {"placement", placement},     {"one-address", one_address},
        {"zero-on-free", zero_on_free}, {"usable-size", usable_size}, {"early-blocks", early_blocks},
        {"many-blocks", many_blocks},   {"threads", threads}};
    require_shim();
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    return RUN_CASE(hardened, cases);
}
