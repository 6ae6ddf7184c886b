/* SPDX-License-Identifier: MIT */
/* startup.c: how the library sets itself up under different settings and limits, and what programs are told
 * that ask about memory. */
#include "check.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static volatile size_t enormous = (size_t)1 << 46; /* hidden from the compiler, which would warn */

/* Serves, keeps contents, and the pool is what serves if it should be. */
static void exercise(bool by_the_pool) {
    char *blocks[5];
    static const size_t sizes[] = {100, 40 * KIB, 300 * KIB, 3 * MIB, 50 * MIB};
    for (int i = 0; i < 5; i++) {
        blocks[i] = get(sizes[i]);
        CHECK(blocks[i]);
        if (i > 0) CHECK(in_pool(blocks[i]) == by_the_pool);
        stamp(blocks[i], sizes[i], (uint64_t)i);
    }
    char *p = calloc(3, MIB);
    CHECK(p && all_zero(p, 3 * MIB) && in_pool(p) == by_the_pool);
    free(p);
    for (int i = 0; i < 5; i++) {
        CHECK(stamped(blocks[i], sizes[i], sizes[i], (uint64_t)i));
        free(blocks[i]);
    }
}

/* A program that asks before and after it has used large blocks. */
static void information(void) {
    struct mallinfo old = mallinfo();
    struct mallinfo2 before = mallinfo2();
    CHECK(malloc_trim(0) == 0 || malloc_trim(0) == 0);
    char *p = get(64 * MIB);
    struct mallinfo2 during = mallinfo2();
    CHECK(during.hblkhd >= before.hblkhd + 64 * MIB && mallinfo().hblkhd >= old.hblkhd + (int)(64 * MIB));
    CHECK(malloc_usable_size(p) >= 64 * MIB && malloc_usable_size(NULL) == 0);
    memset(p, 1, 64 * MIB);
    free(p);
    struct mallinfo2 after = mallinfo2();
    CHECK(after.hblkhd <= during.hblkhd - 64 * MIB);
    malloc_stats();
    CHECK(malloc_info(0, stderr) == 0);
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    malloc_trim(0);
    CHECK(mallinfo2().fordblks <= after.fordblks);
}

/* What nobody can serve is refused as the C library refuses it, and costs nothing that is held. */
static void beyond(void) {
    char *held = get(2 * MIB), *small = get(100);
    stamp(held, 2 * MIB, 7);
    void *p = held;
    errno = 0;
    CHECK(!get(enormous) && errno == ENOMEM);
    CHECK(!calloc(enormous, 2) && !calloc(enormous, enormous));
    CHECK(!memalign(1 << 16, enormous) && !aligned_alloc(4096, enormous) && !valloc(enormous) &&
          !pvalloc(enormous));
    CHECK(posix_memalign(&p, 4096, enormous) == ENOMEM && p == held);
    CHECK(!realloc(held, enormous) && !realloc(small, enormous) && !reallocarray(held, enormous, enormous));
    CHECK(stamped(held, 2 * MIB, 2 * MIB, 7));
    free(held);
    free(small);
    exercise(true);
}

/* No address space for a pool when the first large block is asked for: everything is the next allocator's. */
static void no_room_for_a_pool(void) {
    struct rlimit limit = {200 * MIB, 200 * MIB};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    char *p = get(60 * MIB), *q = get(60 * MIB);
    CHECK(p && q);
    stamp(p, 60 * MIB, 3);
    CHECK(!get(200 * MIB) && !calloc(1, 200 * MIB) && !memalign(4096, 200 * MIB) && !realloc(q, 250 * MIB));
    CHECK(stamped(p, 60 * MIB, 60 * MIB, 3));
    free(q);
    free(p);
    p = get(100 * MIB);
    CHECK(p);
    free(p);
}

/* Under a debugger there is no background thread, and all else is as ever. */
static void traced(void) {
    pid_t child = fork();
    if (child == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        exercise(true);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* Nothing to read there, /proc least of all. */
static void without_proc(void) {
    char folder[] = "/tmp/zeropool-startup-XXXXXX";
    CHECK(mkdtemp(folder));
    pid_t child = fork();
    if (child == 0) {
        if (chroot(folder)) _exit(SKIP);
        exercise(true);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (rmdir(folder)) say("something was made in an empty root\n"); /* by the counters of a coverage build */
    if (WIFEXITED(status)) exit(WEXITSTATUS(status));
    CHECK(!"ended by a signal");
}

int main(int argc, char **argv) {
    require_shim();
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "pool") == 0)
        exercise(true);
    else if (strcmp(name, "no-pool") == 0)
        exercise(false);
    else if (strcmp(name, "information") == 0)
        information();
    else if (strcmp(name, "beyond") == 0)
        beyond();
    else if (strcmp(name, "traced") == 0)
        traced();
    else if (strcmp(name, "without-proc") == 0)
        without_proc();
    else if (strcmp(name, "no-room") == 0)
        no_room_for_a_pool();
    else
        return 2;
    /* Imported: the library prepares for a sandbox in programs that could enter one. */
    if (getenv("NEVER_SET")) prctl(PR_SET_NAME, "sandboxed");
    return 0;
}
