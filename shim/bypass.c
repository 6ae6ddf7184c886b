/* SPDX-License-Identifier: MIT */
/* bypass.c: the C library's own free, realloc and malloc_usable_size learn to know the pool's blocks.
 *
 * A library opened with RTLD_DEEPBIND, and whoever asks the C library by its handle (ctypes, foreign function
 * interfaces of all kinds), finds the C library's functions before the preloaded ones. Its malloc there does
 * no harm: such a block is foreign to the pool and goes to the next allocator. But a block of the pool in
 * glibc's free ends the program.
 *
 * So the entries of those functions in the C library's dynamic symbol table, which the loader has mapped
 * privately, are pointed at the functions below. They take the pool's blocks, and hand everything else to the
 * original: for all other pointers nothing changes, whatever allocator stands between. Bindings made before
 * stay; so this is done in the constructor.
 *
 * Not chosen: an interposed dlopen that takes the flag away. It would have to be exported and to jump, not
 * call; the library would then find other symbols than those for which it was opened so; and it does not help
 * those who ask by handle.
 *
 * Who writes what: `original` is written once, before the first table entry is changed, by the thread that
 * wins `closed`, and only read after that. The table entries are aligned words, each stored at once; a lookup
 * meanwhile finds the old function or the new.
 */
#include "bypass.h"

#include "base/bits.h"
#include "os/os.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

OS_SEALED static struct {
    void (*free)(void *);
    void *(*realloc)(void *, size_t);
    size_t (*malloc_usable_size)(void *);
} original;

static void free_any(void *p) {
    if (bypass_owns(p))
        free(p);
    else
        original.free(p);
}

static void *realloc_any(void *p, size_t size) {
    return p && bypass_owns(p) ? realloc(p, size) : original.realloc(p, size);
}

static size_t usable_size_any(void *p) {
    return bypass_owns(p) ? malloc_usable_size(p) : original.malloc_usable_size(p);
}

static const struct {
    const char *name;
    void **original;
    void *ours;
} entries[] = {
    {"free", (void **)&original.free, (void *)free_any},
    {"cfree", (void **)&original.free, (void *)free_any},
    {"__libc_free", (void **)&original.free, (void *)free_any},
    {"realloc", (void **)&original.realloc, (void *)realloc_any},
    {"__libc_realloc", (void **)&original.realloc, (void *)realloc_any},
    {"malloc_usable_size", (void **)&original.malloc_usable_size, (void *)usable_size_any},
};
#define N_ENTRIES (sizeof entries / sizeof entries[0])

static int change_protection(ElfW(Sym) * from, ElfW(Sym) * to, int protection) {
    uintptr_t start = align_down((uintptr_t)from, PAGE_BYTES),
              end = align_up((uintptr_t)(to + 1), PAGE_BYTES);
    return mprotect((void *)start, end - start, protection);
}

void bypass_close(void) {
    static _Atomic bool closed;
    struct symbols libc;
    ElfW(Sym) * found[N_ENTRIES], *lowest = NULL, *highest = NULL;
    if (atomic_exchange(&closed, true) || !symbols_of_c_library(&libc)) return;
    /* Only where the table lies in plain read-only memory, as it does in current C libraries. */
    if (symbols_segment_flags(&libc, libc.table) != PF_R) return;
    for (size_t i = 0; i < N_ENTRIES; i++) {
        ElfW(Sym) *symbol = found[i] = symbols_find(&libc, entries[i].name);
        if (!symbol || ELF64_ST_TYPE(symbol->st_info) != STT_FUNC) return;
        void *function = (void *)(libc.base + symbol->st_value);
        /* Aliases must name the same function; otherwise their meaning is unknown. */
        if (*entries[i].original && *entries[i].original != function) return;
        *entries[i].original = function;
        if (!lowest || symbol < lowest) lowest = symbol;
        if (!highest || symbol > highest) highest = symbol;
    }
    if (change_protection(lowest, highest, PROT_READ | PROT_WRITE)) return;
    for (size_t i = 0; i < N_ENTRIES; i++)
        __atomic_store_n(&found[i]->st_value, (uintptr_t)entries[i].ours - libc.base, __ATOMIC_RELEASE);
    change_protection(lowest, highest, PROT_READ);
}

/* The first object is the main program. */
static int look_at_program(struct dl_phdr_info *object, size_t size, void *result) {
    (void)size;
    struct symbols program;
    *(bool *)result =
        symbols_of(object, &program) && symbols_find(&program, "malloc") && symbols_find(&program, "free");
    return 1;
}

bool bypass_program_has_own_malloc(void) {
    bool own = false;
    dl_iterate_phdr(look_at_program, &own);
    return own;
}
