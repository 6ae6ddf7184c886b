/* SPDX-License-Identifier: MIT */
/* early_calls.c: runs itself once for each call that may be the first of a process, with early_calls_lib.c
 * loaded. */
#include "check.h"

#include <stdio.h>
#include <sys/wait.h>

void early_calls_check(void);

static int run(const char *program, const char *name, const char *value) {
    pid_t child = fork();
    if (child == 0) {
        setenv(name, value, 1);
        execl(program, program, (char *)NULL);
        _exit(126);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (status) fprintf(stderr, "%s=%s: status %x\n", name, value, (unsigned)status);
    return status != 0;
}

int main(int argc, char **argv) {
    require_shim();
    if (argc == 1) { /* in a child */
        early_calls_check();
        char *p = get(MIB);
        CHECK(p && in_pool(p));
        free(p);
        return 0;
    }
    static const char *const calls[] = {
        "malloc",         "free",          "calloc",  "realloc", "memalign", "aligned_alloc",
        "posix_memalign", "valloc",        "pvalloc", "usable",  "trim",     "mallinfo2",
        "mallinfo",       "stats",         "info",    "mallopt", "mmap",     "mprotect",
        "madvise",        "posix_madvise", "mlock",   "munmap",  "large"};
    int n_bad = 0;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        n_bad += run(argv[0], "EARLY_CALL", calls[i]);
    n_bad += run(argv[0], "EARLY_DLSYM", "some");
    n_bad += run(argv[0], "EARLY_DLSYM", "much");
    return n_bad != 0;
}
