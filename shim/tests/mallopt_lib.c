/* SPDX-License-Identifier: MIT */
/* mallopt_lib.c: a mallopt for the library to call, that notes whether a handler could come in meanwhile. */
#include <malloc.h>
#include <signal.h>

int n_mallopt_calls, n_open_mallopt_calls;

int mallopt(int parameter, int value) {
    (void)parameter;
    (void)value;
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    n_mallopt_calls++;
    if (!sigismember(&blocked, SIGALRM) || !sigismember(&blocked, SIGSEGV)) n_open_mallopt_calls++;
    return 1;
}
