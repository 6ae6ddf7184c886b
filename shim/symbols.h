/* SPDX-License-Identifier: MIT */
/* symbols.h: the dynamic symbol table of an object that the loader has mapped, without asking the loader: no
 * lock, no allocation. */
#ifndef ZP_SHIM_SYMBOLS_H
#define ZP_SHIM_SYMBOLS_H

#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

struct symbols {
    uintptr_t base;
    const ElfW(Phdr) * segments;
    int n_segments;
    ElfW(Sym) * table;
    const char *names;
    const uint32_t *gnu_hash;
};

/* False if the object has no symbols, or no GNU hash table to find them by. */
bool symbols_of(const struct dl_phdr_info *object, struct symbols *out);

/* The C library, as the loader has mapped it; false if it is not glibc. */
bool symbols_of_c_library(struct symbols *out);

/* The object in which an address lies; false if there is none. */
bool symbols_of_object_at(const void *address, struct symbols *out);

/* The first symbol of that name which the object defines, or NULL. */
ElfW(Sym) * symbols_find(const struct symbols *symbols, const char *name);

/* The same for callers that search many objects, with the hash of the name. */
uint32_t symbols_hash(const char *name);
ElfW(Sym) * symbols_find_hashed(const struct symbols *symbols, const char *name, uint32_t hash);

/* Does the object import a symbol that is wanted? */
bool symbols_imports_one(const struct symbols *symbols, bool (*wanted)(const char *name));

/* The flags (PF_R and so on) of the segment in which an address of the object lies, 0 if in none. */
unsigned symbols_segment_flags(const struct symbols *symbols, const void *address);

#pragma GCC visibility pop

#endif
