/* SPDX-License-Identifier: MIT */
/* os_sys.c: what machine is this, which CPU, which limits. See os.h for the contract.
 *
 * The kernel is asked directly: the C library's functions lie far apart, and the kernel maps 64 KiB of a
 * library around each page of it that is touched, which shows in the resident size of a small program. They
 * would be cancellation points, too.
 */
#include "os/os.h"
#include "os/os_call.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#define HAVE_RSEQ 1
#endif

bool os_restricted;

/* Spins instead of yielding: about as long as a heap operation holds a lock. */
#define YIELD_PAUSES 200
/* The list of groups may be long, and the line about filters comes after it; the stack may be short. */
#define FILTER_PIECE_BYTES 256

#define RAM_UNKNOWN (4 * GIB)
#define CPUS_UNKNOWN 8

/* 0: unknown. All writers write the same. */
static size_t ram_bytes;
static unsigned n_cpus;

static size_t ask_ram(void) {
    struct sysinfo info;
    if (os_restricted || OS_CALL1(SYS_sysinfo, &info) < 0) return RAM_UNKNOWN;
    return (size_t)info.totalram * info.mem_unit;
}

/* The affinity mask, not sysconf: sysconf reads files in /sys, and the mask is what we may run on. */
static unsigned ask_cpus(void) {
    cpu_set_t set;
    long n_bytes = os_restricted ? -EPERM : OS_CALL3(SYS_sched_getaffinity, 0, sizeof set, &set);
    int n = 0;
    for (long i = 0; i < n_bytes / (long)sizeof(__cpu_mask); i++)
        n += __builtin_popcountl(set.__bits[i]);
    return n > 0 ? (unsigned)n : CPUS_UNKNOWN;
}

void os_learn_machine(void) {
    WRITE_RELAXED(ram_bytes, ask_ram());
    WRITE_RELAXED(n_cpus, ask_cpus());
}

size_t os_ram_bytes(void) {
    size_t known = READ_RELAXED(ram_bytes);
    return known ? known : ask_ram();
}

unsigned os_cpu_count(void) {
    unsigned known = READ_RELAXED(n_cpus);
    return known ? known : ask_cpus();
}

unsigned os_cpu_current(void) {
#ifdef HAVE_RSEQ
    if (__rseq_size > 0) {
        const volatile struct rseq *area =
            (const volatile struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
        int cpu = (int)area->cpu_id;
        if (cpu >= 0) return (unsigned)cpu;
    }
#endif
    unsigned cpu = 0;
    if (!os_restricted) OS_CALL3(SYS_getcpu, &cpu, NULL, NULL);
    return cpu;
}

/* Does the kernel place everything at the same addresses in each run (setarch -R, gdb,
 * kernel.randomize_va_space=0)? Then the stack ends at the highest page there is; otherwise that happens once
 * in millions of runs. The name of the program lies at the stack's very end. To ask for the personality would
 * take a system call, and a filter may be older than the program. */
#define STACK_END 0x7ffffffff000u

static bool addresses_are_fixed(void) {
    const char *name = (const char *)getauxval(AT_EXECFN);
    if (!name) return false;
    uintptr_t end = (uintptr_t)name + strlen(name) + 1;
    return align_up(end, PAGE_BYTES) == STACK_END;
}

uint64_t os_random(void) {
    /* The kernel's 16 random bytes for this exec, stirred with the clock so that a second pool differs. No
     * system call: this runs at the first large allocation, possibly under a seccomp filter. */
    static _Atomic uint64_t n_drawn;
    uint64_t seed[2] = {0, 0};
    const void *bytes = (const void *)getauxval(AT_RANDOM);
    if (bytes) memcpy(seed, bytes, sizeof seed);
    uint64_t x = seed[0] ^ (seed[1] << 1) ^ os_clock_ns();
    /* Where addresses are the same in each run, ours are, too. */
    if (addresses_are_fixed())
        x = 0x9e3779b97f4a7c15u * (atomic_fetch_add_explicit(&n_drawn, 1, memory_order_relaxed) + 1);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

int os_process_id(void) {
    return (int)OS_CALL0(SYS_getpid);
}

int os_thread_id(void) {
    return (int)OS_CALL0(SYS_gettid);
}

void os_yield(void) {
    if (!os_restricted) {
        OS_CALL0(SYS_sched_yield);
        return;
    }
    for (int i = 0; i < YIELD_PAUSES; i++)
        cpu_pause();
}

/* In a mask of what is blocked: SIGKILL, which never is. The mask was not changed, and is not to be. */
#define MASK_UNTOUCHED ((uint64_t)1 << (SIGKILL - 1))

uint64_t os_block_signals(void) {
    uint64_t all = ~(uint64_t)0, before = 0;
    if (os_restricted || OS_CALL4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all) < 0)
        return MASK_UNTOUCHED;
    return before;
}

void os_restore_signals(uint64_t before) {
    if (before != MASK_UNTOUCHED) OS_CALL4(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
}

/* Is it only for now that a file cannot be opened? */
static bool is_short_of_means(long error) {
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

long os_read_file(const char *path, char *buffer, size_t size) {
    if (os_restricted) return -EPERM;
    long fd = OS_CALL4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    long n = fd < 0 ? fd : OS_CALL3(SYS_read, fd, buffer, size - 1);
    if (fd >= 0) OS_CALL1(SYS_close, fd);
    if (n < 0) return is_short_of_means(n) ? -EBUSY : n;
    buffer[n] = '\0';
    return n;
}

const char *os_find_field(const char *text, const char *name) {
    const char *found = strstr(text, name);
    return found ? found + strlen(name) : NULL;
}

enum filter_state os_read_filter_state(void) {
    static const char name[] = "\nSeccomp:\t";
    char piece[FILTER_PIECE_BYTES];
    long fd = OS_CALL4(SYS_openat, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return FILTER_UNKNOWN;
    enum filter_state state = FILTER_UNKNOWN;
    size_t n_same = 0; /* characters of the name that have just been read */
    bool found = false;
    for (long n; !found && (n = OS_CALL3(SYS_read, fd, piece, sizeof piece)) > 0;) {
        state = FILTER_NONE; /* if there is no such line: a kernel without filters */
        for (long i = 0; i < n && !found; i++) {
            found = name[n_same] == '\0';
            if (found) state = piece[i] == '0' ? FILTER_NONE : FILTER_IN_FORCE;
            n_same = piece[i] == name[n_same] ? n_same + 1 : piece[i] == name[0];
        }
    }
    OS_CALL1(SYS_close, fd);
    return state;
}

enum huge_pages os_huge_pages(void) {
    char text[64];
    long n = os_read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text);
    if (n == -EBUSY) return HUGE_UNKNOWN;
    if (n <= 0) return HUGE_NEVER;
    if (strstr(text, "[madvise]")) return HUGE_BY_ADVICE;
    return strstr(text, "[always]") ? HUGE_UNASKED : HUGE_NEVER;
}

bool os_has_several_nodes(void) {
    char text[64];
    if (os_read_file("/sys/devices/system/node/online", text, sizeof text) <= 0) return false;
    return strpbrk(text, "-,") != NULL;
}
