/* SPDX-License-Identifier: MIT */
/* os_helper.c: starts the background task: a task that shares our memory but is not a thread of our process.
 *
 * A thread would be seen by what the program does later: the kernel refuses unshare(CLONE_NEWUSER) to a process with two threads,
 * glibc aborts when setuid or setgroups gives different results on two threads (setpriv changes capabilities of the
 * calling thread only), stdio starts to lock. A task made with CLONE_VM alone touches none of that. The price:
 *   - it has no place in glibc: it runs on its own stack with its own zeroed thread-local storage, and may only call what needs
 *     no more than errno (the wrappers of os_mem.c, os_clock_ms, os_membarrier);
 *   - it must go when our memory goes, by exit or exec: the kernel clears the main thread's tid word and wakes its futex at
 *     that moment, because the memory has a second user; the task sleeps on that very word;
 *   - it is listed as a process of its own (named zeropool), a child that only wait4(__WCLONE) sees;
 *   - valgrind and debuggers do not know such tasks: under them none is started.
 * It holds no descriptors and no working directory, gives up its capabilities, and leaves when the program changes its user.
 */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pool/tcache.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#define STACK_BYTES (64 * KIB)
#define TCB_BYTES 4096

static int *main_tid_word;
static int parent_pid, task_pid;
static uid_t parent_uid;
static char *memory;
static size_t memory_bytes, tls_bytes;
static void (*task_entry)(void);
static bool impossible;
static uint32_t detached; /* 1 once the task holds nothing of the program's but its memory, 2 if it could not */

/* Valgrind knows only threads and forks. It shows itself by the library it preloads. */
static bool under_valgrind(void)
{
    for (char **variable = environ; variable && *variable; variable++)
        if (strncmp(*variable, "LD_PRELOAD=", 11) == 0) return strstr(*variable, "vgpreload") != NULL;
    return false;
}

void os_helper_prepare(void)
{
    if (main_tid_word || impossible) return;
    int saved = errno;
    impossible = syscall(SYS_gettid) != getpid() || under_valgrind() ||
                 prctl(PR_GET_TID_ADDRESS, &main_tid_word) != 0;
    errno = saved;
}

/* How far below the thread pointer the variables lie that the task needs. */
static size_t tls_needed(void)
{
    uintptr_t pointer = (uintptr_t)__builtin_thread_pointer();
    size_t to_errno = pointer - (uintptr_t)&errno, to_ours = pointer - (uintptr_t)&tcache_tls;
    return align_up(max_size(to_errno, to_ours) + PAGE_BYTES, PAGE_BYTES);
}

/* After unshare(CLONE_NEWPID) the next child is the first process of a new namespace, which dies with it. */
static bool makes_namespace(void)
{
    char own[64], children[64];
    ssize_t n = readlink("/proc/self/ns/pid", own, sizeof own);
    ssize_t m = readlink("/proc/self/ns/pid_for_children", children, sizeof children);
    return n <= 0 || n != m || memcmp(own, children, (size_t)n) != 0;
}

static bool is_traced(void)
{
    char text[2048];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return true;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return true;
    text[n] = '\0';
    const char *tracer = strstr(text, "TracerPid:\t");
    return !tracer || tracer[11] != '0';
}

/* In the task: let go of everything but the memory. */
static bool detach(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    /* Kernels before 5.9 cannot: then leave rather than hold the program's pipes and locks open. */
    bool closed = syscall(SYS_close_range, 0u, ~0u, 0u) == 0;
    syscall(SYS_chdir, "/");
    syscall(SYS_setsid);
    syscall(SYS_capset, &header, none);
    syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    syscall(SYS_prctl, PR_SET_NAME, "zeropool", 0, 0, 0);
    return closed;
}

static int run(void *ignored)
{
    (void)ignored;
    bool good = detach();
    __atomic_store_n(&detached, good ? 1 : 2, __ATOMIC_RELEASE);
    syscall(SYS_futex, &detached, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    if (good) task_entry();
    return 0;
}

bool os_helper_must_leave(void)
{
    if (__atomic_load_n(main_tid_word, __ATOMIC_ACQUIRE) != parent_pid) return true;
    if (syscall(SYS_getppid) != parent_pid) return true;
    /* A program that gave up its rights must not find them in a task that shares its memory. */
    struct stat status;
    char path[32] = "/proc/", digits[24], *end = digits + 23;
    *end = '\0';
    for (int pid = parent_pid; pid; pid /= 10)
        *--end = (char)('0' + pid % 10);
    strcat(path, end);
    return stat(path, &status) == 0 && status.st_uid != parent_uid;
}

void os_helper_sleep(unsigned timeout_ms)
{
    struct timespec timeout = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};
    syscall(SYS_futex, main_tid_word, FUTEX_WAIT, parent_pid, &timeout, NULL, 0);
}

int os_helper_start(void (*entry)(void))
{
    int fault = os_fault(OS_THREAD);
    if (fault) return -fault;
    int saved = errno;
    int error = -ENOSYS;
    if (impossible || !main_tid_word || is_traced() || makes_namespace()) goto out;
    if (task_pid && waitpid(task_pid, NULL, __WCLONE | WNOHANG) == 0) goto out; /* still there */
    parent_pid = getpid();
    parent_uid = geteuid();
    task_pid = 0;
    if (*main_tid_word != parent_pid) goto out; /* a vfork child, or the main thread has gone */
    if (!memory) {
        tls_bytes = tls_needed();
        memory_bytes = STACK_BYTES + tls_bytes + TCB_BYTES;
        void *mapped = NULL;
        error = os_map(PAGE_BYTES + memory_bytes, &mapped);
        if (error) goto out;
        mprotect(mapped, PAGE_BYTES, PROT_NONE); /* the guard below the stack */
        memory = (char *)mapped + PAGE_BYTES;
    }
    uintptr_t *tcb = (uintptr_t *)(memory + STACK_BYTES + tls_bytes);
    tcb[0] = tcb[2] = (uintptr_t)tcb; /* what the ABI and glibc's THREAD_SELF expect */
    task_entry = entry;
    detached = 0;
    /* Raw, so that the C library's own signals are blocked too: handlers must never run on that stack. */
    uint64_t all = ~(uint64_t)0, before = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
    int pid = clone(run, memory + STACK_BYTES, CLONE_VM | CLONE_SETTLS, NULL, NULL, tcb, NULL);
    error = pid < 0 ? -errno : 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof all);
    if (pid > 0) {
        task_pid = pid;
        /* Wait: a pipe that the program closes next must be closed. */
        while (!__atomic_load_n(&detached, __ATOMIC_ACQUIRE))
            syscall(SYS_futex, &detached, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
        if (detached != 1) error = -ENOSYS;
    }
out:
    errno = saved;
    return error;
}

void os_helper_fork_child(void)
{
    task_pid = 0;
    memory = NULL; /* a copy of a stack that somebody was using; a few pages are lost */
}

void os_helper_stop(void)
{
    if (!task_pid || getpid() != parent_pid) return;
    int saved = errno;
    kill(task_pid, SIGKILL);
    waitpid(task_pid, NULL, __WCLONE);
    task_pid = 0;
    errno = saved;
}
