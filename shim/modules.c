/* SPDX-License-Identifier: MIT */
/* modules.c: see modules.h. */
#include "modules.h"

#include "base/bits.h"
#include "os/os.h"

#include <dlfcn.h>
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

/* The loader's answer; part of its binary interface since glibc 2.35. */
struct found {
    unsigned long long flags;
    void *start, *end;
    struct link_map *map;
    void *eh_frame; /* .eh_frame_hdr */
    unsigned long long reserved[7];
};

OS_SEALED static int (*find_object)(void *address, struct found *found);

bool modules_prepare(void) {
    void *function = dlsym(RTLD_DEFAULT, "_dl_find_object");
    if (!function) dlerror(); /* the program must not find our error */
    if (!function || !os_unseal()) return false;
    *(void **)&find_object = function;
    os_seal();
    return true;
}

static void copy_path(struct modules *modules, struct module *module, const char *path) {
    size_t length = strlen(path) + 1;
    if (length == 1 || length > 4096) return;
    uint32_t at =
        1 + atomic_fetch_add_explicit(&modules->n_path_bytes, (uint32_t)length, memory_order_relaxed);
    if (at > MODULES_PATHS - length) {
        atomic_fetch_sub_explicit(&modules->n_path_bytes, (uint32_t)length, memory_order_relaxed);
        return;
    }
    memcpy(modules->paths + at, path, length);
    module->path_at = at;
}

/* From the notes of one segment. */
static void copy_build_id(struct module *module, const char *at, const char *end) {
    while ((size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *note = (const void *)at;
        size_t name = align_up(note->n_namesz, 4), length = align_up(note->n_descsz, 4);
        at += sizeof *note;
        if (name > (size_t)(end - at) || length > (size_t)(end - at) - name) return;
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && memcmp(at, "GNU", 4) == 0) {
            module->n_build_id = (uint8_t)min_size(note->n_descsz, BUILD_ID_MAX);
            memcpy(module->build_id, at + name, module->n_build_id);
            /* In the page with the header: as safe to read in what may lie there later. */
            if ((uintptr_t)at >= module->start &&
                (uintptr_t)at + name + sizeof(uint64_t) <= module->start + PAGE_BYTES &&
                note->n_descsz >= sizeof(uint64_t))
                module->build_id_at = (uintptr_t)at + name;
            return;
        }
        at += name + length;
    }
}

/* The loaded, readable segment that holds an address of the file, or NULL. */
static const ElfW(Phdr) * segment_of(const ElfW(Phdr) * segments, unsigned n, uintptr_t address) {
    for (unsigned i = 0; i < n; i++)
        if (segments[i].p_type == PT_LOAD && segments[i].p_flags & PF_R &&
            address - segments[i].p_vaddr < segments[i].p_memsz)
            return &segments[i];
    return NULL;
}

/* The program headers; 0 where they cannot be found. Of an object with holes the loader knows the parts
 * only. */
static unsigned find_segments(const struct module *module, const ElfW(Phdr) * *segments) {
    uintptr_t starts[2] = {module->bias, module->start};
    if (!*module->map->l_name && getauxval(AT_PHDR)) {
        *segments = (const ElfW(Phdr) *)getauxval(AT_PHDR);
        return (unsigned)getauxval(AT_PHNUM);
    }
    for (unsigned i = 0; i < 2; i++) {
        /* The header lies in front of the first segment, in every linker's output. */
        const ElfW(Ehdr) *header = (const void *)starts[i];
        if (!header || !os_is_readable(header, 1) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) continue;
        *segments = (const void *)(starts[i] + header->e_phoff);
        return header->e_phoff + header->e_phnum * sizeof **segments > PAGE_BYTES ? 0 : header->e_phnum;
    }
    return 0;
}

static void read_segments(struct module *module, uintptr_t eh_frame) {
    const ElfW(Phdr) * segments, *holds;
    unsigned n = find_segments(module, &segments);
    for (unsigned i = 0; i < n; i++) {
        uintptr_t at = segments[i].p_vaddr;
        if (segments[i].p_type != PT_NOTE || module->n_build_id) continue;
        holds = segment_of(segments, n, at);
        if (holds && segments[i].p_memsz <= holds->p_vaddr + holds->p_memsz - at)
            copy_build_id(module, (const char *)(module->bias + at),
                          (const char *)(module->bias + at + segments[i].p_memsz));
    }
    holds = n && eh_frame ? segment_of(segments, n, eh_frame - module->bias) : NULL;
    if (holds)
        module->cfi = (struct cfi){eh_frame, module->bias + holds->p_vaddr,
                                   module->bias + holds->p_vaddr + holds->p_filesz};
}

static int enter(struct modules *modules, const struct found *found, unsigned at) {
    for (unsigned tried = 0; tried < MODULES_MAX; tried++, at = (at + 1) % MODULES_MAX) {
        struct module *module = &modules->table[at];
        uint32_t empty = 0;
        if (!atomic_compare_exchange_strong_explicit(&module->state, &empty, 1, memory_order_acquire,
                                                     memory_order_relaxed))
            continue;
        module->map = found->map;
        module->start = (uintptr_t)found->start;
        module->end = (uintptr_t)found->end;
        module->bias = found->map->l_addr;
        read_segments(module, (uintptr_t)found->eh_frame);
        copy_path(modules, module, found->map->l_name);
        atomic_store_explicit(&module->state, 2, memory_order_release);
        return (int)at;
    }
    return -1;
}

static bool is_same(const struct module *module, const struct found *found) {
    if (module->build_id_at && memcmp((void *)module->build_id_at, module->build_id, sizeof(uint64_t)) != 0)
        return false;
    return module->map == found->map && module->end == (uintptr_t)found->end &&
           (module->cfi.header == (uintptr_t)found->eh_frame || module->cfi.header == 0);
}

int modules_find(struct modules *modules, uintptr_t address) {
    struct found found;
    if (!find_object || find_object((void *)address, &found) != 0) return -1;
    unsigned first = (unsigned)(((uintptr_t)found.start >> PAGE_SHIFT) * 0x9E3779B1u) % MODULES_MAX;
    for (unsigned tried = 0, at = first; tried < MODULES_MAX; tried++, at = (at + 1) % MODULES_MAX) {
        uint32_t state = atomic_load_explicit(&modules->table[at].state, memory_order_acquire);
        if (state == 0) return enter(modules, &found, at);
        if (state == 2 && modules->table[at].start == (uintptr_t)found.start &&
            is_same(&modules->table[at], &found))
            return (int)at;
    }
    return -1;
}
