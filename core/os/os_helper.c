/* SPDX-License-Identifier: MIT */
/* os_helper.c: starts the background thread, without the C library knowing.
 *
 * What was tried, and why it is this:
 *   pthread_create      glibc aborts when setgroups and the like give different results on two threads (setpriv changes the
 *                       capabilities of the calling thread only), and stdio and malloc start to lock
 *   CLONE_VM alone      a process of its own: survives exec as a zombie, is handed to init or a subreaper when its parent leaves by
 *                       _exit, and shows in pidof and in waitpid(__WALL)
 *   CLONE_THREAD, raw   ends with the process by itself, is nobody's child, and glibc does not count it. It remains that
 *                       unshare(CLONE_NEWUSER) is refused while it lives, so it is not started in programs that import unshare
 *                       or setns, and leaves when there is nothing left to give back.
 * It has its own stack and its own zeroed thread-local storage, and may only call what needs no more than errno (the wrappers of
 * os_mem.c, os_clock_ms, os_membarrier). It gives up its capabilities, and leaves when the program changes its user: setuid
 * does not reach it. Valgrind and debuggers do not know such threads: under them none is started.
 */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES (64 * KIB)
/* Above the thread pointer. glibc's descriptor of a thread ends with what programs see of restartable sequences. */
#define TCB_BYTES (3 * KIB)
#define PROCESSES_NEEDED 256
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

bool os_helper_narrow;

static int *main_tid_word;
static pid_t own_pid;
static uid_t own_uid;
static pid_t thread_id; /* the kernel writes 0 here when the thread is gone */
static char *memory;    /* stack, thread-local storage, control block */
static size_t tls_bytes;
static void (*task_entry)(void);
static bool impossible;
static int exit_status;

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
    impossible = os_thread_id() != os_process_id() || under_valgrind() ||
                 prctl(PR_GET_TID_ADDRESS, &main_tid_word) != 0;
    errno = saved;
}

/* How far below the thread pointer the variables lie that the thread needs. */
static size_t tls_needed(const void *tls)
{
    uintptr_t pointer = (uintptr_t)__builtin_thread_pointer();
    size_t to_errno = pointer - (uintptr_t)&errno, to_ours = pointer - (uintptr_t)tls;
    return align_up(max_size(to_errno, to_ours), CACHE_LINE);
}

/* Each thread counts; where the limit is tight, the program needs them all. */
static bool few_processes_allowed(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NPROC, &limit) == 0 && limit.rlim_cur < PROCESSES_NEEDED;
}

/* -ENOSYS if that cannot be told. */
static int refuse_if_traced(void)
{
    char text[512]; /* it is among the first lines */
    long n = os_read_file("/proc/self/status", text, sizeof text);
    if (n == -EBUSY) return -EBUSY;
    const char *tracer = n > 0 ? strstr(text, "TracerPid:\t") : NULL;
    if (!tracer) return -ENOSYS;
    return tracer[11] == '0' ? 0 : -EBUSY;
}

/* Writes a positive number that ends before `end`; returns where it starts. */
static char *write_decimal(char *end, int value)
{
    *--end = '\0';
    for (; value; value /= 10)
        *--end = (char)('0' + value % 10);
    return end;
}

static int run(void *ignored)
{
    (void)ignored;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    struct sched_param normal = {0};
    syscall(SYS_capset, &header, none);
    syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &normal); /* not at a real-time program's priority */
    syscall(SYS_prctl, PR_SET_NAME, "zeropool", 0, 0, 0);
    task_entry();
    return exit_status;
}

static void *run_known(void *ignored)
{
    (void)ignored;
    task_entry();
    __atomic_store_n(&thread_id, 0, __ATOMIC_RELEASE);
    return NULL;
}

/* The status that the main thread left with: the last field of its stat file. */
static int main_exit_status(void)
{
    char path[64], text[1024];
    char digits[24], *number = write_decimal(digits + sizeof digits, own_pid);
    strcpy(stpcpy(stpcpy(path, "/proc/self/task/"), number), "/stat");
    if (os_read_file(path, text, sizeof text) <= 0) return 0;
    const char *last = strrchr(text, ' ');
    int code = 0;
    for (last = last ? last + 1 : ""; *last >= '0' && *last <= '9'; last++)
        code = code * 10 + (*last - '0');
    return code >> 8 & 0xff;
}

