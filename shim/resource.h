/* SPDX-License-Identifier: MIT */
/* resource.h: limits that the program sets itself. See resource.c. */
#ifndef ZP_SHIM_RESOURCE_H
#define ZP_SHIM_RESOURCE_H

/* For syscall(), which may be given such a call by number. */
void resource_before_syscall(long number, long a, long b, long c) __attribute__((visibility("hidden")));

#endif
