/* SPDX-License-Identifier: MIT */
/* recycled.c: a block must not show its owner what an earlier owner of that memory did to its pages. What
 * munmap would have forgotten: locks, fork and dump advice, protection, protection keys, mappings laid
 * over it, memory policy, merging, guards. A kind of change that this kernel or CPU does not know is skipped.
 * usage: recycled KIND          from the first block on
 *        recycled late KIND     for the first time after 100,000 frees, to blocks that thread caches give out
 *        recycled raw KIND      from the first block on, by system calls that the library cannot see
 *        recycled threads|realloc|given-before|calloc [BYTES] */
#include "recycled_kinds.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Change the whole pages of a block, or some of them. False if this cannot be done here. */
static bool change(const struct kind *kind, char *p, size_t n, unsigned where) {
    char *first = (char *)(((uintptr_t)p + 4095) & ~(uintptr_t)4095);
    size_t pages = (size_t)(p + n - first) / 4096;
    switch (where) {
    case 0:
        break;
    case 1:
        first += pages / 2 * 4096, pages = 1;
        break;
    case 2:
        pages = (pages + 1) / 2;
        break;
    default:
        first += pages / 2 * 4096, pages -= pages / 2;
        break;
    }
    return kind->change(first, pages * 4096);
}

/* --- what is seen of it --- */

/* Names what is not plain about the mappings of a block; NULL if nothing is. */
static const char *mapping_fault(const char *p, size_t n) {
    static _Thread_local char found[200];
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
            size_t low = from > (uintptr_t)p ? from : (uintptr_t)p,
                   high = to < (uintptr_t)p + n ? to : (uintptr_t)p + n;
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
    /* While other threads change mappings the file may show one twice. */
    if (!found[0] && covered < n) snprintf(found, sizeof found, "%zu bytes not mapped", n - covered);
    return found[0] ? found : NULL;
}

static bool policy_is_default(const char *p, size_t n) {
    for (size_t i = 0; i < 8; i++) {
        int mode = 0;
        if (syscall(SYS_get_mempolicy, &mode, NULL, 0, p + i * (n - 1) / 7, MPOL_F_ADDR)) return true;
        if (mode != MPOL_DEFAULT) return false;
    }
    return true;
}