/* The main thread has left by itself, which clears its word. If it was the last one of the program the process is to end, so it must
 * not be us who stays; and since Linux 5.18 the status of whoever ends last is that of the process, so it must be the same.
 * Its end wakes one sleeper only, and a pthread_join may sleep beside us: pass it on. */
static bool main_has_left(void)
{
    if (__atomic_load_n(main_tid_word, __ATOMIC_ACQUIRE) == own_pid) return false;
    syscall(SYS_futex, main_tid_word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    exit_status = main_exit_status();
    return true;
}

bool os_helper_must_leave(void)
{
    if (main_has_left()) return true;
    if (os_helper_narrow) return false;
    /* A program that gave up its rights must not find them in a thread of its own. */
    struct stat status;
    char path[32] = "/proc/", digits[24];
    strcat(path, write_decimal(digits + sizeof digits, own_pid));
    return syscall(SYS_newfstatat, AT_FDCWD, path, &status, 0) == 0 ? status.st_uid != own_uid : own_uid == 0;
}

void os_helper_sleep(unsigned timeout_ms)
{
    struct timespec timeout = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};
    /* On that word, and not as a private futex, since so the kernel wakes it. */
    syscall(SYS_futex, main_tid_word, FUTEX_WAIT, own_pid, &timeout, NULL, 0);
}

#define THREAD_FLAGS                                                                                           \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |          \
     CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

static int map_stack(const void *tls)
{
    /* Stack, thread-local storage and control block end together at the end of the mapping: two pages are touched. */
    tls_bytes = tls_needed(tls);
    size_t used = STACK_BYTES + tls_bytes + TCB_BYTES, length = PAGE_BYTES + align_up(used, PAGE_BYTES);
    void *mapped = NULL;
    int error = os_map(length, &mapped);
    if (error) return error;
    os_calls.mprotect(mapped, PAGE_BYTES, PROT_NONE); /* the guard below the stack */
    memory = (char *)mapped + length - used;
    return 0;
}

int os_helper_start(void (*entry)(void), const void *tls)
{
    int fault = os_fault(OS_THREAD);
    if (fault) return -fault;
    int saved = errno;
    int error = -EAGAIN;
    if (!impossible && !main_tid_word) goto out; /* before our constructor: later */
    error = -ENOSYS;
    if (impossible) goto out;
    error = -EAGAIN;
    /* A vfork child shares our memory but not our process; and the one before must be off its stack, which the kernel tells. */
    if (*main_tid_word != os_process_id() || __atomic_load_n(&thread_id, __ATOMIC_ACQUIRE)) goto out;
    error = few_processes_allowed() ? -EBUSY : refuse_if_traced();
    if (error) goto out;
    own_pid = os_process_id();
    own_uid = (uid_t)syscall(SYS_geteuid);
    if (!memory && map_stack(tls)) error = -EBUSY;
    if (error) goto out;
    uintptr_t *tcb = (uintptr_t *)(memory + STACK_BYTES + tls_bytes);
    tcb[0] = tcb[2] = (uintptr_t)tcb; /* what the ABI and glibc's THREAD_SELF expect */
    task_entry = entry;
    if (SANITIZED) { /* instrumented code cannot run on a thread that the sanitizer does not know */
        pthread_t thread;
        __atomic_store_n(&thread_id, 1, __ATOMIC_RELEASE);
        error = pthread_create(&thread, NULL, run_known, NULL) ? -EBUSY : 0;
        if (!error) pthread_detach(thread);
        else __atomic_store_n(&thread_id, 0, __ATOMIC_RELEASE);
        goto out;
    }
    if (clone(run, memory + STACK_BYTES, THREAD_FLAGS, NULL, &thread_id, tcb, &thread_id) < 0)
        error = errno == EAGAIN || errno == ENOMEM ? -EBUSY : -ENOSYS; /* a limit, or memory is short; else a filter */
out:
    errno = saved;
    return error;
}

void os_helper_fork_child(void)
{
    thread_id = 0;
    memory = NULL; /* a copy of a stack that somebody was using; a few pages are lost */
    /* The one thread of the child may be another than the main thread was. */
    if (impossible || os_restricted) return;
    int saved = errno;
    if (prctl(PR_GET_TID_ADDRESS, &main_tid_word)) impossible = true;
    errno = saved;
}
