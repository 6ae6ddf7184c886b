/* SPDX-License-Identifier: MIT */
/* os_helper.h: what the files of the background thread share: its memory (os_helper_tls.c), its signals
 * (os_helper_signals.c) and its life (os_helper.c). */
#ifndef ZP_OS_OS_HELPER_H
#define ZP_OS_OS_HELPER_H

#include "os/os.h"

/* On the main thread, at start-up: note what every thread's storage begins as. False: this C library lays it
 * out in another way than is known, and handlers could not run on a thread of ours. */
bool os_helper_tls_learn(void);

/* In any thread, whose number is known; and the number of the thread with that pointer, once that is so. */
void os_helper_tls_learn_id(int id);
int os_helper_tls_id_of(const char *pointer);

/* A stack and thread-local storage for the thread, as the C library would give it to a thread of its own;
 * used again by the next one. `lowest` is the lowest variable that the thread needs in any case. The stack
 * ends where the storage begins. */
struct os_helper_memory {
    char *stack_end;
    char *pointer; /* the thread pointer */
};
int os_helper_tls_make(const void *lowest, struct os_helper_memory *out);

/* In a forked child: a copy of what somebody was using is not used again. */
void os_helper_tls_forget(void);

/* In the thread: C library functions that ask for the thread's id find it. */
void os_helper_tls_set_id(int id);

/* In the thread, which blocks all signals: run the handlers of those that were sent to the thread itself. */
void os_helper_answer_signals(void);

#endif
