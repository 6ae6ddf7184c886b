/* SPDX-License-Identifier: MIT */
/* python.h: the Python functions that a thread is in, in processes that run CPython 3.11, which has no
 * other way to tell (from 3.12 on there is PYTHONPERFSUPPORT).
 *
 * Structure: `places` maps a place in Python's code (code object and instruction) to function, file and
 * line, which are read when it is first seen. The interpreter's structures are those of 3.11, whose layout
 * is fixed.
 *
 * Why reading them is safe: only a thread that holds the interpreter's lock is looked at, so nobody
 * changes or frees them meanwhile; every code object is known by its type. And until so many walks have
 * found all as it should be, everything is copied by the kernel, which fails where nothing is; after one
 * that did not, there are no more walks.
 *
 * Synchronization as in modules.h. No lock, no allocation, errno is kept. Memory of zeros is valid and
 * empty.
 */
#ifndef ZP_SHIM_PYTHON_H
#define ZP_SHIM_PYTHON_H

#include "unwind.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

#define PYTHON_PLACES 16384
#define PYTHON_STRINGS (1024 * 1024)

struct python_place {
    _Atomic uint64_t hash;
    _Atomic uint32_t state; /* 1: name, file and line are there */
    uint32_t name_at, file_at, line;
};

struct python {
    struct python_place places[PYTHON_PLACES];
    _Atomic uint32_t n_string_bytes;
    char strings[PYTHON_STRINGS];
};

/* At start-up: is there such an interpreter? */
void python_prepare(void);

/* The places of the calling thread, innermost first, at most max; 0 where there are none, or it does not
 * hold the interpreter's lock. */
unsigned python_walk(struct python *python, uint32_t *places, unsigned max, bool *is_cut);

/* The function that runs Python's functions. */
const struct unwind_stop *python_interpreter(void);

#pragma GCC visibility pop

#endif
