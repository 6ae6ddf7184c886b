/* SPDX-License-Identifier: MIT */
/* group.c: uses big blocks, frees them, and then needs the memory in another way. The driver runs it in a
 * memory control group that has room for one of both, not for the sum. usage: group HOW BIG_MIB THEN_MIB
 * [BLOCK_MIB] */
#include "invisible.h"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

extern char **environ;

static char *self;

static void by_small_blocks(size_t n) {
    /* Linked, so that none is lost. */
    void **last = NULL;
    for (size_t used = 0; used < n; used += 1008) {
        void **p = get(1000);
        if (!p) exit(3);
        *p = last;
        last = p;
    }
    KEEP(last);
}

static void by_mapping(size_t n) {
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) exit(3);
    touch_each(p, n, PAGE);
}

static void by_shared_mapping(size_t n) {
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) exit(3);
    touch_each(p, n, PAGE);
}

static void by_file(size_t n) {
    static char piece[MIB];
    int file = memfd_create("group", 0);
    if (file < 0) exit(3);
    memset(piece, 1, sizeof piece);
    for (size_t done = 0; done < n; done += sizeof piece)
        if (write(file, piece, sizeof piece) != (ssize_t)sizeof piece) exit(3);
}

static int small(char **a) {
    use_blocks(number(a, 0), number(a, 2));
    by_small_blocks(number(a, 1) * MIB);
    return 0;
}

static int mapping(char **a) {
    use_blocks(number(a, 0), number(a, 2));
    by_mapping(number(a, 1) * MIB);
    return 0;
}

static int shared(char **a) {
    use_blocks(number(a, 0), number(a, 2));
    by_shared_mapping(number(a, 1) * MIB);
    return 0;
}

static int file(char **a) {
    use_blocks(number(a, 0), number(a, 2));
    by_file(number(a, 1) * MIB);
    return 0;
}

/* The block was there before, untouched: no call of malloc tells that memory is needed now. */
static int block_from_before(char **a) {
    size_t n = number(a, 1) * MIB;
    char *p = get(n);
    if (!p) return 3;
    use_blocks(number(a, 0), number(a, 2));
    touch_each(p, n, PAGE);
    return 0;
}

static int ended(int pid) {
    int status = 0;
    if (waitpid(pid, &status, 0) != pid) return 3;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int forked(char **a) {
    use_blocks(number(a, 0), number(a, 2));
    int pid = fork();
    if (pid == 0) {
        by_small_blocks(number(a, 1) * MIB);
        _exit(0);
    }
    return ended(pid);
}

static int spawned(char **a) {
    use_blocks(number(a, 0), number(a, 2));
    char *arguments[] = {self, (char *)"small", a[1], a[1], a[2], NULL};
    int pid;
    if (posix_spawn(&pid, self, NULL, NULL, arguments, environ)) return 3;
    return ended(pid);
}

/* The parent goes on resting while a child made by fork and exec does what it did. */
static int forked_and_executed(char **a) {
    use_blocks(number(a, 0), number(a, 2));
    int pid = fork();
    if (pid == 0) {
        execl(self, self, "mapping", a[1], a[1], a[2], (char *)NULL);
        _exit(3);
    }
    return ended(pid);
}

/* Waits in read until the driver has lowered the limit; then uses what is left of it. */
static int lowered(char **a) {
    char byte;
    use_blocks(number(a, 0), number(a, 2));
    puts("ready");
    fflush(stdout);
    if (read(STDIN_FILENO, &byte, 1) != 1) return 3;
    by_small_blocks(number(a, 1) * MIB);
    return 0;
}

/* The limit falls while it works: a peak at first, later never more than THEN_MIB at once. */
static int lowered_at_work(char **a) {
    use_blocks(number(a, 0), number(a, 2));
    puts("ready");
    fflush(stdout);
    double end = clock_us(CLOCK_MONOTONIC) + 3e6;
    uint64_t state = 5;
    while (clock_us(CLOCK_MONOTONIC) < end) {
        size_t left = number(a, 1) * MIB, n_blocks = 0;
        void *blocks[64];
        while (left > MIB && n_blocks < 64) {
            size_t n = left / 8 + rng_next(&state) % (left / 4 + 1);
            blocks[n_blocks++] = get_touched(n);
            left -= n;
        }
        while (n_blocks)
            free(blocks[--n_blocks]);
        usleep(20000);
    }
    return 0;
}

/* Again and again big, then small: what the group has left is never the same. */
static int rounds(char **a) {
    for (int i = 0; i < 5; i++) {
        use_blocks(number(a, 0), number(a, 2));
        size_t n = number(a, 1) * MIB;
        void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return 3;
        touch_each(p, n, PAGE);
        munmap(p, n);
    }
    return 0;
}

int main(int argc, char **argv) {
    static const struct named cases[] = {{"small", small},
                                         {"mapping", mapping},
                                         {"shared", shared},
                                         {"file", file},
                                         {"block-from-before", block_from_before},
                                         {"forked", forked},
                                         {"spawned", spawned},
                                         {"executed", forked_and_executed},
                                         {"lowered", lowered},
                                         {"lowered-at-work", lowered_at_work},
                                         {"rounds", rounds},
                                         {NULL, NULL}};
    self = argv[0];
    int status = argc < 5 ? 2 : run_named(cases, argv);
    if (status == 0) puts("survived");
    return status;
}
