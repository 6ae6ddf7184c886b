/* SPDX-License-Identifier: MIT */
/* small_calls.c: what a small call costs, and what it must not: it is a jump to the next allocator, and one
 * that fails because of what the pool holds idle succeeds all the same. usage: small_calls CASE
 *
 * The instructions of the library are counted one by one, in a traced child. */
#include "check.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

/* --- instructions --- */

static void *kept;
static size_t small = 40; /* no constant, which the compiler might do something with */

static void call_malloc(void) {
    kept = malloc(small);
}
static void call_free(void) {
    free(kept);
}
static void call_free_null(void) {
    free(NULL);
}
static void call_calloc(void) {
    kept = calloc(small, 2);
}
static void call_realloc(void) {
    kept = realloc(kept, 5 * small);
}
static void call_realloc_null(void) {
    kept = realloc(NULL, small);
}
static void call_memalign(void) {
    kept = memalign(64, small);
}
static void call_aligned_alloc(void) {
    kept = aligned_alloc(32, 2 * small);
}
static void call_posix_memalign(void) {
    CHECK(posix_memalign(&kept, 64, small) == 0);
}
static void call_valloc(void) {
    kept = valloc(small);
}
static void call_pvalloc(void) {
    kept = pvalloc(small);
}

static const struct counted {
    const char *name;
    void (*call)(void);
    unsigned most; /* instructions */
    bool may_fail; /* for want of memory */
} counted[] = {{"malloc", call_malloc, 3, true},
               {"free", call_free, 5, false},
               {"free of NULL", call_free_null, 5, false},
               {"calloc", call_calloc, 6, true},
               {"realloc", call_realloc, 7, true},
               {"free", call_free, 5, false},
               {"realloc of NULL", call_realloc_null, 7, true},
               {"free", call_free, 5, false},
               {"memalign", call_memalign, 3, true},
               {"free", call_free, 5, false},
               {"aligned_alloc", call_aligned_alloc, 3, true},
               {"free", call_free, 5, false},
               {"posix_memalign", call_posix_memalign, 3, true},
               {"free", call_free, 5, false},
               {"valloc", call_valloc, 3, true},
               {"free", call_free, 5, false},
               {"pvalloc", call_pvalloc, 3, true},
               {"free", call_free, 5, false}};
#define N_COUNTED (sizeof counted / sizeof counted[0])

static uintptr_t code_start, code_end;

static void find_code(void) {
    FILE *file = fopen("/proc/self/maps", "r");
    char line[4400], permissions[5];
    CHECK(file);
    while (fgets(line, sizeof line, file)) {
        uintptr_t start, end;
        CHECK(sscanf(line, "%lx-%lx %4s", &start, &end, permissions) == 3);
        if (!strstr(line, "zeropool-preload") || permissions[2] != 'x') continue;
        if (!code_start) code_start = start; /* several: the last is that of the profile */
        code_end = end;
    }
    fclose(file);
    CHECK(code_start);
}

static void pause_traced(void) {
    CHECK(kill(getpid(), SIGSTOP) == 0);
}

/* A pause before and after each call. */
static void traced(bool (*prepare)(void)) {
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL)) _exit(SKIP);
    if (!prepare()) _exit(SKIP);
    for (size_t i = 0; i < N_COUNTED; i++)
        counted[i].call(); /* the C library's own set-up */
    for (size_t i = 0; i < N_COUNTED; i++) {
        pause_traced();
        counted[i].call();
        pause_traced();
    }
    _exit(0);
}

struct count {
    unsigned n_instructions, n_entries;
};

