/* SPDX-License-Identifier: MIT */
/* fork_door.c: see fork_door.h. */
#include "sync/fork_door.h"

#include "os/os.h"

uint32_t *fork_door;

void fork_door_prepare(void) {
    if (!fork_door) fork_door = os_fork_word();
}
