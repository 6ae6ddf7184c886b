/* SPDX-License-Identifier: MIT */
/* misuse_many.c: double frees, interior, misaligned and never handed out pointers, by free, realloc and its
 * relatives. Each must end in SIGABRT after exactly one line that names kind and address, before anything is
 * damaged.
 *
 * Most cases run in this process: the handler of SIGABRT jumps back (glibc's abort holds no lock while it
 * raises), so that the heap goes on being used after every misuse, and damage would show. Some run in
 * children without a handler. 100000 cases take two seconds; in the hardened mode, where every block is new
 * memory, some minutes where page faults are slow. usage: misuse_many [SEED [CASES]] */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define N_LIVE 64

struct block {
    char *p;
    size_t size, usable;
};

static struct block live[N_LIVE];
static struct block freed[N_LIVE];
static uint64_t rng;
static sigjmp_buf back;
static int message_file;
static unsigned n_cases;

static void on_abort(int number) {
    (void)number;
    siglongjmp(back, 1);
}

/* --- the misuse itself --- */

enum call { FREE, REALLOC, FREE_SIZED, REALLOCARRAY, N_CALLS };

static void call_with(enum call call, void *p) {
    static void (*free_sized)(void *, size_t);
    if (!free_sized) *(void **)&free_sized = dlsym(RTLD_DEFAULT, "free_sized");
    KEEP(p); /* else the compiler might see what it is not meant to */
    switch (call) {
    case REALLOC:
        p = realloc(p, 3 * MIB);
        break;
    case FREE_SIZED:
        free_sized(p, 100);
        break;
    case REALLOCARRAY:
        p = reallocarray(p, 3, MIB);
        break;
    default:
        free(p);
        break;
    }
    KEEP(p);
}

static void expect_message(const char *kind, const void *p) {
    char expected[200], found[400];
    snprintf(expected, sizeof expected, "zeropool: fatal: %s (ptr=%p)\n", kind, p);
    ssize_t n = pread(message_file, found, sizeof found - 1, 0);
    found[n < 0 ? 0 : n] = '\0';
    if (strcmp(found, expected) == 0) return;
    char text[900];
    snprintf(text, sizeof text, "case %u: expected: %sfound:    %s\n", n_cases, expected, found);
    say(text);
    _exit(1);
}

/* stderr goes to a file of its own for the time of the call. */
static void expect_abort(enum call call, void *p, const char *kind) {
    int saved = dup(STDERR_FILENO);
    CHECK(ftruncate(message_file, 0) == 0 && lseek(message_file, 0, SEEK_SET) == 0);
    dup2(message_file, STDERR_FILENO);
    volatile bool returned = false;
    if (sigsetjmp(back, 1) == 0) {
        call_with(call, p);
        returned = true;
    }
    dup2(saved, STDERR_FILENO);
    close(saved);
    if (returned) {
        char text[200];
        snprintf(text, sizeof text, "case %u: %s of %p by call %d went unnoticed\n", n_cases, kind, p, call);
        say(text);
        _exit(1);
    }
    expect_message(kind, p);
    n_cases++;
}

static void expect_abort_in_child(enum call call, void *p, const char *kind) {
    CHECK(ftruncate(message_file, 0) == 0 && lseek(message_file, 0, SEEK_SET) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(message_file, STDERR_FILENO);
        call_with(call, p);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    expect_message(kind, p);
    n_cases++;
}

/* --- a heap in use around it --- */

static void check_all(void) {
    for (unsigned i = 0; i < N_LIVE; i++)
        if (live[i].p) {
            CHECK(malloc_usable_size(live[i].p) == live[i].usable);
            CHECK(stamped(live[i].p, live[i].size, live[i].size, i));
        }
}

/* A pointer that was freed may have been handed out anew, whole or as part of another block: then freeing it
 * is no double free. */
static bool is_live_again(const char *p) {
    for (unsigned i = 0; i < N_LIVE; i++)
        if (live[i].p && p >= live[i].p && p < live[i].p + live[i].usable) return true;
    return false;
}

static void use_heap(void) {
    unsigned slot = (unsigned)rng_range(&rng, 0, N_LIVE - 1);
    if (live[slot].p) {
        CHECK(stamped(live[slot].p, live[slot].size, live[slot].size, slot));
        free(live[slot].p);
        freed[slot] = live[slot];
        live[slot].p = NULL;
        return;
    }
    size_t n = rng_range(&rng, 32 * KIB, (size_t)1 << rng_range(&rng, 16, 22));
    char *p = rng_next(&rng) % 4 ? get(n) : calloc(1, n);
    CHECK(p);
    if (!in_pool(p)) { /* refused: nothing to test here */
        free(p);
        return;
    }
    live[slot] = (struct block){p, n, malloc_usable_size(p)};
    stamp(p, n, slot);
}

static void one_case(bool in_child) {
    void (*expect)(enum call, void *, const char *) = in_child ? expect_abort_in_child : expect_abort;
    enum call call = (enum call)rng_range(&rng, 0, N_CALLS - 1);
    struct block *block = &live[rng_range(&rng, 0, N_LIVE - 1)];
    unsigned dice = (unsigned)rng_range(&rng, 0, 3);
    if (dice == 0 && block->p) {
        size_t offset = rng_range(&rng, 1, block->usable - 1);
        if (offset % 4096 == 0) offset++;
        expect(call, block->p + offset, "free of a misaligned pointer");
    } else if (dice == 1 && block->p && block->usable > 4096) {
        expect(call, block->p + 4096 * rng_range(&rng, 1, block->usable / 4096 - 1),
               "free of an interior pointer");
    } else {
        block = &freed[rng_range(&rng, 0, N_LIVE - 1)];
        if (block->p && !is_live_again(block->p)) expect(call, block->p, "double free");
    }
}

int main(int argc, char **argv) {
    unsigned wanted = argc > 2 ? (unsigned)atoi(argv[2]) : 100000;
    rng = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    CHECK(wanted >= 100); /* one in a hundred runs in a child */
    require_shim();
    message_file = memfd_create("stderr", MFD_CLOEXEC);
    CHECK(message_file >= 0);
    signal(SIGABRT, on_abort);
    for (unsigned i = 0; n_cases < wanted; i++) {
        CHECK(i < 100 * wanted);
        use_heap();
        one_case(i % (wanted / 100) == 0);
        if (i % 64 == 0) check_all();
    }
    check_all();
    for (unsigned i = 0; i < N_LIVE; i++)
        free(live[i].p);
    printf("%u cases\n", n_cases);
    return 0;
}
