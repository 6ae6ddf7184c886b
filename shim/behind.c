/* SPDX-License-Identifier: MIT */
/* behind.c: looks names up in the objects behind us. See behind.h. */
#include "behind.h"

#include "symbols.h"

#include <dlfcn.h>
#include <sys/auxv.h>

struct search {
    const char *const *names;
    void **found;
    size_t n;
    uint32_t hashes[BEHIND_MAX];
    bool passed_us, ended, hooked;
};

static void look_up(struct search *search, const struct symbols *symbols) {
    bool is_c_library = symbols_find(symbols, "__libc_start_main") != NULL;
    for (size_t i = 0; i < search->n; i++) {
        ElfW(Sym) *symbol =
            search->found[i] ? NULL : symbols_find_hashed(symbols, search->names[i], search->hashes[i]);
        if (!symbol || ELF64_ST_TYPE(symbol->st_info) != STT_FUNC) continue;
        search->found[i] = (void *)(symbols->base + symbol->st_value);
        search->hooked |= !is_c_library;
    }
    search->ended = is_c_library;
}

static int look_into(struct dl_phdr_info *object, size_t size, void *result) {
    (void)size;
    struct search *search = result;
    struct symbols symbols;
    /* The loader does not relocate the addresses of the vDSO. */
    if (object->dlpi_addr == getauxval(AT_SYSINFO_EHDR) || !symbols_of(object, &symbols)) return 0;
    if (search->passed_us)
        look_up(search, &symbols);
    else
        search->passed_us = symbols_segment_flags(&symbols, (void *)behind_find) != 0;
    return search->ended;
}

bool behind_find(const char *const *names, void **found, size_t n) {
    struct search search = {.names = names, .found = found, .n = n};
    for (size_t i = 0; i < n; i++) {
        search.hashes[i] = symbols_hash(names[i]);
        found[i] = NULL;
    }
    dl_iterate_phdr(look_into, &search);
    for (size_t i = 0; i < n && !search.ended; i++) {
        if (found[i]) continue;
        search.hooked = true;
        found[i] = dlsym(RTLD_NEXT, names[i]);
        if (!found[i]) dlerror(); /* clears our error from the program's view */
    }
    return search.hooked;
}
