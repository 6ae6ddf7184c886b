/* SPDX-License-Identifier: MIT */
/* state.c: what a program did to the memory or the state of its process must not come back to it through a
 * recycled block. */
#include "../../core/tests/filter.h"
#include "reliability/common.h"

#include <malloc.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void tamper(int kind, char *page, size_t bytes) {
    switch (kind) {
    case 0:
        mlock(page, bytes < 4 * MIB ? bytes : 4 * MIB);
        break;
    case 1:
        madvise(page, bytes, MADV_DONTFORK);
        break;
    case 2:
        madvise(page, bytes, MADV_WIPEONFORK);
        break;
    case 3:
        madvise(page, bytes, MADV_DONTDUMP);
        break;
    case 4:
        mprotect(page, bytes, PROT_READ);
        break;
    case 5:
        mprotect(page + bytes / 2, 4096, PROT_NONE);
        break;
    case 6:
        mmap(page + 8192, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        break;
    default:
        break;
    }
}

static int child_sees(const char *p, size_t bytes) {
    pid_t child = fork();
    if (child == 0) {
        for (size_t i = 0; i < bytes; i += 4096)
            if (p[i] != 9) _exit(1);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return status;
}

/* 40 MiB: glibc maps such blocks anew each time, so programs may rely on a clean state. */
static void leaks(void) {
    const size_t size = 40 * MIB;
    for (int kind = 0; kind <= 7; kind++)
        for (int warm = 0; warm <= 2; warm += 2) {
            for (int i = 0; i < warm; i++)
                free(get_filled(size));
            char *p = get_filled(size);
            char *page = (char *)(((size_t)p + 4095) & ~(size_t)4095);
            tamper(kind, page, ((size_t)(p + size - page)) & ~(size_t)4095);
            free(p);
            char *q = hide(malloc(size));
            memset(q, 9, size);
            printf("kind %d: child %d, locked %d", kind, child_sees(q, size), status_bytes("VmLck") > 0);
            free(q);
            q = hide(calloc(1, size));
            size_t n_dirty = 0;
            for (size_t i = 0; i < size; i++)
                n_dirty += q[i] != 0;
            free(q);
            printf(", %zu bytes not zero\n", n_dirty);
        }
}

static void single(void) {
    warm_up();
    printf("unshare %d\n", unshare(CLONE_NEWUSER));
}

static void filter(void) {
    static const int calls[] = {SYS_read,       SYS_write,        SYS_mmap,       SYS_munmap, SYS_mprotect,
                                SYS_madvise,    SYS_mremap,       SYS_brk,        SYS_futex,  SYS_exit,
                                SYS_exit_group, SYS_rt_sigreturn, SYS_sigaltstack};
    struct filter filter = {0};
    filter_calls(&filter, calls, FILTER_LENGTH(calls), SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS);
    setvbuf(stdout, NULL, _IONBF, 0);
    free(hide(malloc(10))); /* glibc asks for random numbers at its first block */
    if (getenv("WARM")) warm_up();
    if (!filter_install(&filter)) skip("no seccomp here");
    size_t total = 0;
    for (int i = 0; i < 40; i++) {
        char *a = get_filled((size_t)(1 + i % 20) * 3 * MIB), *b = get_filled(200000 + (size_t)i * 1000);
        char *c = hide(calloc(1, 5 * MIB));
        total += (size_t)(a != NULL) + (b != NULL) + (c[4 * MIB] == 0);
        a = hide(realloc(a, 70 * MIB));
        free(b);
        free(a);
        free(c);
    }
    malloc_trim(0);
    char text[] = "   blocks\n";
    text[0] = (char)('0' + total / 100), text[1] = (char)('0' + total / 10 % 10),
    text[2] = (char)('0' + total % 10);
    if (write(1, text, sizeof text - 1) < 0) _exit(1);
    _exit(0);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"leaks", leaks},
        {"single", single},
        {"filter", filter},
        {NULL, NULL},
    };
    return run_case(cases, argc, argv);
}
