/* SPDX-License-Identifier: MIT */
/* system.c: finds the definitions of the memory calls behind us. See system.h. */
#include "system.h"

#include "bypass.h"
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- the calls themselves; libc's syscall() sets errno as the wrappers do --- */

static void *raw_mmap(void *start, size_t length, int protection, int flags, int fd, off_t offset) {
    return (void *)syscall(SYS_mmap, start, length, protection, flags, fd, offset);
}

static int raw_munmap(void *start, size_t length) {
    return (int)syscall(SYS_munmap, start, length);
}

static void *raw_mremap(void *from, size_t length, size_t new_length, int flags, void *to) {
    return (void *)syscall(SYS_mremap, from, length, new_length, flags, to);
}

static int raw_madvise(void *start, size_t length, int advice) {
    return (int)syscall(SYS_madvise, start, length, advice);
}

static int raw_mprotect(void *start, size_t length, int protection) {
    return (int)syscall(SYS_mprotect, start, length, protection);
}

static int raw_pkey_mprotect(void *start, size_t length, int protection, int key) {
    return (int)syscall(SYS_pkey_mprotect, start, length, protection, key);
}

static int raw_mlock(const void *start, size_t length) {
    return (int)syscall(SYS_mlock, start, length);
}

/* Returns the error, and leaves errno alone. Advice to forget contents is not passed on: the kernel would
 * take it at its word. */
static int raw_posix_madvise(void *start, size_t length, int advice) {
    if (advice == POSIX_MADV_DONTNEED) return 0;
    int saved = errno;
    int error = syscall(SYS_madvise, start, length, advice) ? errno : 0;
    errno = saved;
    return error;
}

static int raw_mlock2(const void *start, size_t length, unsigned flags) {
    return (int)(flags ? syscall(SYS_mlock2, start, length, flags) : syscall(SYS_mlock, start, length));
}

static int raw_remap_file_pages(void *start, size_t length, int protection, size_t page, int flags) {
    return (int)syscall(SYS_remap_file_pages, start, length, protection, page, flags);
}

static void *raw_shmat(int id, const void *start, int flags) {
    return (void *)syscall(SYS_shmat, id, start, flags);
}

static int raw_mlockall(int flags) {
    return (int)syscall(SYS_mlockall, flags);
}

static int raw_munlockall(void) {
    return (int)syscall(SYS_munlockall);
}

static int raw_prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *limit,
                         struct rlimit64 *before) {
    return (int)syscall(SYS_prlimit64, pid, resource, limit, before);
}

static int raw_setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit) {
    return raw_prlimit64(0, (enum __rlimit_resource)resource, limit, NULL);
}

/* The two structures are the same here. */
_Static_assert(sizeof(struct rlimit) == sizeof(struct rlimit64), "one layout");

static int raw_prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *limit,
                       struct rlimit *before) {
    return (int)syscall(SYS_prlimit64, pid, resource, limit, before);
}

static int raw_setrlimit(__rlimit_resource_t resource, const struct rlimit *limit) {
    return raw_prlimit(0, (enum __rlimit_resource)resource, limit, NULL);
}

long system_mbind(void *start, unsigned long length, int mode, const unsigned long *nodes,
                  unsigned long n_nodes, unsigned flags) {
    return syscall(SYS_mbind, start, length, mode, nodes, n_nodes, flags);
}

/* --- placeholders: look up, then call through the table again --- */

static void *first_mmap(void *start, size_t length, int protection, int flags, int fd, off_t offset) {
    if (!next_known()) return raw_mmap(start, length, protection, flags, fd, offset);
    return os_calls.mmap(start, length, protection, flags, fd, offset);
}

static void *first_mmap64(void *start, size_t length, int protection, int flags, int fd, off_t offset) {
    if (!next_known()) return raw_mmap(start, length, protection, flags, fd, offset);
    return system_calls.mmap64(start, length, protection, flags, fd, offset);
}

static int first_munmap(void *start, size_t length) {
    return next_known() ? os_calls.munmap(start, length) : raw_munmap(start, length);
}

static void *first_mremap(void *from, size_t length, size_t new_length, int flags, void *to) {
    if (!next_known()) return raw_mremap(from, length, new_length, flags, to);
    return os_calls.mremap(from, length, new_length, flags, to);
}

static int first_madvise(void *start, size_t length, int advice) {
    return next_known() ? os_calls.madvise(start, length, advice) : raw_madvise(start, length, advice);
}

static int first_mprotect(void *start, size_t length, int protection) {
    return next_known() ? os_calls.mprotect(start, length, protection)
                        : raw_mprotect(start, length, protection);
}

static int first_pkey_mprotect(void *start, size_t length, int protection, int key) {
    if (!next_known()) return raw_pkey_mprotect(start, length, protection, key);
    return os_calls.pkey_mprotect(start, length, protection, key);
}

