/* SPDX-License-Identifier: MIT */
/* plain.h: included before all else where malloc.c and aligned.c are compiled a second time, under other
 * names: what serves a call once sites.c stands before it. */
#ifndef ZP_SHIM_PLAIN_H
#define ZP_SHIM_PLAIN_H

#define ZP_PLAIN

#define malloc plain_malloc
#define free plain_free
#define calloc plain_calloc
#define realloc plain_realloc
#define reallocarray plain_reallocarray
#define memalign plain_memalign
#define aligned_alloc plain_aligned_alloc
#define posix_memalign plain_posix_memalign
#define valloc plain_valloc
#define pvalloc plain_pvalloc

#endif
