/* SPDX-License-Identifier: MIT */
/* recycled_kinds.h: what programs do to the pages of their blocks, one function a kind; for recycled.c. */
#ifndef ZP_SHIM_TESTS_RECYCLED_KINDS_H
#define ZP_SHIM_TESTS_RECYCLED_KINDS_H

#include "check.h"

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

/* Calls past the library. */
static bool raw;

static int call_madvise(char *p, size_t n, int advice) {
    return raw ? (int)syscall(SYS_madvise, p, n, advice) : madvise(p, n, advice);
}

static int call_mprotect(char *p, size_t n, int protection) {
    return raw ? (int)syscall(SYS_mprotect, p, n, protection) : mprotect(p, n, protection);
}

static int call_mlock(char *p, size_t n) {
    return raw ? (int)syscall(SYS_mlock, p, n) : mlock(p, n);
}

static int call_munmap(char *p, size_t n) {
    return raw ? (int)syscall(SYS_munmap, p, n) : munmap(p, n);
}

static void *call_mmap(char *p, size_t n, int flags, int fd) {
    int protection = PROT_READ | PROT_WRITE;
    return raw ? (void *)syscall(SYS_mmap, p, n, protection, flags, fd, 0)
               : mmap(p, n, protection, flags, fd, 0);
}

static void *call_mremap(char *from, size_t n, char *to) {
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    return raw ? (void *)syscall(SYS_mremap, from, n, n, flags, to) : mremap(from, n, n, flags, to);
}

static int file_to_map(size_t n) {
    int fd = memfd_create("overlay", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)n) == 0);
    for (size_t at = 0; at < n; at += 4096)
        CHECK(pwrite(fd, "overlay", 7, (off_t)at) == 7);
    return fd;
}

static bool overlay(char *p, size_t n, int flags) {
    int fd = flags & MAP_ANONYMOUS ? -1 : file_to_map(n);
    bool done = call_mmap(p, n, flags | MAP_FIXED, fd) == p;
    if (fd >= 0) close(fd);
    return done;
}

/* --- the kinds: each true if the change could be made; n is whole pages --- */

static bool locked(char *p, size_t n) {
    return call_mlock(p, n < MIB ? n : MIB) == 0;
}
static bool dontfork(char *p, size_t n) {
    return call_madvise(p, n, MADV_DONTFORK) == 0;
}
static bool wipeonfork(char *p, size_t n) {
    return call_madvise(p, n, MADV_WIPEONFORK) == 0;
}
static bool dontdump(char *p, size_t n) {
    return call_madvise(p, n, MADV_DONTDUMP) == 0;
}
static bool readonly(char *p, size_t n) {
    return call_mprotect(p, n, PROT_READ) == 0;
}
static bool inaccessible(char *p, size_t n) {
    return call_mprotect(p, n, PROT_NONE) == 0;
}
static bool executable(char *p, size_t n) {
    return call_mprotect(p, n, PROT_READ | PROT_WRITE | PROT_EXEC) == 0;
}
static bool file_private(char *p, size_t n) {
    return overlay(p, n, MAP_PRIVATE);
}
static bool file_shared(char *p, size_t n) {
    return overlay(p, n, MAP_SHARED);
}
static bool memory_shared(char *p, size_t n) {
    return overlay(p, n, MAP_SHARED | MAP_ANONYMOUS);
}
static bool unmapped(char *p, size_t n) {
    return call_munmap(p, n) == 0;
}
static bool random_reads(char *p, size_t n) {
    return call_madvise(p, n, MADV_RANDOM) == 0;
}
static bool merged(char *p, size_t n) {
    return call_madvise(p, n, MADV_MERGEABLE) == 0;
}
static bool guarded(char *p, size_t n) {
    return call_madvise(p, n, MADV_GUARD_INSTALL) == 0;
}

static bool locked_later(char *p, size_t n) {
    return !raw && mlock2(p, n < MIB ? n : MIB, MLOCK_ONFAULT) == 0;
}
static bool posix_random(char *p, size_t n) {
    return !raw && posix_madvise(p, n, POSIX_MADV_RANDOM) == 0;
}

static bool bound(char *p, size_t n) {
    long (*mbind)(void *, unsigned long, int, const unsigned long *, unsigned long, unsigned);
    unsigned long node = 1;
    if (raw) return syscall(SYS_mbind, p, n, MPOL_BIND, &node, 64, 0) == 0;
    *(void **)&mbind = dlsym(RTLD_DEFAULT, "mbind");
    return mbind(p, n, MPOL_BIND, &node, 64, 0) == 0;
}

/* To somewhere else, which leaves a hole. */
static bool moved_away(char *p, size_t n) {
    char *to = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(to != MAP_FAILED);
    bool done = call_mremap(p, n, to) == to;
    munmap(to, n);
    return done;
}

static bool moved_onto(char *p, size_t n) {
    char *from = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(from != MAP_FAILED);
    bool done = call_mremap(from, n, p) == p;
    if (!done) munmap(from, n);
    return done;
}

static bool attached(char *p, size_t n) {
    int id = shmget(IPC_PRIVATE, n, 0600);
    if (id < 0) return false;
    bool done = (raw ? (void *)syscall(SYS_shmat, id, p, SHM_REMAP) : shmat(id, p, SHM_REMAP)) == p;
    shmctl(id, IPC_RMID, NULL);
    return done;
}

static bool keyed(char *p, size_t n) {
    static int key = -2;
    if (key == -2) key = pkey_alloc(0, PKEY_DISABLE_WRITE);
    return !raw && key > 0 && pkey_mprotect(p, n, PROT_READ | PROT_WRITE, key) == 0;
}

static const struct kind {
    const char *name;
    bool (*change)(char *, size_t);
} kinds[] = {{"mlock", locked},
             {"dontfork", dontfork},
             {"wipeonfork", wipeonfork},
             {"dontdump", dontdump},
             {"readonly", readonly},
             {"none", inaccessible},
             {"exec", executable},
             {"file-private", file_private},
             {"file-shared", file_shared},
             {"memory-shared", memory_shared},
             {"unmapped", unmapped},
             {"random", random_reads},
             {"ksm", merged},
             {"mbind", bound},
             {"pkey", keyed},
             {"guard", guarded},
             {"mlock2", locked_later},
             {"posix-random", posix_random},
             {"moved-away", moved_away},
             {"moved-onto", moved_onto},
             {"shm", attached}};
#define N_KINDS (sizeof kinds / sizeof kinds[0])
/* Without the last one, after which the library looks at everything. */
#define N_EXACT_KINDS (N_KINDS - 1)

#endif
