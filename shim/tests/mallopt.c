/* SPDX-License-Identifier: MIT */
/* mallopt.c: what the library tells glibc it tells with all signals blocked. glibc's mallopt locks its heap;
 * a handler that allocates there, or whose forked child does, would wait for ever. Runs with mallopt_lib
 * behind the library. */
#include "check.h"

#include <signal.h>

int main(void) {
    require_shim();
    int *n_calls = (int *)dlsym(RTLD_DEFAULT, "n_mallopt_calls"),
        *n_open = (int *)dlsym(RTLD_DEFAULT, "n_open_mallopt_calls");
    CHECK(n_calls && n_open);
    void *volatile first_large = malloc(MIB);
    CHECK(first_large);
    CHECK(*n_calls > 0);
    CHECK(*n_open == 0);
    sigset_t blocked;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &blocked) == 0);
    CHECK(!sigismember(&blocked, SIGALRM));
    free(first_large);
    return 0;
}
