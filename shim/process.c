/* SPDX-License-Identifier: MIT */
/* process.c: calls around which the background thread must be out of the way, or be told something.
 *
 * - fork, _Fork: who counts the process's tasks around a fork finds none of ours (CPython warns of threads).
 *   Only where it is the only company: where the program has threads of its own, one more says nothing new.
 * - unshare, setns: the kernel refuses several of these to a process with two tasks; and a task left behind
 *   would hold the old namespaces.
 * - pthread_create: where there is no room for one more task, ours gives up its place; the same for a fork.
 * - tgkill and syscalls: a signal sent to our thread is looked for by it when it is woken
 *   (os_helper_signals.c).
 * - prctl, syscall: filters, see sandbox.h.
 * - syscall: limits, see resource.h.
 *
 * vfork and clone are not interposed: the first cannot be without ending in the wrong frame, and who calls
 * the second counts no tasks.
 *
 * The calls behind us are looked up in the constructor. Before that prctl and
 * syscall go straight to the kernel, since an allocator behind us may make them while it sets itself up and
 * must not be entered again by dlsym; the others are looked up when they are called.
 */
#include "process.h"

#include "behind.h"
#include "os/os.h"
#include "os/os_call.h"
#include "process/fork.h"
#include "process/helper.h"
#include "resource.h"
#include "sandbox.h"
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Who waits so long for the thread to leave goes on without. In a namespace it would be in the way for good.
 */
#define FORK_WAIT_MS 100
#define PLACE_WAIT_MS 1000
#define NAMESPACE_WAIT_MS 2000

typedef long syscall_function(long, long, long, long, long, long, long);
typedef int prctl_function(int, unsigned long, unsigned long, unsigned long, unsigned long);

static long result_of(long result) {
    if (result >= 0 || result < -4095) return result;
    errno = (int)-result;
    return -1;
}

static long raw_syscall(long number, long a, long b, long c, long d, long e, long f) {
    return result_of(os_call(number, a, b, c, d, e, f));
}

static int raw_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    return (int)result_of(OS_CALL5(SYS_prctl, option, a, b, c, d));
}

/* Named in assembly below. */
OS_SEALED syscall_function *process_next_syscall HIDDEN = raw_syscall;
OS_SEALED static prctl_function *next_prctl = raw_prctl;
OS_SEALED static pid_t (*next_fork)(void);
OS_SEALED static pid_t (*next__Fork)(void);
OS_SEALED static int (*next_unshare)(int);
OS_SEALED static int (*next_setns)(int, int);
OS_SEALED static int (*next_tgkill)(pid_t, pid_t, int);
OS_SEALED static int (*next_pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static void *find(const char *name) {
    int saved = errno;
    void *symbol = dlsym(RTLD_NEXT, name);
    if (!symbol) dlerror(); /* clears our error from the program's view */
    errno = saved;
    return symbol;
}

/* The function behind us, or NULL if there is none. Looked up at each call until the constructor writes the
 * pointers. */
#define NEXT(name) (next_##name ? next_##name : (__typeof__(next_##name))find(#name))

#define NAME(name) #name
#define POINTER(name) (void **)&next_##name
#define ALL(X) X(fork), X(_Fork), X(unshare), X(setns), X(tgkill), X(pthread_create), X(prctl)

void process_resolve(void) {
    static const char *const names[] = {ALL(NAME), "syscall"};
    void **const pointers[] = {ALL(POINTER), (void **)&process_next_syscall};
    enum { N = sizeof names / sizeof names[0] };
    void *found[N];
    behind_find(names, found, N);
    for (int i = 0; i < N; i++)
        if (found[i]) __atomic_store_n(pointers[i], found[i], __ATOMIC_RELEASE);
}

/* --- fork --- */

static void before_fork(void) {
    if (helper_is_only_company()) helper_dismiss(FORK_WAIT_MS);
}

static void after_fork_in_child(void) {
    if (fork_door)
        fork_child();
    else
        helper_fork_child();
}

/* error: errno after a failure. */
static bool gave_up_its_place(int error) {
    return error == EAGAIN && background_runs() && helper_dismiss(PLACE_WAIT_MS);
}

static pid_t fork_by(pid_t (*function)(void)) {
    before_fork();
    pid_t pid = function();
    if (pid < 0 && gave_up_its_place(errno)) pid = function();
    if (pid < 0 && errno == ENOMEM && shim_make_room_for_copy()) pid = function();
    if (pid == 0) after_fork_in_child();
    return pid;
}

EXPORT pid_t fork(void) {
    return fork_by(NEXT(fork));
}

static pid_t raw_fork(void) {
    return (pid_t)result_of(OS_CALL0(SYS_fork));
}

pid_t _Fork(void);
EXPORT pid_t _Fork(void) {
    pid_t (*function)(void) = NEXT(_Fork);
    return fork_by(function ? function : raw_fork); /* glibc has it since 2.34 */
}

/* --- namespaces --- */

EXPORT int unshare(int flags) {
    if (flags) helper_dismiss(NAMESPACE_WAIT_MS);
    return NEXT(unshare)(flags);
}

EXPORT int setns(int fd, int type) {
    helper_dismiss(NAMESPACE_WAIT_MS);
    return NEXT(setns)(fd, type);
}

/* --- threads --- */

/* What the C library maps for a thread's stack. */
static size_t stack_bytes(const pthread_attr_t *attributes) {
    size_t size = 0;
    if (attributes && pthread_attr_getstacksize(attributes, &size) == 0 && size) return size;
    struct rlimit limit;
    bool known = getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    return known ? limit.rlim_cur : 8 * MIB;
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *),
                          void *argument) {
    if (!NEXT(pthread_create)) return EAGAIN; /* before glibc 2.34, without libpthread */
    int error = NEXT(pthread_create)(thread, attributes, routine, argument);
    if (unlikely(error) && gave_up_its_place(error))
        error = NEXT(pthread_create)(thread, attributes, routine, argument);
    /* Idle memory of the pool may leave no room for the stack. */
    if (unlikely(error == EAGAIN) && shim_make_room(stack_bytes(attributes)))
        error = NEXT(pthread_create)(thread, attributes, routine, argument);
    return error;
}