static bool child_sees(const char *p, size_t n) {
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

static _Thread_local sigjmp_buf back;
static void on_fault(int number) {
    (void)number;
    siglongjmp(back, 1);
}

/* A zeroed block, or NULL if it is not zero or cannot be read or made so. */
static char *get_zeroed(size_t n) {
    if (sigsetjmp(back, 1)) return NULL;
    char *p = calloc(1, n);
    CHECK(p);
    return all_zero(p, n) ? p : NULL;
}

static bool fills(char *p, size_t n) {
    if (sigsetjmp(back, 1)) return false;
    memset(p, 9, n);
    return true;
}

static _Atomic unsigned n_bad;
static void complain(const struct kind *kind, size_t n, unsigned where, const char *what) {
    fprintf(stderr, "%s of %zu bytes (%u): %s\n", kind->name, n, where, what);
    n_bad++;
}

static _Atomic unsigned n_refused, n_judged;

/* What the pool refused, a lock being out of reach for too long, lies where nobody promises anything. */
static bool refused(char *p) {
    if (in_pool(p)) return false;
    n_refused++;
    free(p);
    return true;
}

/* Exit status. A pool that refuses more than now and then proves nothing. */
static int verdict(void) {
    if (n_refused) fprintf(stderr, "%u blocks were refused\n", n_refused);
    CHECK(n_judged > 10 * n_refused);
    return n_bad > 0;
}

/* One block is changed and freed; the ones that then are made of its memory must be plain. */
static bool one_case(const struct kind *kind, size_t n, unsigned where, bool zeroed) {
    char *p = get(n), *old = p;
    CHECK(p && fills(p, n));
    if (refused(p)) return false;
    if (!change(kind, p, n, where)) {
        free(p);
        return false;
    }
    free(p);
    KEEP(old);
    char *q = zeroed ? get_zeroed(n) : get(n);
    if (!q) {
        complain(kind, n, where, "calloc is not zero");
        n_judged++;
        return true;
    }
    if (refused(q)) return false;
    n_judged++;
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

/* Enough for the library to take nothing amiss any more, and for the thread's cache to hold a block of this
 * size. */
static void many_frees(size_t n, unsigned how_many) {
    for (unsigned i = 0; i < how_many; i++)
        free(get(n));
}

static int one_kind(const struct kind *kind, bool late) {
    if (late) many_frees(MIB, 50000), many_frees(200 * KIB, 50000);
    static const size_t sizes[] = {200 * KIB, 1000000, 5 * MIB, 40 * MIB};
    bool possible = false;
    for (unsigned round = 0; round < 2; round++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
            for (unsigned where = 0; where < 4; where++) {
                many_frees(sizes[s], late ? 100 : round);
                possible |= one_case(kind, sizes[s], where, where % 2 == round);
            }
    if (!possible && !n_refused) {
        fprintf(stderr, "%s is not possible here\n", kind->name);
        return SKIP;
    }
    return verdict();
}

static void *changes_and_frees(void *unused) {
    static const size_t sizes[] = {40 * KIB, 200 * KIB, MIB, 3 * MIB};
    (void)unused;
    for (size_t s = 0; s < 4; s++)
        many_frees(sizes[s], 25000);
    for (size_t s = 0; s < 4; s++)
        for (size_t i = 0; i < N_EXACT_KINDS; i++) {
            many_frees(sizes[s], 20);
            one_case(&kinds[i], sizes[s], (unsigned)(i + s) % 4, i % 2);
        }
    return NULL;
}

/* Late, and by several threads at once. */
static int in_threads(void) {
    pthread_t threads[4];
    free(get(MIB)); /* while one thread sets up the pool, the others are refused */
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, changes_and_frees, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    return verdict();
}

/* What realloc gives back of a changed block, or leaves behind, late. */
static int by_realloc(void) {
    many_frees(MIB, 100000);
    static const size_t from[] = {MIB, 8 * MIB, 8 * MIB, 300 * KIB},
                        to[] = {200 * KIB, MIB, 40 * MIB, 5 * MIB};
    for (size_t k = 0; k < N_EXACT_KINDS; k++)
        for (size_t i = 0; i < 4; i++) {
            char *p = get(from[i]), *wall = get(MIB);
            CHECK(p && wall && fills(p, from[i]));
            /* The last page only: realloc must be able to read the others, and does not hide that it moves
             * pages. */
            size_t at = from[i] - 4096;
            if (to[i] > from[i] && (kinds[k].change == inaccessible || kinds[k].change == unmapped ||
                                    kinds[k].change == guarded || kinds[k].change == moved_away)) {
                free(p), free(wall);
                continue;
            }
            if (kinds[k].change(p + at, 4096)) {
                p = realloc(p, to[i]);
                CHECK(p && p[0] == 9);
                char *rest[3] = {get(from[i] - 4096), get(from[i] / 2), get(from[i])};
                for (int r = 0; r < 3; r++) {
                    const char *fault = mapping_fault(rest[r], from[i] / 2);
                    if (fault) complain(&kinds[k], from[i], (unsigned)i, fault);
                    if (!fills(rest[r], from[i] / 2))
                        complain(&kinds[k], from[i], (unsigned)i, "cannot be written");
                }
                for (int r = 0; r < 3; r++)
                    free(rest[r]);
            }
            free(p);
            char *q = get(to[i]);
            const char *fault = mapping_fault(q, to[i]);
            if (fault) complain(&kinds[k], to[i], (unsigned)i, fault);
            free(q);
            free(wall);
        }
    return n_bad > 0;
}

/* Blocks that thread caches gave out unwatched before the program was found to change its blocks. */
static int given_before(void) {
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

/* Blocks come and go, every other one changed in some way before it goes; what calloc returns is zero to the
 * last byte. */
static int zeroed_under_all(size_t wanted) {
    uint64_t rng = 1;
    char *held[16] = {NULL};
    size_t checked = 0;
    while (checked < wanted) {
        unsigned slot = (unsigned)rng_range(&rng, 0, 15);
        /* Below 128 KiB nobody gets his pages anew, neither here nor from the C library: changed blocks are
         * larger. */
        size_t n = rng_range(&rng, 128 * KIB, (size_t)1 << rng_range(&rng, 18, 23));
        free(held[slot]);
        char *p = get_zeroed(n);
        if (!p) {
            fprintf(stderr, "calloc of %zu bytes is not zero, after %zu good ones\n", n, checked);
            return 1;
        }
        checked += n;
        CHECK(fills(p, n));
        if (rng_next(&rng) % 2)
            change(&kinds[rng_next(&rng) % N_KINDS], p, n, (unsigned)rng_range(&rng, 0, 3));
        held[slot] = p;
    }
    printf("%zu bytes\n", checked);
    return 0;
}

int main(int argc, char **argv) {
    require_shim();
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    if (argc >= 2 && strcmp(argv[1], "calloc") == 0)
        return zeroed_under_all(argc > 2 ? strtoull(argv[2], NULL, 10) : 100000000);
    if (argc == 2 && strcmp(argv[1], "given-before") == 0) return given_before();
    if (argc == 2 && strcmp(argv[1], "threads") == 0) return in_threads();
    if (argc == 2 && strcmp(argv[1], "realloc") == 0) return by_realloc();
    raw = argc == 3 && strcmp(argv[1], "raw") == 0;
    bool late = argc == 3 && strcmp(argv[1], "late") == 0;
    for (size_t i = 0; (argc == 2 || raw || late) && i < N_KINDS; i++)
        if (strcmp(argv[argc - 1], kinds[i].name) == 0) return one_kind(&kinds[i], late);
    say("usage: recycled [late|raw] KIND, or threads, realloc, given-before, calloc [BYTES]\n");
    return 2;
}
