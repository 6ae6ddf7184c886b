/* SPDX-License-Identifier: MIT */
/* recycled.c: a block must not show its owner what an earlier owner of that memory did to its pages. What munmap would have forgotten:
 * locks, fork and dump advice, protection, protection keys, mappings laid over it, memory policy, merging, guards.
 * A kind of change that this kernel or CPU does not know is skipped.   usage: recycled CASE|calloc [BYTES] */
#include "check.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static int file_to_map(size_t n)
{
    int fd = memfd_create("overlay", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)n) == 0);
    for (size_t at = 0; at < n; at += 4096)
        CHECK(pwrite(fd, "overlay", 7, (off_t)at) == 7);
    return fd;
}

static bool overlay(char *p, size_t n, int flags)
{
    int fd = flags & MAP_ANONYMOUS ? -1 : file_to_map(n);
    bool done = mmap(p, n, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == p;
    if (fd >= 0) close(fd);
    return done;
}

/* --- the kinds: each true if the change could be made; n is whole pages --- */

static bool locked(char *p, size_t n) { return mlock(p, n < MIB ? n : MIB) == 0; }
static bool dontfork(char *p, size_t n) { return madvise(p, n, MADV_DONTFORK) == 0; }
static bool wipeonfork(char *p, size_t n) { return madvise(p, n, MADV_WIPEONFORK) == 0; }
static bool dontdump(char *p, size_t n) { return madvise(p, n, MADV_DONTDUMP) == 0; }
static bool readonly(char *p, size_t n) { return mprotect(p, n, PROT_READ) == 0; }
static bool inaccessible(char *p, size_t n) { return mprotect(p, n, PROT_NONE) == 0; }
static bool executable(char *p, size_t n) { return mprotect(p, n, PROT_READ | PROT_WRITE | PROT_EXEC) == 0; }
static bool file_private(char *p, size_t n) { return overlay(p, n, MAP_PRIVATE); }
static bool file_shared(char *p, size_t n) { return overlay(p, n, MAP_SHARED); }
static bool memory_shared(char *p, size_t n) { return overlay(p, n, MAP_SHARED | MAP_ANONYMOUS); }
static bool unmapped(char *p, size_t n) { return munmap(p, n) == 0; }
static bool random_reads(char *p, size_t n) { return madvise(p, n, MADV_RANDOM) == 0; }
static bool merged(char *p, size_t n) { return madvise(p, n, MADV_MERGEABLE) == 0; }
static bool guarded(char *p, size_t n) { return madvise(p, n, MADV_GUARD_INSTALL) == 0; }

static bool bound(char *p, size_t n)
{
    unsigned long node = 1;
    return syscall(SYS_mbind, p, n, MPOL_BIND, &node, 64, 0) == 0;
}

static bool keyed(char *p, size_t n)
{
    static int key = -2;
    if (key == -2) key = pkey_alloc(0, PKEY_DISABLE_WRITE);
    return key > 0 && pkey_mprotect(p, n, PROT_READ | PROT_WRITE, key) == 0;
}

static const struct kind {
    const char *name;
    bool (*change)(char *, size_t);
} kinds[] = {{"mlock", locked}, {"dontfork", dontfork}, {"wipeonfork", wipeonfork}, {"dontdump", dontdump},
             {"readonly", readonly}, {"none", inaccessible}, {"exec", executable}, {"file-private", file_private},
             {"file-shared", file_shared}, {"memory-shared", memory_shared}, {"unmapped", unmapped}, {"random", random_reads},
             {"ksm", merged}, {"mbind", bound}, {"pkey", keyed}, {"guard", guarded}};
#define N_KINDS (sizeof kinds / sizeof kinds[0])

/* Change the whole pages of a block, or some of them. False if this cannot be done here. */
static bool change(const struct kind *kind, char *p, size_t n, unsigned where)
{
    char *first = (char *)(((uintptr_t)p + 4095) & ~(uintptr_t)4095);
    size_t pages = (size_t)(p + n - first) / 4096;
    switch (where) {
    case 0: break;
    case 1: first += pages / 2 * 4096, pages = 1; break;
    case 2: pages = (pages + 1) / 2; break;
    default: first += pages / 2 * 4096, pages -= pages / 2; break;
    }
    return kind->change(first, pages * 4096);
}

/* --- what is seen of it --- */

/* Names what is not plain about the mappings of a block; NULL if nothing is. */
static const char *mapping_fault(const char *p, size_t n)
{
    static char found[200];
    found[0] = '\0';
    char line[512], perms[8];
    FILE *file = fopen("/proc/self/smaps", "r");
    bool inside = false;
    size_t from, to, covered = 0;
    unsigned long inode, key;
    CHECK(file);
    while (fgets(line, sizeof line, file) && !found[0]) {
        if (sscanf(line, "%zx-%zx %7s %*s %*s %lu", &from, &to, perms, &inode) == 4) {
            inside = from < (uintptr_t)p + n && to > (uintptr_t)p;
            if (!inside) continue;
            size_t low = from > (uintptr_t)p ? from : (uintptr_t)p, high = to < (uintptr_t)p + n ? to : (uintptr_t)p + n;
            covered += high - low;
            if (strcmp(perms, "rw-p") || inode) snprintf(found, sizeof found, "%s inode %lu", perms, inode);
        } else if (inside && sscanf(line, "ProtectionKey: %lu", &key) == 1 && key) {
            snprintf(found, sizeof found, "protection key %lu", key);
        } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            static const char *const bad[] = {" lo", " lf", " dc", " wf", " dd", " mg", " rr", " sr"};
            for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                if (strstr(line, bad[i])) snprintf(found, sizeof found, "flag%s", bad[i]);
        }
    }
    fclose(file);
    if (!found[0] && covered != n) snprintf(found, sizeof found, "%zu bytes not mapped", n - covered);
    return found[0] ? found : NULL;
}

