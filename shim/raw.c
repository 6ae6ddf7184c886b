/* SPDX-License-Identifier: MIT */
/* raw.c: see raw.h. */
#include "raw.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *raw_mmap(void *start, size_t length, int protection, int flags, int fd, off_t offset) {
    return (void *)syscall(SYS_mmap, start, length, protection, flags, fd, offset);
}

int raw_munmap(void *start, size_t length) {
    return (int)syscall(SYS_munmap, start, length);
}

void *raw_mremap(void *from, size_t length, size_t new_length, int flags, void *to) {
    return (void *)syscall(SYS_mremap, from, length, new_length, flags, to);
}

int raw_madvise(void *start, size_t length, int advice) {
    return (int)syscall(SYS_madvise, start, length, advice);
}

int raw_mprotect(void *start, size_t length, int protection) {
    return (int)syscall(SYS_mprotect, start, length, protection);
}

int raw_pkey_mprotect(void *start, size_t length, int protection, int key) {
    return (int)syscall(SYS_pkey_mprotect, start, length, protection, key);
}

int raw_mlock(const void *start, size_t length) {
    return (int)syscall(SYS_mlock, start, length);
}

/* Returns the error, and leaves errno alone. Advice to forget contents is not passed on: the kernel would
 * take it at its word. */
int raw_posix_madvise(void *start, size_t length, int advice) {
    if (advice == POSIX_MADV_DONTNEED) return 0;
    int saved = errno;
    int error = syscall(SYS_madvise, start, length, advice) ? errno : 0;
    errno = saved;
    return error;
}

int raw_mlock2(const void *start, size_t length, unsigned flags) {
    return (int)(flags ? syscall(SYS_mlock2, start, length, flags) : syscall(SYS_mlock, start, length));
}

int raw_remap_file_pages(void *start, size_t length, int protection, size_t page, int flags) {
    return (int)syscall(SYS_remap_file_pages, start, length, protection, page, flags);
}

void *raw_shmat(int id, const void *start, int flags) {
    return (void *)syscall(SYS_shmat, id, start, flags);
}

int raw_mlockall(int flags) {
    return (int)syscall(SYS_mlockall, flags);
}

int raw_munlockall(void) {
    return (int)syscall(SYS_munlockall);
}

int raw_prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *limit,
                  struct rlimit64 *before) {
    return (int)syscall(SYS_prlimit64, pid, resource, limit, before);
}

int raw_setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit) {
    return raw_prlimit64(0, (enum __rlimit_resource)resource, limit, NULL);
}

/* The two structures are the same here. */
_Static_assert(sizeof(struct rlimit) == sizeof(struct rlimit64), "one layout");

int raw_prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *limit,
                struct rlimit *before) {
    return (int)syscall(SYS_prlimit64, pid, resource, limit, before);
}

int raw_setrlimit(__rlimit_resource_t resource, const struct rlimit *limit) {
    return raw_prlimit(0, (enum __rlimit_resource)resource, limit, NULL);
}
