/* SPDX-License-Identifier: MIT */
/* os_sys.c: what machine is this, which CPU, which limits. See os.h for the contract.
 *
 * Most is asked by syscall(): the C library's functions lie far apart, and the kernel maps 64 KiB of a library around each page of it that is
 * touched, which shows in the resident size of a small program. They would be cancellation points, too.
 */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#define HAVE_RSEQ 1
#endif

bool os_restricted;

size_t os_ram_bytes(void)
{
    struct sysinfo info;
    int saved = errno;
    long failed = syscall(SYS_sysinfo, &info);
    errno = saved;
    if (failed) return 4 * GIB;
    return (size_t)info.totalram * info.mem_unit;
}

unsigned os_cpu_count(void)
{
    /* The affinity mask, not sysconf: sysconf reads files in /sys, and the mask is what we may run on. */
    cpu_set_t set;
    int saved = errno;
    long n_bytes = syscall(SYS_sched_getaffinity, 0, sizeof set, &set);
    errno = saved;
    int n = 0;
    for (long i = 0; i < n_bytes / (long)sizeof(__cpu_mask); i++)
        for (__cpu_mask bits = set.__bits[i]; bits; bits &= bits - 1)
            n++;
    return n > 0 ? (unsigned)n : 8;
}

unsigned os_cpu_current(void)
{
#ifdef HAVE_RSEQ
    if (__rseq_size > 0) {
        const volatile struct rseq *area =
            (const volatile struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
        int cpu = (int)area->cpu_id;
        if (cpu >= 0) return (unsigned)cpu;
    }
#endif
    if (os_restricted) return 0;
    int saved = errno;
    unsigned cpu = 0;
    syscall(SYS_getcpu, &cpu, NULL, NULL);
    errno = saved;
    return cpu;
}

uint64_t os_random(void)
{
    /* The kernel's 16 random bytes for this exec, stirred with the clock so that a second pool differs. No system
     * call: this runs at the first large allocation, possibly under a seccomp filter. */
    uint64_t seed[2] = {0, 0};
    const void *bytes = (const void *)getauxval(AT_RANDOM);
    if (bytes) memcpy(seed, bytes, sizeof seed);
    uint64_t x = seed[0] ^ (seed[1] << 1) ^ os_clock_ns();
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

int os_process_id(void) { return (int)syscall(SYS_getpid); }

int os_thread_id(void) { return (int)syscall(SYS_gettid); }

void os_yield(void)
{
    int saved = errno;
    syscall(SYS_sched_yield);
    errno = saved;
}

static void set_signals(uint64_t mask, uint64_t *before)
{
    int saved = errno;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, before, sizeof mask);
    errno = saved;
}

uint64_t os_block_signals(void)
{
    uint64_t before = 0;
    set_signals(~(uint64_t)0, &before);
    return before;
}

void os_restore_signals(uint64_t before) { set_signals(before, NULL); }

/* Is it only for now that a file cannot be opened? */
static bool is_short_of_means(int error) { return error == EMFILE || error == ENFILE || error == ENOMEM; }

long os_read_file(const char *path, char *buffer, size_t size)
{
    int saved = errno;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    long n = fd < 0 ? -1 : syscall(SYS_read, fd, buffer, size - 1);
    if (n < 0) n = is_short_of_means(errno) ? -EBUSY : -errno;
    if (fd >= 0) syscall(SYS_close, fd);
    errno = saved;
    if (n >= 0) buffer[n] = '\0';
    return n;
}

enum huge_pages os_huge_pages(void)
{
    char text[64];
    long n = os_read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text);
    if (n == -EBUSY) return HUGE_UNKNOWN;
    if (n <= 0) return HUGE_NEVER;
    if (strstr(text, "[madvise]")) return HUGE_BY_ADVICE;
    return strstr(text, "[always]") ? HUGE_UNASKED : HUGE_NEVER;
}

bool os_has_several_nodes(void)
{
    char text[64];
    if (os_read_file("/sys/devices/system/node/online", text, sizeof text) <= 0) return false;
    return strpbrk(text, "-,") != NULL;
}