static bool policy_is_default(const char *p, size_t n)
{
    for (size_t i = 0; i < 8; i++) {
        int mode = 0;
        if (syscall(SYS_get_mempolicy, &mode, NULL, 0, p + i * (n - 1) / 7, MPOL_F_ADDR)) return true;
        if (mode != MPOL_DEFAULT) return false;
    }
    return true;
}

static bool child_sees(const char *p, size_t n)
{
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        for (size_t i = 0; i < n; i += 4096)
            if (p[i] != 9) _exit(1);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status == 0;
}

static sigjmp_buf back;
static void on_fault(int number)
{
    (void)number;
    siglongjmp(back, 1);
}

/* A zeroed block, or NULL if it is not zero or cannot be read or made so. */
static char *get_zeroed(size_t n)
{
    if (sigsetjmp(back, 1)) return NULL;
    char *p = calloc(1, n);
    CHECK(p);
    return all_zero(p, n) ? p : NULL;
}

static bool fills(char *p, size_t n)
{
    if (sigsetjmp(back, 1)) return false;
    memset(p, 9, n);
    return true;
}

static unsigned n_bad;
static void complain(const struct kind *kind, size_t n, unsigned where, const char *what)
{
    fprintf(stderr, "%s of %zu bytes (%u): %s\n", kind->name, n, where, what);
    n_bad++;
}

/* One block is changed and freed; the ones that then are made of its memory must be plain. */
static bool one_case(const struct kind *kind, size_t n, unsigned where, bool zeroed)
{
    char *p = get(n), *old = p;
    CHECK(p && fills(p, n));
    if (!change(kind, p, n, where)) {
        free(p);
        return false;
    }
    free(p);
    KEEP(old);
    char *q = zeroed ? get_zeroed(n) : get(n);
    if (!q) {
        complain(kind, n, where, "calloc is not zero");
        return true;
    }
    char *page = (char *)((uintptr_t)q & ~(uintptr_t)4095);
    const char *fault = mapping_fault(q, n);
    if (fault) complain(kind, n, where, fault);
    if (!policy_is_default(page, n)) complain(kind, n, where, "memory policy");
    if (!fills(q, n))
        complain(kind, n, where, "cannot be written");
    else if (!child_sees(q, n))
        complain(kind, n, where, "a child does not see it");
    free(q);
    return true;
}

