/* SPDX-License-Identifier: MIT */
/* background.c: see background.h. */
#include "sync/background.h"

#include "base/time.h"

_Atomic int background_state;
uint32_t background_round_ms, background_ended_ms;

bool background_runs(void) {
    return atomic_load_explicit(&background_state, memory_order_relaxed) == BACKGROUND_RUNNING &&
           time_passed_ms(os_clock_ms(), __atomic_load_n(&background_round_ms, __ATOMIC_RELAXED)) <
               4 * BACKGROUND_POLL_MS;
}

void background_note_end(void) {
    if (atomic_load_explicit(&background_state, memory_order_relaxed) == BACKGROUND_NONE) return;
    WRITE_RELAXED(background_ended_ms, os_clock_ms() | 1);
    os_helper_look();
}
