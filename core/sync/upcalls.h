/* SPDX-License-Identifier: MIT */
/* upcalls.h: what lower floors ask of process/.
 *
 * The table is defined in process/upcalls.c and filled in by the linker, so it is read-only from the first
 * instruction on: there is no time before it is set, and no pointer that a program could overwrite. Callers
 * use the functions of fork_door.h and background.h, not the table.
 */
#ifndef ZP_SYNC_UPCALLS_H
#define ZP_SYNC_UPCALLS_H

#include <stdbool.h>
#include <stddef.h>

struct upcalls {
    /* Repair a forked child. False while another thread is doing so, or if it cannot be done yet. */
    bool (*fork_repair)(void);
    /* No background thread runs and a pool holds so many bytes: start one if that is wanted. */
    void (*background_start)(size_t held_bytes);
};
extern const struct upcalls upcalls __attribute__((visibility("hidden")));

#endif
