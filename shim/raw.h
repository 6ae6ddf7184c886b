/* SPDX-License-Identifier: MIT */
/* raw.h: the calls of system.h as plain system calls, for when nobody behind us defines them, and in the
 * middle of the lookup. They set errno as the C library's do. No allocation, no lock. */
#ifndef ZP_SHIM_RAW_H
#define ZP_SHIM_RAW_H

#include <sys/resource.h>
#include <sys/types.h>

#pragma GCC visibility push(hidden)

void *raw_mmap(void *start, size_t length, int protection, int flags, int fd, off_t offset);
int raw_munmap(void *start, size_t length);
void *raw_mremap(void *from, size_t length, size_t new_length, int flags, void *to);
int raw_madvise(void *start, size_t length, int advice);
int raw_mprotect(void *start, size_t length, int protection);
int raw_pkey_mprotect(void *start, size_t length, int protection, int key);
int raw_mlock(const void *start, size_t length);
int raw_posix_madvise(void *start, size_t length, int advice);
int raw_mlock2(const void *start, size_t length, unsigned flags);
int raw_remap_file_pages(void *start, size_t length, int protection, size_t page, int flags);
void *raw_shmat(int id, const void *start, int flags);
int raw_mlockall(int flags);
int raw_munlockall(void);
int raw_prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *limit,
                  struct rlimit64 *before);
int raw_setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit);
int raw_prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *limit,
                struct rlimit *before);
int raw_setrlimit(__rlimit_resource_t resource, const struct rlimit *limit);

#pragma GCC visibility pop

#endif
