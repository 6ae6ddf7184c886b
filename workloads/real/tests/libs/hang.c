// SPDX-License-Identifier: MIT
// A preload library that hangs at exit, in a child of its own session as well: the runner must end both.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((destructor)) static void hang(void) {
    // ld.so and the shell's helpers load this too; only the program under test may hang.
    extern char *program_invocation_short_name;
    if (strcmp(program_invocation_short_name, "cat") != 0) return;
    // The start-up check of the runner reads this file; it is not a case.
    if (getenv("SUITE_STATUSES") == NULL) return;
    if (fork() == 0) setsid();
    for (;;)
        pause();
}
