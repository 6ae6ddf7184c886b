/* SPDX-License-Identifier: MIT */
/* symbols.c: looks names up in the GNU hash table of a mapped object. See symbols.h. */
#include "symbols.h"

#include <string.h>

bool symbols_of(const struct dl_phdr_info *object, struct symbols *out) {
    *out = (struct symbols){
        .base = object->dlpi_addr, .segments = object->dlpi_phdr, .n_segments = object->dlpi_phnum};
    for (int i = 0; i < object->dlpi_phnum; i++) {
        if (object->dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
        const ElfW(Dyn) *entry = (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
        for (; entry->d_tag != DT_NULL && !(out->table && out->names && out->gnu_hash); entry++) {
            /* The loader has relocated these addresses, except those of the vDSO. */
            bool is_address =
                entry->d_tag == DT_SYMTAB || entry->d_tag == DT_STRTAB || entry->d_tag == DT_GNU_HASH;
            if (is_address && entry->d_un.d_ptr < object->dlpi_addr) return false;
            if (!is_address) continue;
            if (entry->d_tag == DT_SYMTAB) out->table = (ElfW(Sym) *)entry->d_un.d_ptr;
            if (entry->d_tag == DT_STRTAB) out->names = (const char *)entry->d_un.d_ptr;
            if (entry->d_tag == DT_GNU_HASH) out->gnu_hash = (const uint32_t *)entry->d_un.d_ptr;
        }
    }
    return out->table && out->names && out->gnu_hash;
}

uint32_t symbols_hash(const char *name) {
    uint32_t hash = 5381;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        hash = hash * 33 + *c;
    return hash;
}

/* The table's filter rejects most names that the object does not define with one word. */
static bool may_define(const uint32_t *header, uint32_t hash) {
    uint32_t n_words = header[2], shift = header[3], bits = sizeof(ElfW(Addr)) * 8;
    const ElfW(Addr) *filter = (const ElfW(Addr) *)(header + 4);
    if (n_words == 0) return false;
    ElfW(Addr) word = filter[hash / bits % n_words];
    return word >> hash % bits & word >> (hash >> shift) % bits & 1;
}

ElfW(Sym) * symbols_find_hashed(const struct symbols *symbols, const char *name, uint32_t hash) {
    /* Layout: number of buckets, first hashed symbol, words of the Bloom filter, its shift; filter; buckets;
     * chains. */
    const uint32_t *header = symbols->gnu_hash;
    uint32_t n_buckets = header[0], first = header[1];
    const uint32_t *buckets = header + 4 + header[2] * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
    const uint32_t *chains = buckets + n_buckets;
    if (n_buckets == 0 || !may_define(header, hash)) return NULL;
    uint32_t at = buckets[hash % n_buckets];
    if (at < first) return NULL;
    for (;; at++) {
        uint32_t here = chains[at - first];
        ElfW(Sym) *symbol = &symbols->table[at];
        if ((here | 1) == (hash | 1) && symbol->st_shndx != SHN_UNDEF &&
            strcmp(symbols->names + symbol->st_name, name) == 0)
            return symbol;
        if (here & 1) return NULL; /* the last of its bucket */
    }
}

ElfW(Sym) * symbols_find(const struct symbols *symbols, const char *name) {
    return symbols_find_hashed(symbols, name, symbols_hash(name));
}

bool symbols_imports_one(const struct symbols *symbols, bool (*wanted)(const char *name)) {
    /* The symbols before the first hashed one are those that the object does not define. */
    uint32_t n = symbols->gnu_hash[1];
    for (uint32_t i = 1; i < n; i++)
        if (symbols->table[i].st_shndx == SHN_UNDEF && wanted(symbols->names + symbols->table[i].st_name))
            return true;
    return false;
}

unsigned symbols_segment_flags(const struct symbols *symbols, const void *address) {
    for (int i = 0; i < symbols->n_segments; i++) {
        const ElfW(Phdr) *segment = &symbols->segments[i];
        uintptr_t start = symbols->base + segment->p_vaddr;
        if (segment->p_type == PT_LOAD && (uintptr_t)address - start < segment->p_memsz)
            return segment->p_flags;
    }
    return 0;
}

/* The object that defines the C library's start of every program, among those that the program sees. */
static int is_c_library(struct dl_phdr_info *object, size_t size, void *result) {
    (void)size;
    const char *name = object->dlpi_name ? strrchr(object->dlpi_name, '/') : NULL;
    if (!name || strcmp(name, "/libc.so.6") != 0) return 0;
    return symbols_of(object, result) && symbols_find(result, "__libc_start_main") != NULL;
}

bool symbols_of_c_library(struct symbols *out) {
    return dl_iterate_phdr(is_c_library, out) != 0;
}

struct wanted {
    const void *address;
    struct symbols *out;
};

static int holds_address(struct dl_phdr_info *object, size_t size, void *wanted) {
    (void)size;
    struct wanted *w = wanted;
    symbols_of(object, w->out); /* an object without symbols has segments too */
    return symbols_segment_flags(w->out, w->address) != 0;
}

bool symbols_of_object_at(const void *address, struct symbols *out) {
    return dl_iterate_phdr(holds_address, &(struct wanted){address, out}) != 0;
}
