/* SPDX-License-Identifier: MIT */
/* fatal.h: the one way out when the program has misused memory. */
#ifndef ZP_SYNC_FATAL_H
#define ZP_SYNC_FATAL_H

#include "base/bits.h"

/* Write "zeropool: fatal: KIND (ptr=0x...)" to stderr and abort. No stdio, no allocation. */
_Noreturn noinline_cold void fatal_pointer(const char *kind, const void *pointer);

/* Write "zeropool: MESSAGE" to stderr; parts may be NULL. For warnings about bad configuration. */
noinline_cold void warn_parts(const char *a, const char *b, const char *c, const char *d);

/* Decimal and hexadecimal without stdio. buffer must hold 24 bytes. Returns the beginning of the text within
 * buffer, which need not be the start of buffer. */
char *format_decimal(char *buffer, uint64_t value);
char *format_hex(char *buffer, uint64_t value);

#endif
