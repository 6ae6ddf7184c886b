/* SPDX-License-Identifier: MIT */
/* rest_handlers.c: which handlers does the program have? See rest_calls.h.
 *
 * A wait of read, recv, accept or wait that a handler interrupts goes on if the handler was set with
 * SA_RESTART, and fails with EINTR if not. A wait in steps must know that beforehand. To ask the kernel about
 * every signal takes microseconds, so the answer is kept until the program changes a handler: the functions
 * that do so are interposed (rest_signals.c), and do nothing but forget the answer. Who changes handlers past
 * them (raw system calls) is noticed within TRUSTED_MS.
 */
#include "rest_calls.h"

#include "base/time.h"
#include "os/os.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRUSTED_MS 1000
#define N_SIGNALS 64
/* The C library's own, by which it changes the user of all threads. Its handler has SA_RESTART. */
#define SIGNAL_SETXID 33

/* Used by the one thread that waits in steps, or, where another comes in between, by nobody for long. */
static _Atomic uint32_t n_changes;
static uint32_t n_changes_known, known_ms;
static bool is_known;
static struct rest_handlers known;

bool rest_ask_action(int signal, struct rest_action *action) {
    return syscall(SYS_rt_sigaction, signal, NULL, action, sizeof action->mask) == 0;
}

static struct rest_handlers ask(void) {
    struct rest_handlers answer = {0, 0};
    int saved = errno;
    for (int signal = 1; signal <= N_SIGNALS; signal++) {
        struct rest_action action;
        if (signal == SIGNAL_SETXID || !rest_ask_action(signal, &action)) continue;
        if (action.handler == SIG_DFL || action.handler == SIG_IGN) continue;
        answer.handled |= rest_signal_bit(signal);
        if (!(action.flags & SA_RESTART)) answer.interrupting |= rest_signal_bit(signal);
    }
    errno = saved;
    return answer;
}

struct rest_handlers rest_handlers(void) {
    uint32_t now = os_clock_ms(), n = atomic_load_explicit(&n_changes, memory_order_acquire);
    if (!is_known || n != n_changes_known || time_passed_ms(now, known_ms) > TRUSTED_MS) {
        known = ask();
        n_changes_known = n;
        known_ms = now;
        is_known = true;
    }
    return known;
}

void rest_forget_handlers(void) {
    atomic_fetch_add_explicit(&n_changes, 1, memory_order_release);
}
