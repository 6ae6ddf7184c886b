/* SPDX-License-Identifier: MIT */
/* os_helper_signals.c: signals that a program sends to each of its tasks, answered by the background thread.
 *
 * Programs that look at all their threads (to take stack traces, to wait until each has passed a point) read
 * /proc/self/task, signal each task and wait until the handler has run on it. Signals sent to the process are
 * another matter: they go to threads that have them unblocked, or wait until one has, and a thread that the
 * program does not know must never take one. So the thread keeps all signals blocked, and lets in only those
 * that are pending for itself, one at a time, each for the length of one system call whose mask is put back
 * by the return from the handler: a second one of the same number, sent to the process, stays where it is. It
 * does not wait on a signalfd: a descriptor would show in the program's table, and with a table of its own
 * the handler could not write to the program's pipes. It looks when it is woken, which the preload library
 * does when the C library is asked to signal it (shim/process.c), and whenever it wakes up by itself.
 */
#include "os/os_call.h"
#include "os/os_helper.h"

#include <string.h>
#include <time.h>

/* More at one look than this many would be a program that signals faster than they can be answered. */
#define ANSWERS_MAX 256

/* The mask behind "SigPnd:", in hexadecimal: pending for this thread alone. 0 if it cannot be read. */
static uint64_t pending_for_thread(void) {
    char text[16 * KIB]; /* the groups come first */
    if (os_read_file("/proc/thread-self/status", text, sizeof text) <= 0) return 0;
    const char *digits = os_find_field(text, "\nSigPnd:\t");
    uint64_t mask = 0;
    for (; digits && *digits && strchr("0123456789abcdef", *digits); digits++)
        mask = mask << 4 | (uint64_t)(*digits <= '9' ? *digits - '0' : *digits - 'a' + 10);
    return mask;
}

void os_helper_answer_signals(void) {
    for (int i = 0; i < ANSWERS_MAX; i++) {
        /* Of the thread and of the process together; costs little and is nearly always empty. */
        uint64_t pending = 0;
        if (OS_CALL2(SYS_rt_sigpending, &pending, sizeof pending) < 0 || !pending) return;
        pending = pending_for_thread();
        if (!pending) return;
        uint64_t mask = ~(pending & -pending);
        struct timespec none = {0, 0};
        OS_CALL5(SYS_ppoll, NULL, 0, &none, &mask, sizeof mask);
    }
}
