/* SPDX-License-Identifier: MIT */
/* os_helper.c: starts the background thread, without the C library knowing, and makes it leave.
 *
 * What was tried, and why it is this:
 * - pthread_create: glibc aborts when setgroups and the like give different results on two threads (setpriv
 *   changes the capabilities of the calling thread only), and stdio and malloc start to lock.
 * - CLONE_VM alone: a process of its own. It survives exec as a zombie, is handed to init or a subreaper when
 *   its parent leaves by _exit, and shows in pidof and in waitpid(__WALL).
 * - CLONE_THREAD, raw: ends with the process by itself, is nobody's child, and glibc does not count it. Those
 *   who count tasks see it, and unshare and setns are refused while it lives: so it is started where there
 *   are several threads anyway, and sent away before such calls (os_helper_dismiss).
 *
 * It may call what needs no more than errno; the program's signal handlers may run on it (os_helper_tls.c).
 * It gives up its capabilities, and leaves when the program changes its user: setuid does not reach it.
 * Valgrind and debuggers do not know such threads: under them none is started.
 *
 * Has the program changed its user? Without capabilities prlimit is allowed on another task only where all
 * its user and group ids are those of the caller. So the thread asks for a limit of the main thread: one
 * call, which needs no /proc, and is not deceived by one that belongs to another namespace or hides what is
 * not dumpable. It needs ids that are all the same: with others no thread is started.
 *
 * Waking: the thread sleeps on the word that the kernel clears when the main thread leaves. A wake that comes
 * just before it sleeps is lost, so it first sleeps for a moment only, and whoever needs it to have been
 * heard repeats it.
 */
#include "os/os_helper.h"
#include "os/os_call.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* A wake may be lost in so many milliseconds before it is heard. */
#define NAP_MS 30

static char *main_pointer; /* the main thread's thread pointer */
static int *main_tid_word; /* NULL until prepared */
static pid_t own_pid;      /* of the process; a vfork child has another one, and this memory */
static pid_t thread_id;    /* the kernel writes 0 here when the thread is gone */
static pid_t last_thread_id;
static bool leave;
static void (*task_entry)(void);
static bool impossible;
static int exit_status;

/* Valgrind knows only threads and forks. It shows itself by the library it preloads. */
static bool under_valgrind(void) {
    for (char **variable = environ; variable && *variable; variable++)
        if (strncmp(*variable, "LD_PRELOAD=", 11) == 0) return strstr(*variable, "vgpreload") != NULL;
    return false;
}

/* Where the C library keeps a thread's id, the kernel clears it at the thread's end: as far from the thread
 * pointer in each thread. So any thread can tell where the main thread's is. */
static bool find_main_word(void) {
    char *here = __builtin_thread_pointer();
    int *word = NULL;
    int id = os_thread_id();
    if (OS_CALL5(SYS_prctl, PR_GET_TID_ADDRESS, &word, 0, 0, 0) < 0) return false;
    size_t offset = (size_t)((char *)word - here);
    if (offset >= PAGE_BYTES || *word != id) return false; /* a thread unknown to the C library */
    os_helper_tls_learn_id(id);
    int *main_word = (int *)(main_pointer + offset);
    if (__atomic_load_n(main_word, __ATOMIC_RELAXED) != own_pid) return false;
    __atomic_store_n(&main_tid_word, main_word, __ATOMIC_RELEASE);
    return true;
}

void os_helper_note_main(void) {
    if (main_pointer) return;
    main_pointer = __builtin_thread_pointer();
    impossible = under_valgrind() || !os_helper_tls_learn();
}

void os_helper_prepare(void) {
    os_helper_note_main();
    if (main_tid_word || impossible) return;
    own_pid = os_restricted ? 0 : os_process_id();
    if (os_restricted || !find_main_word()) WRITE_RELAXED(impossible, true);
}

/* Real, effective and saved ids. */
static bool ids_differ(long number) {
    unsigned id[3];
    return OS_CALL3(number, &id[0], &id[1], &id[2]) < 0 || id[0] != id[1] || id[1] != id[2];
}

/* Also where that can only not be told at the moment. Without /proc it never can, and a debugger needs it as
 * well. */
