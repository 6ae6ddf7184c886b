/* SPDX-License-Identifier: MIT */
/* stacks.c: calls made on a small stack, and how much of a stack they use.
 * usage: stacks depth|coroutine|altstack CALLS
 * depth: on a large painted stack, prints the bytes used; coroutine: on 4 KiB with a guard below; altstack:
 * in a handler on 8 KiB. */
#include "invisible.h"

#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <ucontext.h>

#define N_BLOCKS 300
#define PAINT 0xa5

/* Static: the calls must not have it on the stack that is measured. */
static void *blocks[N_BLOCKS];
static size_t too_much;

static void take(size_t n) {
    for (int i = 0; i < N_BLOCKS; i++)
        *(char *)(blocks[i] = get(n)) = 1;
}
static void give(void) {
    for (int i = 0; i < N_BLOCKS; i++) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
}
static void nothing(void) {}
static void warm(void) {
    use_once(64 * MIB);
    use_blocks(64, 1);
}
static void warm_and_rested(void) {
    warm();
    usleep(1500000);
}
static void hold_small(void) {
    take(40 * KIB);
}
static void hold_large(void) {
    take(300 * KIB);
}
static void leave_holes(void) {
    take(300 * KIB);
    for (int i = 0; i < N_BLOCKS; i += 2) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
}

