/* SPDX-License-Identifier: MIT */
/* operators.h: C++'s operators new and delete. See operators.c. */
#ifndef ZP_SHIM_OPERATORS_H
#define ZP_SHIM_OPERATORS_H

/* At start-up: find out who else defines them. */
void operators_resolve(void) __attribute__((visibility("hidden")));

#endif