static int one_kind(const struct kind *kind)
{
    static const size_t sizes[] = {200 * KIB, 1000000, 5 * MIB, 40 * MIB};
    bool possible = false;
    for (unsigned round = 0; round < 2; round++)
        /* Nobody can ask for guards: blocks up to 256 KiB come from thread caches, which do not act without knowing, and not more than
         * 128 MiB are walked. */
        for (size_t s = kind->change == guarded; s < (kind->change == guarded ? 3 : sizeof sizes / sizeof sizes[0]); s++)
            for (unsigned where = 0; where < 4; where++) {
                for (unsigned i = 0; i < round; i++)
                    free(get(sizes[s]));
                possible |= one_case(kind, sizes[s], where, where % 2 == round);
            }
    if (!possible) {
        fprintf(stderr, "%s is not possible here\n", kind->name);
        return SKIP;
    }
    return n_bad > 0;
}

/* Blocks that thread caches gave out unwatched before the program was found to change its blocks. */
static int given_before(void)
{
    enum { BLOCKS = 6 };
    const size_t n = 150 * KIB;
    char *p[BLOCKS + 1];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < BLOCKS; i++)
            p[i] = get(n);
        for (int i = 0; i < BLOCKS && round == 0; i++)
            free(p[i]);
    }
    p[BLOCKS] = get(n);
    CHECK(change(&kinds[0], p[BLOCKS], n, 0));
    free(p[BLOCKS]);
    for (int i = 0; i < BLOCKS; i++) {
        CHECK(change(&kinds[0], p[i], n, 0));
        free(p[i]);
    }
    for (int i = 0; i <= BLOCKS; i++) {
        p[i] = get(n);
        const char *fault = mapping_fault(p[i], n);
        if (fault) complain(&kinds[0], n, 0, fault);
    }
    return n_bad > 0;
}

/* Blocks come and go, every other one changed in some way before it goes; what calloc returns is zero to the last byte. */
static int zeroed_under_all(size_t wanted)
{
    uint64_t rng = 1;
    char *held[16] = {NULL};
    size_t checked = 0;
    while (checked < wanted) {
        unsigned slot = (unsigned)rng_range(&rng, 0, 15);
        /* Below 128 KiB nobody gets his pages anew, neither here nor from the C library: changed blocks are larger. */
        size_t n = rng_range(&rng, 128 * KIB, (size_t)1 << rng_range(&rng, 18, 23));
        free(held[slot]);
        char *p = get_zeroed(n);
        if (!p) {
            fprintf(stderr, "calloc of %zu bytes is not zero, after %zu good ones\n", n, checked);
            return 1;
        }
        checked += n;
        CHECK(fills(p, n));
        if (rng_next(&rng) % 2) change(&kinds[rng_next(&rng) % N_KINDS], p, n, (unsigned)rng_range(&rng, 0, 3));
        held[slot] = p;
    }
    printf("%zu bytes\n", checked);
    return 0;
}

int main(int argc, char **argv)
{
    require_shim();
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    if (argc >= 2 && strcmp(argv[1], "calloc") == 0)
        return zeroed_under_all(argc > 2 ? strtoull(argv[2], NULL, 10) : 100000000);
    if (argc == 2 && strcmp(argv[1], "given-before") == 0) return given_before();
    for (size_t i = 0; argc == 2 && i < N_KINDS; i++)
        if (strcmp(argv[1], kinds[i].name) == 0) return one_kind(&kinds[i]);
    say("usage: recycled CASE|calloc [BYTES]\n");
    return 2;
}
