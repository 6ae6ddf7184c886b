/* SPDX-License-Identifier: MIT */
/* upcalls.c: what lower floors ask of this one. See sync/upcalls.h. */
#include "sync/upcalls.h"

#include "process/fork.h"
#include "process/helper.h"

const struct upcalls upcalls = {
    .fork_repair = fork_repair,
    .background_start = helper_start_for,
};