static bool may_be_traced(void) {
    static char text[512]; /* it is among the first lines; whoever starts the thread is alone */
    long n = os_read_file("/proc/self/status", text, sizeof text);
    if (n <= 0) return n == -EBUSY;
    const char *tracer = os_find_field(text, "\nTracerPid:\t");
    return tracer && *tracer != '0';
}

/* --- in the thread --- */

static bool has_changed_user(void) {
    struct rlimit limit;
    return OS_CALL4(SYS_prlimit64, own_pid, RLIMIT_CORE, NULL, &limit) < 0;
}

static int run(void *ignored) {
    (void)ignored;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    struct sched_param normal = {0};
    os_helper_tls_set_id(os_thread_id());
    /* With capabilities it could not notice a change of user either. */
    if (OS_CALL2(SYS_capset, &header, none) < 0) WRITE_RELAXED(impossible, true);
    OS_CALL3(SYS_sched_setscheduler, 0, SCHED_OTHER, &normal); /* not at a real-time program's priority */
    OS_CALL5(SYS_prctl, PR_SET_NAME, "zeropool", 0, 0, 0);
    task_entry();
    return exit_status;
}

static void *run_known(void *ignored) {
    (void)ignored;
    task_entry();
    __atomic_store_n(&thread_id, 0, __ATOMIC_RELEASE);
    return NULL;
}

/* The status that the main thread left with: the last field of the process's stat file. */
static int main_exit_status(void) {
    char text[1024];
    if (os_read_file("/proc/self/stat", text, sizeof text) <= 0) return 0;
    const char *last = strrchr(text, ' ');
    int code = 0;
    for (last = last ? last + 1 : ""; *last >= '0' && *last <= '9'; last++)
        code = code * 10 + (*last - '0');
    return code >> 8 & 0xff;
}

static void wake(void) {
    OS_CALL3(SYS_futex, main_tid_word, FUTEX_WAKE, INT_MAX);
}

/* The main thread has left by itself, which clears its word. If it was the last one of the program the
 * process is to end, so it must not be us who stays; and since Linux 5.18 the status of whoever ends last is
 * that of the process, so it must be the same. Its end wakes one sleeper only, and a pthread_join may sleep
 * beside us: pass it on. */
static bool main_has_left(void) {
    if (__atomic_load_n(main_tid_word, __ATOMIC_ACQUIRE) == own_pid) return false;
    wake();
    exit_status = main_exit_status();
    return true;
}

bool os_helper_must_leave(void) {
    return main_has_left() || READ_RELAXED(leave) || READ_RELAXED(impossible) ||
           (!SANITIZED && has_changed_user());
}

static void nap(unsigned ms) {
    struct timespec timeout = {ms / 1000, (long)(ms % 1000) * 1000000};
    if (READ_RELAXED(leave)) return;
    /* On that word, and not as a private futex, since so the kernel wakes it. */
    OS_CALL4(SYS_futex, main_tid_word, FUTEX_WAIT, own_pid, &timeout);
    if (!SANITIZED) os_helper_answer_signals();
}

/* Somebody wants it to look around at once. */
static bool look;

void os_helper_sleep(unsigned timeout_ms) {
    uint32_t begin_ms = os_clock_ms(), passed_ms = 0;
    nap(timeout_ms < NAP_MS ? timeout_ms : NAP_MS);
    while ((passed_ms = os_clock_ms() - begin_ms) < timeout_ms && !READ_RELAXED(leave) &&
           !READ_RELAXED(look) && __atomic_load_n(main_tid_word, __ATOMIC_ACQUIRE) == own_pid)
        nap(timeout_ms - passed_ms);
    WRITE_RELAXED(look, false);
}

/* --- in the program's threads --- */

bool os_is_own_process(void) {
    int pid = os_process_id();
    if (pid == own_pid) return true;
    /* Not prepared: a vfork child finds its parent's number where its own should be. */
    if (!own_pid) return !main_pointer || os_helper_tls_id_of(main_pointer) != OS_CALL0(SYS_getppid);
    /* A child nobody has told us of: where it has memory of its own, the C library has noted its number. */
    if (!main_tid_word || __atomic_load_n(main_tid_word, __ATOMIC_RELAXED) != pid) return false;
    own_pid = pid;
    return true;
}

