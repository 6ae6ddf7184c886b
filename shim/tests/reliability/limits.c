/* SPDX-License-Identifier: MIT */
/* limits.c: under each resource limit, set before the first large block and after many, what succeeds alone
 * must succeed. */
#include "common.h"

#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* A user of our own, whose processes nobody else counts. */
#define LONELY_USER 54321

static void limit(int resource, size_t bytes) {
    struct rlimit r = {bytes, bytes};
    if (setrlimit(resource, &r)) skip("setrlimit is refused");
}

/* What fits into 200 MiB, if nobody keeps what was freed. */
static void within_200_mib(const char *where) {
    void *a = get(150 * MIB), *b;
    printf("%s ", where);
    say("150", a != NULL);
    free(a);
    a = get(80 * MIB), b = get(80 * MIB);
    say("80 + 80", a && b);
    free(a);
    a = get(110 * MIB);
    say("110 beside 80", a != NULL);
    free(a);
    /* Holes below a block that stays. */
    void *small[20];
    int n = 0;
    for (int i = 0; i < 20; i++)
        n += (small[i] = get(4 * MIB)) != NULL;
    say("20 of 4", n == 20);
    for (int i = 0; i < 19; i++)
        free(small[i]);
    a = get(100 * MIB);
    say("100 beside 84", a != NULL);
    a = realloc(a, 108 * MIB);
    say("grown to 108", a != NULL);
    free(a);
    a = calloc(1, 100 * MIB);
    say("zeroed 100", a != NULL);
    free(a);
    /* Blocks below the threshold need room as well. */
    static void *tiny[90000];
    n = 0;
    for (int i = 0; i < 90000; i++)
        n += (tiny[i] = malloc(1000)) != NULL;
    say("90 of a thousand bytes each", n == 90000);
    for (int i = 0; i < 90000; i++)
        free(tiny[i]);
    say("contents", good(b, 80 * MIB) && good(small[19], 4 * MIB));
    free(b);
    free(small[19]);
}

static void as_before(void) {
    limit(RLIMIT_AS, status_bytes("VmSize") + 205 * MIB);
    within_200_mib("address space");
}

static void as_during(void) {
    warm_up();
    void *high = get(10 * MIB);
    limit(RLIMIT_AS, status_bytes("VmSize") + 205 * MIB);
    within_200_mib("address space");
    free(high);
}

/* As much as glibc would count: what is freed is not counted. */
static void as_total(void) {
    size_t start = status_bytes("VmSize");
    warm_up();
    limit(RLIMIT_AS, start + 210 * MIB);
    within_200_mib("address space");
}

static void data_before(void) {
    limit(RLIMIT_DATA, status_bytes("VmData") + 205 * MIB);
    within_200_mib("data");
}

static void data_during(void) {
    warm_up();
    limit(RLIMIT_DATA, status_bytes("VmData") + 205 * MIB);
    within_200_mib("data");
}

static void lonely(void) {
    if (geteuid() != 0) skip("needs root to become a user of its own");
    if (setgroups(0, NULL) || setresgid(LONELY_USER, LONELY_USER, LONELY_USER))
        skip("cannot change the group");
}

static void become_lonely(void) {
    if (setresuid(LONELY_USER, LONELY_USER, LONELY_USER)) skip("cannot change the user");
}

static void forks(const char *what) {
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    int status = -1;
    say(what, pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}

/* This process and one child: nothing else fits. */
static void nproc_before(void) {
    lonely();
    limit(RLIMIT_NPROC, 2);
    become_lonely();
    warm_up();
    forks("a child beside large blocks");
    void *block = get(64 * MIB);
    forks("and another");
    free(block);
}

static void nproc_none(void) {
    lonely();
    limit(RLIMIT_NPROC, 1);
    become_lonely();
    warm_up();
    void *p = get(64 * MIB);
    say("blocks where no task can be made", p != NULL && good(p, 64 * MIB));
    free(p);
}

static void descriptors(void) {
    limit(RLIMIT_NOFILE, 3);
    warm_up();
    void *p = get(64 * MIB);
    say("blocks without descriptors", p != NULL && good(p, 64 * MIB));
    free(p);
}

/* Everything a first large block sets off, on the smallest stack a thread can have. */
static void *on_small_stack(void *ignored) {
    void *p = get_filled(64 * MIB);
    free(p);
    p = get_filled(20 * MIB);
    p = realloc(p, 90 * MIB);
    free(p);
    p = hide(calloc(1, 33 * MIB));
    free(p);
    return ignored;
}

static void stack(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16384); /* PTHREAD_STACK_MIN */
    for (int i = 0; i < 10; i++) {
        if (pthread_create(&thread, &attributes, on_small_stack, NULL)) exit(1);
        pthread_join(thread, NULL);
    }
    say("the smallest stack", 1);
}

/* Mappings up to the limit, so that nothing can be split and nothing new be mapped. */
static void maps(void) {
    long most = 0;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    if (!file || fscanf(file, "%ld", &most) != 1 || most > 300000)
        skip("max_map_count is too large to use up");
    fclose(file);
    void *kept = get(5 * MIB), *other = get(900 * KIB), *third = get(40 * MIB);
    size_t length = (size_t)most * 4096;
    char *area = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) skip("no address space");
    long n = 0;
    while (n < most && mprotect(area + n * 8192, 4096, PROT_READ) == 0)
        n++;
    /* Three are given back: what glibc needs for a block each. */
    for (int i = 0; i < 3; i++)
        mprotect(area + (n - 1 - i) * 8192, 4096, PROT_NONE);
    int fine = 1;
    for (int i = 0; i < 200; i++) {
        void *p = get((1 + (size_t)i % 7) * MIB);
        fine &= p && good(p, (1 + (size_t)i % 7) * MIB);
        free(p);
        size_t *q = calloc(1, (1 + (size_t)i % 3) * 2 * MIB);
        fine &= q && q[0] == 0 && q[100000] == 0;
        if (q) memset(q, 0x77, (1 + (size_t)i % 3) * 2 * MIB);
        free(q);
    }
    say("blocks come and go", fine);
    kept = realloc(kept, 4 * MIB);
    say("shrunk", kept && *(size_t *)kept != 0);
    third = realloc(third, 41 * MIB);
    say("grown", third && *(size_t *)third != 0);
    free(kept);
    free(other);
    free(third);
    munmap(area, length);
    warm_up();
    say("contents", 1);
}

static const struct test_case cases[] = {
    {"as-before", as_before},
    {"as-during", as_during},
    {"as-total", as_total},
    {"data-before", data_before},
    {"data-during", data_during},
    {"nproc-before", nproc_before},
    {"nproc-none", nproc_none},
    {"descriptors", descriptors},
    {"stack", stack},
    {"maps", maps},
    {NULL, NULL},
};

int main(int argc, char **argv) {
    return run_case(cases, argc, argv);
}
