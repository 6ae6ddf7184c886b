/* SPDX-License-Identifier: MIT */
/* modules.h: the mapped objects in which return addresses have been found: the program, libraries,
 * plugins.
 *
 * An object is known by where it lies, by the loader's own record of it, by where its tables are and by
 * its build-id; what dlclose has unmapped and dlopen has put in its place is another one then, unless it
 * is the same in all of that. A number is never given twice, and numbers are below MODULES_MAX.
 *
 * Synchronization: a record is claimed by compare-and-swap, filled, and published by a store of its state;
 * after that it does not change. Two threads that meet an object at the same time may enter it twice,
 * which does no harm: readers of the file go by path and offset. No lock, no allocation; handlers may call
 * it. Memory of zeros is a valid empty table.
 */
#ifndef ZP_SHIM_MODULES_H
#define ZP_SHIM_MODULES_H

#include "cfi.h"

#include <link.h>
#include <stdatomic.h>

#pragma GCC visibility push(hidden)

#define MODULES_MAX 2048
#define MODULES_PATHS (512 * 1024)
#define BUILD_ID_MAX 20

struct module {
    _Atomic uint32_t state; /* 0 free, 1 being filled, 2 valid */
    uint32_t path_at;       /* in paths; 0 is the program itself */
    const struct link_map *map;
    uintptr_t start, end, bias;
    struct cfi cfi;        /* header 0: without tables */
    uintptr_t build_id_at; /* 0: not to be compared */
    uint8_t build_id[BUILD_ID_MAX], n_build_id;
};

struct modules {
    struct module table[MODULES_MAX];
    _Atomic uint32_t n_path_bytes; /* the first byte is that of the empty path */
    char paths[MODULES_PATHS];
};

/* At start-up: find out how to ask the loader. False where it cannot be asked without a lock (before glibc
 * 2.35): then no object is ever found. */
bool modules_prepare(void);

/* The number of the object that holds an address; -1 if there is none, or no room. */
int modules_find(struct modules *modules, uintptr_t address);

#pragma GCC visibility pop

#endif