bool os_helper_may_start(void) {
    return !READ_RELAXED(impossible) && main_tid_word && __atomic_load_n(main_tid_word, __ATOMIC_RELAXED) &&
           !__atomic_load_n(&thread_id, __ATOMIC_ACQUIRE);
}

#define THREAD_FLAGS                                                                                         \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |       \
     CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

/* Instrumented code cannot run on a thread that the sanitizer does not know. */
static int start_known(void) {
    pthread_t thread;
    __atomic_store_n(&thread_id, 1, __ATOMIC_RELEASE);
    if (pthread_create(&thread, NULL, run_known, NULL) == 0) {
        pthread_detach(thread);
        return 0;
    }
    __atomic_store_n(&thread_id, 0, __ATOMIC_RELEASE);
    return -EBUSY;
}

int os_helper_start(void (*entry)(void), const void *tls) {
    int fault = os_fault(OS_THREAD);
    if (fault) return -fault;
    if (READ_RELAXED(impossible)) return -ENOSYS;
    if (os_restricted) return -EBUSY;
    /* A vfork child shares our memory but not our process; the thread before must be off its stack, which the
     * kernel tells; before our constructor it is too early. */
    if (!os_helper_may_start() || !os_is_own_process()) return -EAGAIN;
    if (ids_differ(SYS_getresuid) || ids_differ(SYS_getresgid) || !os_room_for_task() || may_be_traced())
        return -EBUSY;
    task_entry = entry;
    WRITE_RELAXED(leave, false);
    if (SANITIZED) return start_known();
    struct os_helper_memory memory;
    if (os_helper_tls_make(tls, &memory)) return -EBUSY;
    int saved = errno, error = 0;
    int id = clone(run, memory.stack_end, THREAD_FLAGS, NULL, &thread_id, memory.pointer, &thread_id);
    if (id < 0)
        error = errno == EAGAIN || errno == ENOMEM ? -EBUSY
                                                   : -ENOSYS; /* a limit, or memory is short; else a filter */
    else
        last_thread_id = id;
    errno = saved;
    return error;
}

bool os_helper_is(int thread) {
    return thread && thread == __atomic_load_n(&thread_id, __ATOMIC_RELAXED);
}

void os_helper_wake(void) {
    if (main_tid_word && __atomic_load_n(&thread_id, __ATOMIC_RELAXED)) wake();
}

void os_helper_look(void) {
    WRITE_RELAXED(look, true);
    os_helper_wake();
}

/* The kernel counts a task for a moment longer than it uses its memory. */
static bool is_gone(void) {
    if (__atomic_load_n(&thread_id, __ATOMIC_ACQUIRE)) return false;
    return SANITIZED || !last_thread_id || OS_CALL3(SYS_tgkill, own_pid, last_thread_id, 0) < 0;
}

#define DISMISS_NAP_NS 1000000
/* Its number may have been given to a thread of the program's meanwhile. */
#define GONE_YIELDS 1000

bool os_helper_dismiss(unsigned timeout_ms) {
    if (!main_tid_word || !os_is_own_process())
        return true; /* no thread, or a vfork child, whose parent owns it */
    uint32_t begin_ms = os_clock_ms();
    for (unsigned n_yields = 0; !is_gone() && n_yields < GONE_YIELDS;) {
        if (os_clock_ms() - begin_ms > timeout_ms) return false;
        WRITE_RELAXED(leave, true);
        wake();
        pid_t id = __atomic_load_n(&thread_id, __ATOMIC_ACQUIRE);
        struct timespec moment = {0, DISMISS_NAP_NS};
        if (id)
            OS_CALL4(SYS_futex, &thread_id, FUTEX_WAIT, id, &moment);
        else
            n_yields++, OS_CALL0(SYS_sched_yield);
    }
    last_thread_id = 0;
    return true;
}

void os_helper_fork_child(void) {
    thread_id = last_thread_id = 0;
    WRITE_RELAXED(leave, false);
    os_helper_tls_forget(); /* a few pages are lost */
    /* The child's one thread need not be the parent's main thread. */
    main_pointer = __builtin_thread_pointer();
    if (!main_tid_word || impossible || os_restricted) return;
    own_pid = os_process_id();
    if (!find_main_word()) impossible = true;
}
