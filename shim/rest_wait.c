/* SPDX-License-Identifier: MIT */
/* rest_wait.c: waiting for children and for signals, in steps. See rest_calls.h.
 *
 * Children. The end of a child is told by SIGCHLD. While that and every signal with a handler are blocked,
 * sigtimedwait waits for all of them: even what is ignored by default stays pending while it is blocked. So
 * it says exactly which signal came; one that has a handler is queued again as it was, and let in when the
 * children have been looked at, as the kernel would. It then depends on its own SA_RESTART whether the wait
 * goes on. Children are looked at without taking a status away (WNOWAIT); the program's own call does that
 * once it will not wait. In steps where this is the only thread (another one would take the signal), and
 * SIGCHLD is neither blocked nor ignored, and is sent for all that the program waits for.
 *
 * Signals. sigwait goes on after handlers, so its steps need no care. The others return when a handler has
 * run: in steps only if there is none that could.
 */
#undef _FORTIFY_SOURCE
#include "rest_calls.h"

#include "os/os.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORD_BYTES sizeof(uint64_t)

static void set_mask(uint64_t mask) {
    os_restore_signals(mask);
}

static uint64_t current_mask(void) {
    uint64_t mask = 0;
    int saved = errno;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, WORD_BYTES);
    errno = saved;
    return mask;
}

/* The program's call as made, and as waitid (type, id, flags). */
struct children {
    idtype_t type;
    id_t id;
    int flags;
    pid_t (*make)(const struct children *);
    pid_t pid;
    int options;
    void *status;
    struct rusage *usage;
    bool made; /* inside the steps: result and errno are final */
    pid_t result;
};

static pid_t make_wait4(const struct children *children) {
    return NEXT(wait4)(children->pid, children->status, children->options, children->usage);
}

static pid_t make_waitid(const struct children *children) {
    return NEXT(waitid)(children->type, children->id, children->status, children->options);
}

/* Would the program's call return at once? */
static bool has_news(const struct children *children) {
    siginfo_t info;
    info.si_pid = 0;
    int flags = children->flags | WNOHANG | WNOWAIT;
    return syscall(SYS_waitid, children->type, children->id, &info, flags, NULL) != 0 || info.si_pid != 0;
}

/* SIGCHLD is sent for every child that ends, stops or goes on, and this thread receives it. */
static bool signal_tells(const struct children *children, uint64_t mask) {
    struct rest_action action;
    if (!__libc_single_threaded || os_restricted || (children->flags & (__WALL | __WCLONE)) ||
        (mask & rest_signal_bit(SIGCHLD)))
        return false;
    if (!rest_ask_action(SIGCHLD, &action)) return false;
    return action.handler != SIG_IGN && !(action.flags & (SA_NOCLDWAIT | SA_NOCLDSTOP));
}

/* The end of the wait. The program's call is made before handlers run, which may wait for children
 * themselves. */
static void make(struct children *children) {
    children->result = children->make(children);
    children->made = true;
}

static void fail(struct children *children) {
    errno = EINTR;
    children->result = -1;
    children->made = true;
}

static void wait_child(struct rest_steps *steps, void *arguments) {
    struct children *children = arguments;
    uint64_t mask = current_mask();
    while (!children->made) {
        struct rest_handlers handlers = rest_handlers();
        handlers.handled &= ~mask;
        uint64_t wanted = handlers.handled | rest_signal_bit(SIGCHLD);
        set_mask(mask | wanted);
        struct timespec length;
        bool last;
        siginfo_t info;
        if (has_news(children)) {
            make(children);
            break;
        }
        int signal =
            (int)syscall(SYS_rt_sigtimedwait, &wanted, &info, rest_step(steps, &length, &last), WORD_BYTES);
        if (signal < 0) {
            if (errno == EAGAIN) rest_next(steps);
            continue;
        }
        if (has_news(children)) make(children);
        if (!(handlers.handled & rest_signal_bit(signal))) continue; /* SIGCHLD, ignored by default */
        int saved = errno;
        syscall(SYS_rt_tgsigqueueinfo, os_process_id(), os_thread_id(), signal, &info);
        set_mask(mask); /* here it runs */
        errno = saved;
        if (!children->made && (handlers.interrupting & rest_signal_bit(signal))) fail(children);
    }
    set_mask(mask);
}

/* A round before the call; not where the handler of SIGCHLD may take the child that the call would have had.
 * True: a handler has interrupted it. */
static bool entry_interrupts(const struct children *children, bool may_wait) {
    if (!os_restricted && (rest_handlers().handled & rest_signal_bit(SIGCHLD))) return false;
    return rest_entry(0) == REST_INTERRUPTED && may_wait && !has_news(children);
}

/* Makes the call, in steps if possible. */
static pid_t wait_for(struct children *children) {
    int saved = errno;
    bool may_wait = !os_restricted && !(children->options & WNOHANG);
    bool waits = may_wait && !has_news(children);
    /* The program's mask, not the one with all signals blocked. */
    bool in_steps = waits && signal_tells(children, current_mask()) &&
                    rest_in_steps(REST_UNMASKED, UINT64_MAX, wait_child, children);
    if (!in_steps && (waits || !may_wait) && entry_interrupts(children, may_wait)) fail(children);
    if (children->made && children->result < 0) return children->result;
    errno = saved;
    return children->made ? children->result : children->make(children);
}

