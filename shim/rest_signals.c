/* SPDX-License-Identifier: MIT */
/* rest_signals.c: the functions by which programs change handlers. See rest_handlers.c. */
#include "rest_calls.h"

EXPORT int sigaction(int signal, const struct sigaction *action, struct sigaction *before) {
    int result = NEXT(sigaction)(signal, action, before);
    if (action) rest_forget_handlers();
    return result;
}

#define FORGETTING(name, type, parameters, arguments)                                                        \
    EXPORT type name parameters {                                                                            \
        type result = NEXT(name) arguments;                                                                  \
        rest_forget_handlers();                                                                              \
        return result;                                                                                       \
    }
FORGETTING(signal, sighandler_t, (int signal, sighandler_t handler), (signal, handler))
FORGETTING(sysv_signal, sighandler_t, (int signal, sighandler_t handler), (signal, handler))
FORGETTING(sigset, sighandler_t, (int signal, sighandler_t handler), (signal, handler))
FORGETTING(sigignore, int, (int signal), (signal))
FORGETTING(siginterrupt, int, (int signal, int interrupts), (signal, interrupts))

#define ALIAS(name, of) EXPORT __typeof__(of) name __attribute__((alias(#of), nothrow, leaf))
ALIAS(__sigaction, sigaction);
ALIAS(bsd_signal, signal);
ALIAS(ssignal, signal);
ALIAS(__sysv_signal, sysv_signal);