static void note_signal(long result, long thread) {
    if (result == 0 && os_helper_is((int)thread)) os_helper_wake();
}

EXPORT int tgkill(pid_t process, pid_t thread, int signal) {
    int result = NEXT(tgkill) ? NEXT(tgkill)(process, thread, signal)
                              : (int)result_of(OS_CALL3(SYS_tgkill, process, thread, signal));
    note_signal(result, thread);
    return result;
}

/* --- filters --- */

int shim_prctl(int option, unsigned long a, unsigned long b, unsigned long c,
               unsigned long d) __asm__("prctl");

/* Its variable arguments are in registers in either case. */
EXPORT int shim_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    if (likely(!sandbox_is_filter_call(SYS_prctl, option))) return next_prctl(option, a, b, c, d);
    sandbox_before_filter();
    int result = next_prctl(option, a, b, c, d);
    sandbox_after_filter(result == 0);
    return result;
}

/* Has a filter been installed? One for all threads that fails names the thread that was in its way. */
static bool was_installed(long number, long flags, long result) {
    return result == 0 || (result > 0 && number == SYS_seccomp && flags & SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

syscall_function process_noticed_syscall HIDDEN;

long process_noticed_syscall(long number, long a, long b, long c, long d, long e, long f) {
    bool filters = sandbox_is_filter_call(number, a);
    resource_before_syscall(number, a, b, c);
    if (filters)
        sandbox_before_filter();
    else if (number == SYS_setns || (number == SYS_unshare && a))
        helper_dismiss(NAMESPACE_WAIT_MS);
    long result = process_next_syscall(number, a, b, c, d, e, f);
    if (filters)
        sandbox_after_filter(was_installed(number, b, result));
    else if (number == SYS_tkill)
        note_signal(result, a);
    else if (number == SYS_tgkill || number == SYS_rt_tgsigqueueinfo)
        note_signal(result, b);
    return result;
}

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define NOTICE(number) "cmpq $" TEXT(number) ", %rdi\n\tje process_noticed_syscall\n\t"

/* All other calls are a jump that leaves registers and stack as they are: no argument is misread or lost, and
 * calls that return on another stack work. The arguments of syscall lie where those of syscall_function
 * do. */
__attribute__((naked, no_profile_instrument_function)) EXPORT long syscall(long number, ...) {
    __asm__(NOTICE(__NR_prctl) NOTICE(__NR_tkill) NOTICE(__NR_tgkill) NOTICE(__NR_unshare)
                NOTICE(__NR_rt_tgsigqueueinfo) NOTICE(__NR_setns) NOTICE(__NR_seccomp) NOTICE(__NR_setrlimit)
                    NOTICE(__NR_prlimit64) "jmp *process_next_syscall(%rip)");
}