/* From one pause of the child to the next. */
static struct count step_through(pid_t child) {
    struct count count = {0, 0};
    bool inside = false;
    for (;;) {
        struct user_regs_struct registers;
        int status;
        CHECK(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
        CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
        if (WSTOPSIG(status) == SIGSTOP) return count;
        CHECK(WSTOPSIG(status) == SIGTRAP && ptrace(PTRACE_GETREGS, child, NULL, &registers) == 0);
        bool now = registers.rip >= code_start && registers.rip < code_end;
        count.n_instructions += now;
        count.n_entries += now && !inside;
        inside = now;
    }
}

static bool await_pause(pid_t child, int *status) {
    CHECK(waitpid(child, status, 0) == child);
    return WIFSTOPPED(*status) && WSTOPSIG(*status) == SIGSTOP;
}

/* watched: are failures looked for after what prepare does? */
static int count_after(bool (*prepare)(void), bool watched) {
    find_code();
    pid_t child = fork();
    if (child == 0) traced(prepare);
    int status, wrong = 0;
    for (size_t i = 0; i < N_COUNTED; i++) {
        if (!await_pause(child, &status)) break;
        struct count count = step_through(child);
        CHECK(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
        /* Who looks comes back from the next allocator. */
        bool looks = watched && counted[i].may_fail;
        bool good =
            looks ? count.n_entries == 2 : count.n_entries == 1 && count.n_instructions <= counted[i].most;
        if (!good) {
            fprintf(stderr, "%s: %u instructions, entered %u times; %u, %d were to be\n", counted[i].name,
                    count.n_instructions, count.n_entries, counted[i].most, looks + 1);
            wrong = 1;
        }
    }
    if (WIFSTOPPED(status)) CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP) return SKIP;
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return wrong;
}

static bool use_nothing(void) {
    return true;
}

static bool use_pool(void) {
    char *p = get(12 * MIB);
    CHECK(in_pool(p));
    *p = 1;
    free(p);
    return true;
}

static const struct rlimit lower = {64 * GIB, RLIM_INFINITY};

static bool use_pool_then_limit(void) {
    return use_pool() && setrlimit(RLIMIT_AS, &lower) == 0;
}

static bool limit_then_use_pool(void) {
    return setrlimit(RLIMIT_DATA, &lower) == 0 && use_pool();
}

static bool limit_and_lift(void) {
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    return limit_then_use_pool() && setrlimit(RLIMIT_DATA, &none) == 0;
}

static bool lock_all(void) {
    return use_pool() && mlockall(MCL_CURRENT | MCL_FUTURE) == 0;
}

static bool limit_descriptors(void) {
    const struct rlimit few = {100, 100};
    return use_pool() && setrlimit(RLIMIT_NOFILE, &few) == 0;
}

static int jumps_before_the_pool(void) {
    return count_after(use_nothing, false);
}
static int jumps(void) {
    return count_after(use_pool, false);
}
static int jumps_under_other_limits(void) {
    return count_after(limit_descriptors, false);
}
static int watched_under_a_limit(void) {
    return count_after(use_pool_then_limit, true);
}
static int watched_under_an_earlier_limit(void) {
    return count_after(limit_then_use_pool, true);
}
static int watched_after_a_limit(void) {
    return count_after(limit_and_lift, true);
}
static int watched_where_all_is_locked(void) {
    return count_after(lock_all, true);
}

/* --- failures --- */

static size_t address_space(void) {
    size_t pages;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%zu", &pages) == 1);
    fclose(file);
    return 4096 * pages;
}

/* The pool has 300 MiB idle when the program is limited to 20 MiB more than it has, and then takes 100. */
static int succeed(void (*limit)(const struct rlimit *)) {
    enum { N = 100 * 1024 };
    static void *blocks[N];
    char *p = get(300 * MIB);
    CHECK(in_pool(p));
    memset(p, 1, 300 * MIB);
    free(p);
    const struct rlimit limit_as = {address_space() + 20 * MIB, RLIM_INFINITY};
    limit(&limit_as);
    for (size_t i = 0; i < N; i++)
        CHECK(blocks[i] = i % 3 == 0 ? calloc(10, 100) : i % 3 == 1 ? get(1000) : realloc(NULL, 1000));
    for (size_t i = 0; i < N; i++)
        free(blocks[i]);
    return 0;
}

static void by_setrlimit(const struct rlimit *limit) {
    CHECK(setrlimit(RLIMIT_AS, limit) == 0);
}
static void by_setrlimit64(const struct rlimit *limit) {
    CHECK(setrlimit64(RLIMIT_AS, (const struct rlimit64 *)limit) == 0);
}
static void by_prlimit(const struct rlimit *limit) {
    CHECK(prlimit(getpid(), RLIMIT_AS, limit, NULL) == 0);
}
static void by_prlimit64(const struct rlimit *limit) {
    CHECK(prlimit64(0, RLIMIT_AS, (const struct rlimit64 *)limit, NULL) == 0);
}
static void by_number(const struct rlimit *limit) {
    CHECK(syscall(SYS_prlimit64, 0, RLIMIT_AS, limit, NULL) == 0);
}
static void by_old_number(const struct rlimit *limit) {
    CHECK(syscall(SYS_setrlimit, RLIMIT_AS, limit) == 0);
}

/* Limits are read from time to time: whenever a second has passed, by who needs the pool. */
static void from_outside(const struct rlimit *limit) {
    pid_t child = fork();
    if (child == 0) _exit(prlimit(getppid(), RLIMIT_AS, limit, NULL) ? SKIP : 0);
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    if (WEXITSTATUS(status)) _exit(SKIP);
    for (int i = 0; i < 15; i++) {
        usleep(100000);
        char *p = get((size_t)(1 + i % 3) * MIB);
        CHECK(p);
        free(p);
    }
}

static int succeed_by_setrlimit(void) {
    return succeed(by_setrlimit);
}
static int succeed_by_setrlimit64(void) {
    return succeed(by_setrlimit64);
}
static int succeed_by_prlimit(void) {
    return succeed(by_prlimit);
}
static int succeed_by_prlimit64(void) {
    return succeed(by_prlimit64);
}
static int succeed_by_number(void) {
    return succeed(by_number);
}
static int succeed_by_old_number(void) {
    return succeed(by_old_number);
}
static int succeed_from_outside(void) {
    return succeed(from_outside);
}

/* A pointer that cannot be read is the kernel's business. */
static int wrong_arguments(void) {
    const struct rlimit *nowhere = (const struct rlimit *)8;
    KEEP(nowhere);
    CHECK(setrlimit(RLIMIT_AS, nowhere) == -1 && errno == EFAULT);
    CHECK(prlimit(0, RLIMIT_DATA, nowhere, NULL) == -1 && errno == EFAULT);
    CHECK(setrlimit((__rlimit_resource_t)1000, &lower) == -1 && errno == EINVAL);
    struct rlimit before, after;
    CHECK(getrlimit(RLIMIT_AS, &before) == 0 && prlimit(0, RLIMIT_AS, NULL, &after) == 0);
    CHECK(before.rlim_cur == after.rlim_cur && before.rlim_max == after.rlim_max);
    return 0;
}

MAIN_OF_CASES(small_calls, {"jumps-before-the-pool", jumps_before_the_pool}, {"jumps", jumps},
              {"jumps-under-other-limits", jumps_under_other_limits},
              {"watched-under-a-limit", watched_under_a_limit},
              {"watched-under-an-earlier-limit", watched_under_an_earlier_limit},
              {"watched-after-a-limit", watched_after_a_limit},
              {"watched-where-all-is-locked", watched_where_all_is_locked},
              {"setrlimit", succeed_by_setrlimit}, {"setrlimit64", succeed_by_setrlimit64},
              {"prlimit", succeed_by_prlimit}, {"prlimit64", succeed_by_prlimit64},
              {"number", succeed_by_number}, {"old-number", succeed_by_old_number},
              {"from-outside", succeed_from_outside}, {"wrong-arguments", wrong_arguments})