static void pair_of(size_t n) {
    volatile char *p = get(n);
    p[0] = 1;
    free((void *)p);
}
static void call_small(void) {
    pair_of(100);
}
static void call_large(void) {
    pair_of(MIB);
}
static void call_sizes(void) {
    for (size_t n = 16; n <= 64 * MIB; n += n / 3)
        pair_of(n);
}
static void call_growth(void) {
    take(3 * MIB);
}
static void call_zeroed(void) {
    for (size_t n = 100; n <= 16 * MIB; n *= 3) {
        void *p = calloc(1, n);
        KEEP(p);
        free(p);
    }
}
static void call_resize(void) {
    char *p = get(100);
    for (size_t n = 200; n <= 32 * MIB; n += n / 2) {
        p = realloc(p, n);
        p[n - 1] = 1;
    }
    for (size_t n = 32 * MIB; n >= 100; n /= 3)
        p = realloc(p, n);
    free(p);
}
static void call_aligned(void) {
    for (size_t n = 64; n <= 4 * MIB; n *= 4) {
        void *p = memalign(n, n + 100 * KIB);
        KEEP(p);
        free(p);
    }
}
static void call_trim(void) {
    malloc_trim(0);
}
static void call_refused(void) {
    void *p = get(too_much);
    KEEP(p);
}
static void call_refused_growth(void) {
    char *p = get(MIB), *q = realloc(p, too_much);
    KEEP(q);
    free(p);
}
static void call_refused_mapping(void) {
    mmap(NULL, (size_t)100 << 40, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static void call_attributes(void) {
    char *p = get(4 * MIB), *inside = (char *)(((uintptr_t)p + MIB) & -PAGE);
    mprotect(inside, PAGE, PROT_READ);
    mprotect(inside, PAGE, PROT_READ | PROT_WRITE);
    madvise(inside, PAGE, MADV_DONTNEED);
    free(p);
    call_large();
}
static void call_usable(void) {
    void *p = get(MIB);
    if (malloc_usable_size(p) < MIB) _exit(4);
    free(p);
}

/* Calls in which programs rest, after use: work that is done there must not need more of the stack. */
static void call_waits(void) {
    static struct timespec moment = {0, 300000000};
    static struct timeval part = {0, 200000};
    static struct pollfd nobody = {-1, POLLIN, 0};
    nanosleep(&moment, NULL);
    usleep(300000);
    poll(&nobody, 1, 300);
    select(0, NULL, NULL, NULL, &part);
}
static void call_fork(void) {
    int pid = fork();
    if (pid == 0) {
        call_large();
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

static const struct calls {
    const char *name;
    void (*prepare)(void);
    void (*run)(void);
    enum { HERE, IN_CHILD, IN_THREAD } where;
} all_calls[] = {
    {"nothing", warm, nothing, HERE},
    {"first-small", nothing, call_small, HERE},
    {"first-large", nothing, call_large, HERE},
    {"first-sizes", nothing, call_sizes, HERE},
    {"small", warm, call_small, HERE},
    {"large", warm, call_large, HERE},
    {"sizes", warm, call_sizes, HERE},
    {"rested", warm_and_rested, call_sizes, HERE},
    {"growth", warm, call_growth, HERE},
    {"full-cache-small", hold_small, give, HERE},
    {"full-cache-large", hold_large, give, HERE},
    {"holes", leave_holes, call_sizes, HERE},
    {"zeroed", warm, call_zeroed, HERE},
    {"resize", warm, call_resize, HERE},
    {"aligned", warm, call_aligned, HERE},
    {"trim", leave_holes, call_trim, HERE},
    {"refused", leave_holes, call_refused, HERE},
    {"refused-growth", leave_holes, call_refused_growth, HERE},
    {"refused-mapping", leave_holes, call_refused_mapping, HERE},
    {"attributes", warm, call_attributes, HERE},
    {"usable", warm, call_usable, HERE},
    {"waits", warm, call_waits, HERE},
    {"fork", warm, call_fork, HERE},
    {"child", warm, call_sizes, IN_CHILD},
    {"child-frees", hold_large, give, IN_CHILD},
    {"child-trims", leave_holes, call_trim, IN_CHILD},
    {"thread", warm, call_sizes, IN_THREAD},
};

static const struct calls *calls;
static size_t stack_size;
static ucontext_t here, there;

/* A stack that ends at a page nobody may touch. */
static char *guarded_stack(size_t n) {
    char *p = mmap(NULL, n + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + PAGE, n, PROT_READ | PROT_WRITE)) _exit(2);
    return p + PAGE;
}

static void run_there(void) {
    calls->run();
}
static void *run_coroutine(void *stack) {
    getcontext(&there);
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = stack_size;
    there.uc_link = &here;
    makecontext(&there, run_there, 0);
    swapcontext(&here, &there);
    return NULL;
}

static void handler(int signal) {
    calls->run();
}
static void *run_in_handler(void *stack) {
    stack_t alternate = {.ss_sp = stack, .ss_size = stack_size};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    if (sigaltstack(&alternate, NULL) || sigaction(SIGUSR1, &action, NULL)) _exit(2);
    raise(SIGUSR1);
    return NULL;
}

static int in_child(void *(*run)(void *), char *stack) {
    int status;
    int pid = fork();
    if (pid == 0) {
        run(stack);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid) return 3;
    if (WIFSIGNALED(status)) raise(WTERMSIG(status));
    return WEXITSTATUS(status);
}

static size_t used_of(const char *stack, size_t n) {
    size_t untouched = 0;
    while (untouched < n && (unsigned char)stack[untouched] == PAINT)
        untouched++;
    return n - untouched;
}

int main(int argc, char **argv) {
    pthread_t thread;
    int status = 0;
    for (size_t i = 0; argc == 3 && i < sizeof all_calls / sizeof *all_calls; i++)
        if (strcmp(all_calls[i].name, argv[2]) == 0) calls = &all_calls[i];
    if (!calls) return 2;
    too_much = 2 * (size_t)sysconf(_SC_PHYS_PAGES) * PAGE;
    bool depth = strcmp(argv[1], "depth") == 0;
    void *(*run)(void *) = strcmp(argv[1], "altstack") == 0 ? run_in_handler : run_coroutine;
    stack_size = depth ? 256 * KIB : run == run_in_handler ? 2 * PAGE : PAGE;
    /* What a child paints over must be seen here; otherwise parent and child must not share a stack. */
    int sharing = calls->where == IN_CHILD ? MAP_SHARED : MAP_PRIVATE;
    char *stack = depth ? mmap(NULL, stack_size, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0)
                        : guarded_stack(stack_size);
    if (depth) memset(stack, PAINT, stack_size);
    calls->prepare();
    if (calls->where == IN_CHILD) {
        status = in_child(run, stack);
    } else if (calls->where == IN_THREAD) {
        if (pthread_create(&thread, NULL, run, stack) || pthread_join(thread, NULL)) return 2;
    } else {
        run(stack);
    }
    if (depth) report("stack", (double)used_of(stack, stack_size));
    puts("done");
    return status;
}
