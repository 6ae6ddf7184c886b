// SPDX-License-Identifier: MIT
// Using a block, so that neither the compiler nor the kernel can leave the work out.
#ifndef MICRO_TOUCH_H
#define MICRO_TOUCH_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/fail.h"

enum { TOUCH_PAGE = 4096 };

// The compiler must assume that anyone may look at *p: without it, it removes malloc together with its free.
static inline void touch_escape(void *p) {
    __asm__ volatile("" : : "g"(p) : "memory");
}

// One byte of every page, never 0: a page of zeros is not what programs leave behind, and the kernel can tell
// (it maps its zero page where it splits a huge one). The store is volatile, so all of them happen.
static inline void touch_pages(void *p, size_t bytes) {
    volatile char *at = p;
    for (size_t i = 0; i < bytes; i += TOUCH_PAGE)
        at[i] = (char)(i / TOUCH_PAGE | 1);
}

// Every byte.
static inline void touch_all(void *p, size_t bytes) {
    memset(p, 0x5a, bytes);
    touch_escape(p);
}

// Reads one byte of every page.
static inline unsigned touch_read(const void *p, size_t bytes) {
    const volatile char *at = p;
    unsigned sum = 0;
    for (size_t i = 0; i < bytes; i += TOUCH_PAGE)
        sum += (unsigned char)at[i];
    return sum;
}

static inline void *touch_malloc(size_t bytes) {
    void *p = malloc(bytes);
    if (p == NULL) fail_memory("malloc", bytes);
    touch_escape(p);
    return p;
}

#endif
