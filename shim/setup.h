/* SPDX-License-Identifier: MIT */
/* setup.h: what the constructor and the set-up of the pool share. */
#ifndef ZP_SHIM_SETUP_H
#define ZP_SHIM_SETUP_H

#include "family.h"
#include "sync/options.h"

/* From the environment, once the constructor has run. */
extern struct options setup_options HIDDEN;
extern bool setup_options_read HIDDEN;

/* Is the hardened mode wanted? Then it is on afterwards. Before the constructor only the switch itself is
 * known. */
bool setup_harden(void) HIDDEN;

#endif
