/* SPDX-License-Identifier: MIT */
/* os_clock.c: what time it is, asked of the vDSO itself. See os.h for the contract.
 *
 * Not through the C library's clock_gettime: that function lies alone among functions that few programs call,
 * and the kernel maps 64 KiB of a library around each page that is touched. Nor do those get in the way who
 * replace that function to feign another time. Where the vDSO is not to be had (valgrind hides it) the C
 * library is asked after all. Under a seccomp filter only what never becomes a system call is asked: the
 * coarse clock (others do where the machine's clock cannot be read by programs), or nobody.
 */
#include "os/os.h"

#include <elf.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

typedef int gettime_function(clockid_t clock, struct timespec *now);

OS_SEALED static gettime_function *gettime;

/* Under a filter, without the vDSO: time passes by being asked for, so that every wait ends. */
#define STEP_NS 1000
static int count_up(clockid_t clock, struct timespec *now) {
    static uint64_t steps;
    (void)clock;
    uint64_t ns = __atomic_add_fetch(&steps, 1, __ATOMIC_RELAXED) * STEP_NS;
    *now = (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    return 0;
}

/* Addresses in its tables are offsets: the loader leaves the vDSO as it is. */
static gettime_function *find(const char *image) {
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
    const Elf64_Phdr *segments = (const Elf64_Phdr *)(image + header->e_phoff);
    const Elf64_Dyn *entry = NULL;
    const char *base = NULL;
    for (int i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type == PT_LOAD && !base) base = image + segments[i].p_offset - segments[i].p_vaddr;
        if (segments[i].p_type == PT_DYNAMIC) entry = (const Elf64_Dyn *)(image + segments[i].p_offset);
    }
    const Elf64_Sym *symbols = NULL;
    const char *names = NULL;
    const Elf64_Word *hash = NULL;
    for (; base && entry && entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_SYMTAB) symbols = (const Elf64_Sym *)(base + entry->d_un.d_ptr);
        if (entry->d_tag == DT_STRTAB) names = base + entry->d_un.d_ptr;
        if (entry->d_tag == DT_HASH) hash = (const Elf64_Word *)(base + entry->d_un.d_ptr);
    }
    if (!symbols || !names || !hash) return NULL;
    for (Elf64_Word i = 0; i < hash[1]; i++) /* a dozen */
        if (symbols[i].st_shndx != SHN_UNDEF &&
            strcmp(names + symbols[i].st_name, "__vdso_clock_gettime") == 0)
            return (gettime_function *)(uintptr_t)(base + symbols[i].st_value);
    return NULL;
}

void os_clock_prepare(void) {
    const char *image = (const char *)getauxval(AT_SYSINFO_EHDR);
    gettime_function *found = image ? find(image) : NULL;
    __atomic_store_n(&gettime, found ? found : clock_gettime, __ATOMIC_RELAXED);
}

static struct timespec now_of(clockid_t clock) {
    gettime_function *function = READ_RELAXED(gettime);
    if (unlikely(!function)) function = clock_gettime; /* before os_clock_prepare */
    if (unlikely(os_restricted)) {
        clock = CLOCK_MONOTONIC_COARSE;
        if (function == clock_gettime) function = count_up;
    }
    struct timespec now = {0, 0};
    function(clock, &now);
    return now;
}

#ifdef ZP_FAULT
uint32_t os_fault_clock_ms;
#else
#define os_fault_clock_ms 0
#endif

uint32_t os_clock_ms(void) {
    if (os_fault_clock_ms) return os_fault_clock_ms;
    struct timespec now = now_of(CLOCK_MONOTONIC_COARSE);
    return (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}

static uint64_t ns_of(clockid_t clock) {
    struct timespec now = now_of(clock);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t os_clock_ns(void) {
    return ns_of(CLOCK_MONOTONIC);
}

uint64_t os_thread_ns(void) {
    return ns_of(CLOCK_THREAD_CPUTIME_ID);
}