/* The same for the older calls. */
static pid_t wait_for_pid(pid_t pid, int *status, int options, struct rusage *usage) {
    const int known = WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WALL | __WCLONE;
    struct children children = {
        .make = make_wait4, .pid = pid, .options = options, .status = status, .usage = usage};
    if (options & ~known || pid == INT32_MIN) return make_wait4(&children);
    children.type = pid > 0 ? P_PID : pid == -1 ? P_ALL : P_PGID;
    children.id = (id_t)(pid > 0 ? pid : pid < -1 ? -pid : 0);
    children.flags = options | WEXITED;
    return wait_for(&children);
}

EXPORT pid_t wait(int *status) {
    return likely(!rest_wanted(&shim_pool)) ? NEXT(wait)(status) : wait_for_pid(-1, status, 0, NULL);
}

EXPORT pid_t waitpid(pid_t pid, int *status, int options) {
    return likely(!rest_wanted(&shim_pool)) ? NEXT(waitpid)(pid, status, options)
                                            : wait_for_pid(pid, status, options, NULL);
}

EXPORT pid_t wait3(int *status, int options, struct rusage *usage) {
    return likely(!rest_wanted(&shim_pool)) ? NEXT(wait3)(status, options, usage)
                                            : wait_for_pid(-1, status, options, usage);
}

EXPORT pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage) {
    return likely(!rest_wanted(&shim_pool)) ? NEXT(wait4)(pid, status, options, usage)
                                            : wait_for_pid(pid, status, options, usage);
}

EXPORT int waitid(idtype_t type, id_t id, siginfo_t *info, int options) {
    if (likely(!rest_wanted(&shim_pool))) return NEXT(waitid)(type, id, info, options);
    struct children children = {
        .type = type, .id = id, .flags = options, .make = make_waitid, .options = options, .status = info};
    return wait_for(&children);
}

/* The C library waits within itself. */
EXPORT int system(const char *command) {
    if (unlikely(rest_wanted(&shim_pool))) rest_entry(0);
    return NEXT(system)(command);
}

/* --- signals --- */

struct signals {
    const sigset_t *set;
    siginfo_t *info;
    bool goes_on; /* after a handler, as sigwait */
    int result;
};

static void wait_signals(struct rest_steps *steps, void *arguments) {
    struct signals *signals = arguments;
    for (;;) {
        struct timespec length, *timeout;
        bool last;
        timeout = rest_step(steps, &length, &last);
        signals->result = NEXT(sigtimedwait)(signals->set, signals->info, timeout);
        if (signals->result >= 0) return;
        if (errno == EAGAIN && !last)
            rest_next(steps);
        else if (errno != EINTR || !signals->goes_on)
            return;
    }
}

EXPORT int sigwait(const sigset_t *set, int *signal) {
    if (likely(!rest_wanted(&shim_pool))) return NEXT(sigwait)(set, signal);
    int saved = errno;
    struct signals signals = {.set = set, .goes_on = true};
    bool done = rest_in_steps(REST_UNMASKED, UINT64_MAX, wait_signals, &signals) && signals.result > 0;
    errno = saved;
    if (!done) return NEXT(sigwait)(set, signal);
    *signal = signals.result;
    return 0;
}

/* Could a handler interrupt a wait for this (readable) set? */
static bool may_be_interrupted(const sigset_t *set) {
    return (rest_handlers().handled & ~current_mask() & ~rest_signal_word(set)) != 0;
}

/* As sigtimedwait, with the time already read. */
static int wait_for_signal(struct signals signals, uint64_t deadline, const struct timespec *timeout) {
    int saved = errno;
    signals.result = NEXT(sigtimedwait)(signals.set, signals.info, &(struct timespec){0, 0});
    if (signals.result >= 0 || errno != EAGAIN) return signals.result;
    if (!os_restricted && !may_be_interrupted(signals.set) &&
        rest_in_steps(REST_UNMASKED, deadline, wait_signals, &signals)) {
        if (signals.result >= 0) errno = saved;
        return signals.result;
    }
    if (!os_restricted && rest_entry(0) != REST_UNDISTURBED) {
        errno = EINTR;
        return -1;
    }
    errno = saved;
    struct timespec left;
    if (timeout) left = rest_until(deadline);
    return NEXT(sigtimedwait)(signals.set, signals.info, timeout ? &left : NULL);
}

EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info) {
    if (likely(!rest_wanted(&shim_pool))) return NEXT(sigwaitinfo)(set, info);
    return wait_for_signal((struct signals){.set = set, .info = info}, UINT64_MAX, NULL);
}

EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout) {
    if (likely(!rest_wanted(&shim_pool))) return NEXT(sigtimedwait)(set, info, timeout);
    if (timeout && (!rest_is_readable(timeout, sizeof *timeout) || !rest_is_time(timeout)))
        return NEXT(sigtimedwait)(set, info, timeout);
    uint64_t deadline = timeout ? rest_deadline(timeout->tv_sec, timeout->tv_nsec) : UINT64_MAX;
    bool is_short = timeout && timeout->tv_sec == 0 && timeout->tv_nsec < REST_FIRST_MS * 1000000;
    if (is_short) {
        rest_entry(0);
        struct timespec left = rest_until(deadline);
        return NEXT(sigtimedwait)(set, info, &left);
    }
    return wait_for_signal((struct signals){.set = set, .info = info}, deadline, timeout);
}

EXPORT __typeof__(wait) __wait __attribute__((alias("wait")));
EXPORT __typeof__(waitpid) __waitpid __attribute__((alias("waitpid")));
