/* SPDX-License-Identifier: MIT */
/* sample.h: pages of a block picked at random, one in each of some equal parts: a program with a period must
 * not be taken for one that fills its blocks. `random` is one number for all of a look. */
#ifndef ZP_LEARN_SAMPLE_H
#define ZP_LEARN_SAMPLE_H

#include "base/bits.h"

#define SAMPLE_PAGES 16

/* A page somewhere in the i-th of n parts. */
char *sample_page(void *address, size_t n_pages, unsigned i, unsigned n, uint32_t random);

/* Are so many of SAMPLE_PAGES pages resident? 1 yes, 0 no, negative if that cannot be told. */
int sample_resident(void *address, size_t n_pages, int wanted, uint32_t random);
/* Is one page of all? In the same way. */
int sample_one_resident(void *address, size_t n_pages, uint32_t random);

/* The caller's block was zero when it was handed out: has it been filled since? Reads it. */
bool sample_is_written(void *address, size_t n_pages, uint32_t random);
/* The same of a block that somebody else may be using or freeing, asked of the kernel: 1 yes, 0 no, negative
 * if that cannot be told. */
int sample_peek_written(void *address, size_t n_pages, uint32_t random);

#endif
