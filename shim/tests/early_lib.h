/* SPDX-License-Identifier: MIT */
/* early_lib.h: see early_lib.c. */
#ifndef ZP_SHIM_TESTS_EARLY_LIB_H
#define ZP_SHIM_TESTS_EARLY_LIB_H

/* What the constructor allocated is there: check it and give it back. */
void early_check_and_free(void);

/* Hand over a block of 3 MiB stamped with 42, to be freed by the destructor. */
void early_keep(void *p);

#endif