static int first_mlock(const void *start, size_t length) {
    return next_known() ? os_calls.mlock(start, length) : raw_mlock(start, length);
}

static int first_posix_madvise(void *start, size_t length, int advice) {
    return next_known() ? system_calls.posix_madvise(start, length, advice)
                        : raw_posix_madvise(start, length, advice);
}

static int first_mlock2(const void *start, size_t length, unsigned flags) {
    return next_known() ? system_calls.mlock2(start, length, flags) : raw_mlock2(start, length, flags);
}

static int first_remap_file_pages(void *start, size_t length, int protection, size_t page, int flags) {
    if (!next_known()) return raw_remap_file_pages(start, length, protection, page, flags);
    return system_calls.remap_file_pages(start, length, protection, page, flags);
}

static void *first_shmat(int id, const void *start, int flags) {
    return next_known() ? system_calls.shmat(id, start, flags) : raw_shmat(id, start, flags);
}

static int first_mlockall(int flags) {
    return next_known() ? system_calls.mlockall(flags) : raw_mlockall(flags);
}

static int first_munlockall(void) {
    return next_known() ? system_calls.munlockall() : raw_munlockall();
}

static int first_setrlimit(__rlimit_resource_t resource, const struct rlimit *limit) {
    return next_known() ? system_calls.setrlimit(resource, limit) : raw_setrlimit(resource, limit);
}

static int first_setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit) {
    return next_known() ? system_calls.setrlimit64(resource, limit) : raw_setrlimit64(resource, limit);
}

static int first_prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *limit,
                         struct rlimit *before) {
    if (!next_known()) return raw_prlimit(pid, resource, limit, before);
    return system_calls.prlimit(pid, resource, limit, before);
}

static int first_prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *limit,
                           struct rlimit64 *before) {
    if (!next_known()) return raw_prlimit64(pid, resource, limit, before);
    return system_calls.prlimit64(pid, resource, limit, before);
}

/* Of a function with variable arguments all are in registers, whether it is declared so or not. */
#define VARIADIC(function) (void *(*)(void *, size_t, size_t, int, ...))(void (*)(void))(function)

OS_SEALED struct os_calls os_calls = {
    first_mmap,          first_munmap, VARIADIC(first_mremap), first_madvise, first_mprotect,
    first_pkey_mprotect, first_mlock,
};

OS_SEALED struct system_calls system_calls = {
    first_mmap64,      first_posix_madvise, first_mlock2,     first_remap_file_pages,
    first_shmat,       first_mlockall,      first_munlockall, first_setrlimit,
    first_setrlimit64, first_prlimit,       first_prlimit64,
};

static void find(void **entry, const char *name, void *otherwise) {
    void *symbol = dlsym(RTLD_NEXT, name);
    if (!symbol) dlerror(); /* the program must not find our error */
    __atomic_store_n(entry, symbol ? symbol : otherwise, __ATOMIC_RELEASE);
}

#define FIND(table, name) find((void **)&(table).name, #name, (void *)raw_##name)

void system_resolve(void) {
    FIND(os_calls, mmap);
    FIND(os_calls, munmap);
    FIND(os_calls, mremap);
    FIND(os_calls, madvise);
    FIND(os_calls, mprotect);
    FIND(os_calls, pkey_mprotect);
    FIND(os_calls, mlock);
    find((void **)&system_calls.mmap64, "mmap64", (void *)raw_mmap);
    FIND(system_calls, posix_madvise);
    FIND(system_calls, mlock2);
    FIND(system_calls, remap_file_pages);
    FIND(system_calls, shmat);
    FIND(system_calls, mlockall);
    FIND(system_calls, munlockall);
    FIND(system_calls, setrlimit);
    FIND(system_calls, setrlimit64);
    FIND(system_calls, prlimit);
    FIND(system_calls, prlimit64);
}

bool system_is_hooked(void) {
    struct symbols libc, allocator;
    if (!bypass_find_c_library(&libc)) return false;
    /* The allocator behind us may define them, too, as tcmalloc does for its profiler. It is not a stranger
     * to odd threads. */
    bool other_allocator = bypass_find_object((void *)next.malloc, &allocator);
    const struct {
        const void *found, *own;
    } calls[] = {
        {(void *)os_calls.mmap, (void *)raw_mmap},
        {(void *)os_calls.munmap, (void *)raw_munmap},
        {(void *)os_calls.mremap, (void *)raw_mremap},
        {(void *)os_calls.madvise, (void *)raw_madvise},
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        bool known = calls[i].found == calls[i].own || symbols_segment_flags(&libc, calls[i].found) ||
                     (other_allocator && symbols_segment_flags(&allocator, calls[i].found));
        if (!known) return true;
    }
    return false;
}
