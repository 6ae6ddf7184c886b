/* SPDX-License-Identifier: MIT */
/* rest_calls.c: finds the calls behind us, and runs waits in steps. See rest_calls.h. */
#include "rest_calls.h"

#include "behind.h"
#include "os/os.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

OS_SEALED struct rest_calls rest_calls;

/* Somebody between us and the C library defines one of the calls. */
static bool hooked = true;

static const char *const names[] = {
#define NAME(name, result, arguments) #name,
    REST_CALLS(NAME)
#undef NAME
};
#define N_CALLS (sizeof names / sizeof names[0])
_Static_assert(sizeof(struct rest_calls) == N_CALLS * sizeof(void *) && N_CALLS <= BEHIND_MAX,
               "one pointer for each name");

/* The one call that is younger than the oldest C library we run with. */
static int raw_epoll_pwait2(int fd, struct epoll_event *events, int n, const struct timespec *timeout,
                            const sigset_t *mask) {
    return (int)syscall(SYS_epoll_pwait2, fd, events, n, timeout, mask, _NSIG / 8);
}

static long missing(void) {
    errno = ENOSYS;
    return -1;
}

void rest_calls_resolve(void) {
    void *found[N_CALLS];
    bool others = behind_find(names, found, N_CALLS);
    bool open = os_unseal();
    void **table = (void **)&rest_calls;
    for (size_t i = 0; i < N_CALLS; i++) {
        if (!found[i])
            found[i] = strcmp(names[i], "epoll_pwait2") == 0 ? (void *)raw_epoll_pwait2 : (void *)missing;
        if (open) __atomic_store_n(&table[i], found[i], __ATOMIC_RELEASE);
    }
    if (open) os_seal();
    WRITE_RELAXED(hooked, others);
}

/* --- time --- */

uint64_t rest_deadline(int64_t seconds, int64_t ns) {
    uint64_t deadline;
    if (__builtin_mul_overflow((uint64_t)seconds, REST_SECOND_NS, &deadline) ||
        __builtin_add_overflow(deadline, (uint64_t)ns, &deadline) ||
        __builtin_add_overflow(deadline, os_clock_ns(), &deadline))
        return UINT64_MAX;
    return deadline;
}

static uint64_t left_of(uint64_t deadline_ns) {
    uint64_t now = os_clock_ns();
    return deadline_ns > now ? deadline_ns - now : 0;
}

struct timespec rest_until(uint64_t deadline_ns) {
    return rest_time_of(left_of(deadline_ns));
}

static int ms_of(uint64_t ns) {
    uint64_t ms = ns / 1000000 + (ns % 1000000 != 0);
    return ms < INT32_MAX ? (int)ms : INT32_MAX;
}

int rest_until_ms(uint64_t deadline_ns) {
    return deadline_ns == UINT64_MAX ? -1 : ms_of(left_of(deadline_ns));
}

/* --- rounds --- */

static unsigned round_masked(void) {
    bool blocks = !os_restricted; /* which may be set meanwhile */
    uint64_t before = blocks ? os_block_signals() : 0;
    unsigned ms = rest_round(&shim_pool);
    if (blocks) os_restore_signals(before);
    return ms;
}

/* What will the pending signals do? The kernel delivers the lowest first. */
static enum rest_entry disturbance(uint64_t mask) {
    uint64_t pending = 0;
    if (syscall(SYS_rt_sigpending, &pending, sizeof pending)) return REST_UNDISTURBED;
    pending &= ~mask;
    if (!pending) return REST_UNDISTURBED;
    struct rest_handlers handlers = rest_handlers();
    pending &= handlers.handled;
    if (!pending) return REST_UNDISTURBED;
    return handlers.interrupting & pending & -pending ? REST_INTERRUPTED : REST_HANDLED;
}

enum rest_entry rest_entry(int32_t late_ms) {
    if (rest_overdue_ms() < late_ms) return REST_UNDISTURBED;
    if (os_restricted) {
        rest_round(&shim_pool);
        return REST_UNDISTURBED;
    }
    int saved = errno;
    uint64_t before = os_block_signals();
    rest_round(&shim_pool);
    enum rest_entry result = disturbance(before);
    os_restore_signals(before);
    errno = saved;
    return result;
}

static void end_steps(void *arguments) {
    struct rest_steps *steps = arguments;
    rest_unclaim();
    if (steps->masked) os_restore_signals(steps->mask);
}

bool rest_in_steps(enum rest_signals signals, uint64_t deadline_ns, void (*wait)(struct rest_steps *, void *),
                   void *arguments) {
    if (READ_RELAXED(hooked) || tcache_tls.entered) return false;
    int32_t overdue = rest_overdue_ms();
    unsigned ms = overdue < -REST_FIRST_MS ? (unsigned)-overdue : REST_FIRST_MS;
    if (!rest_claim(ms)) return false;
    struct rest_steps steps = {.ms = ms,
                               .overdue = overdue >= REST_OVERDUE_MS,
                               .deadline_ns = deadline_ns,
                               .masked = signals == REST_MASKED && !os_restricted};
    if (steps.masked) steps.mask = os_block_signals();
    pthread_cleanup_push(end_steps, &steps);
    wait(&steps, arguments);
    pthread_cleanup_pop(1);
    return true;
}

/* The nanoseconds until the next sleep must end; UINT64_MAX: never. */
static uint64_t step_ns(struct rest_steps *steps, bool *last) {
    uint64_t left = steps->deadline_ns == UINT64_MAX ? UINT64_MAX : left_of(steps->deadline_ns);
    if (steps->overdue) {
        steps->overdue = false;
        *last = left == 0;
        return 0;
    }
    uint64_t step = steps->ms ? (uint64_t)steps->ms * 1000000 : UINT64_MAX;
    *last = left <= step;
    return *last ? left : step;
}

struct timespec *rest_step(struct rest_steps *steps, struct timespec *length, bool *last) {
    uint64_t ns = step_ns(steps, last);
    if (ns == UINT64_MAX) return NULL;
    *length = rest_time_of(ns);
    return length;
}

int rest_step_ms(struct rest_steps *steps, bool *last) {
    uint64_t ns = step_ns(steps, last);
    if (ns == UINT64_MAX) return -1;
    *last = *last && ns < (uint64_t)INT32_MAX * 1000000;
    return ms_of(ns);
}

void rest_next(struct rest_steps *steps) {
    steps->ms = steps->masked ? rest_round(&shim_pool) : round_masked();
    /* From the last round on, other threads may take over. */
    if (!steps->ms)
        rest_unclaim();
    else if (!rest_claim(steps->ms))
        steps->ms = 0;
}

/* --- what the kernel knows --- */

/* rt_sigprocmask reads the set before it rejects the operation as unknown. */
#define NO_SUCH_OPERATION (-1)

static bool can_read_word(const void *word) {
    return syscall(SYS_rt_sigprocmask, NO_SUCH_OPERATION, word, NULL, sizeof(uint64_t)) == 0 ||
           errno != EFAULT;
}

bool rest_is_readable(const void *start, size_t length) {
    if (os_restricted || length < sizeof(uint64_t)) return true;
    int saved = errno;
    bool readable = can_read_word(start) && can_read_word((const char *)start + length - sizeof(uint64_t));
    errno = saved;
    return readable;
}

bool rest_is_writable(void *start, size_t length) {
    if (os_restricted || length < sizeof(uint64_t)) return true;
    int saved = errno;
    bool writable = syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, start, sizeof(uint64_t)) == 0 &&
                    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, (char *)start + length - sizeof(uint64_t),
                            sizeof(uint64_t)) == 0;
    errno = saved;
    return writable;
}
