/* SPDX-License-Identifier: MIT */
/* sandbox.c: reads the imported symbols of the main program. See sandbox.h. */
#include "sandbox.h"

#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct imports {
    bool seen, has_libseccomp;
    const ElfW(Sym) *table;
    const char *names;
    uint32_t count;
};

/* In a GNU hash table the symbols before `offset` are exactly those it does not define: the imports. */
static uint32_t count_imports(const uint32_t *gnu_hash, const uint32_t *hash)
{
    if (gnu_hash) return gnu_hash[1];
    return hash ? hash[1] : 0;
}

static int read_symbols(struct dl_phdr_info *info, size_t size, void *result)
{
    (void)size;
    struct imports *symbols = result;
    /* The first object is the main program. Of the others one is telling, whoever has brought it in: nobody else has a use for it. */
    if (symbols->seen) {
        if (info->dlpi_name && strstr(info->dlpi_name, "/libseccomp.so")) symbols->has_libseccomp = true;
        return 0;
    }
    symbols->seen = true;
    const uint32_t *gnu_hash = NULL, *hash = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
        const ElfW(Dyn) *entry = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
        for (; entry->d_tag != DT_NULL; entry++) {
            /* The loader has relocated these addresses. */
            const void *address = (const void *)entry->d_un.d_ptr;
            if (entry->d_tag == DT_SYMTAB) symbols->table = address;
            if (entry->d_tag == DT_STRTAB) symbols->names = address;
            if (entry->d_tag == DT_GNU_HASH) gnu_hash = address;
            if (entry->d_tag == DT_HASH) hash = address;
        }
    }
    symbols->count = count_imports(gnu_hash, hash);
    return 0;
}

static bool changes_user, has_prctl, has_syscall;

static enum sandbox_plan look(void)
{
    static const struct {
        const char *name;
        enum sandbox_plan plan;
    } telling[] = {
        {"unshare", SANDBOX_NO_THREAD},      {"setns", SANDBOX_NO_THREAD}, {"seccomp_load", SANDBOX_NO_THREAD},
        {"seccomp_init", SANDBOX_NO_THREAD}, {"prctl", SANDBOX_AT_START},
    };
    struct imports symbols = {.count = 0};
    dl_iterate_phdr(read_symbols, &symbols);
    enum sandbox_plan plan = symbols.has_libseccomp ? SANDBOX_NO_THREAD : SANDBOX_ANY_TIME;
    if (!symbols.table || !symbols.names) return plan;
    for (uint32_t i = 1; i < symbols.count; i++) {
        if (symbols.table[i].st_shndx != SHN_UNDEF) continue;
        const char *name = symbols.names + symbols.table[i].st_name;
        if (strncmp(name, "set", 3) == 0 && strstr(name, "uid")) changes_user = true; /* setuid, seteuid, setreuid, setresuid */
        if (strcmp(name, "prctl") == 0) has_prctl = true;
        if (strcmp(name, "syscall") == 0) has_syscall = true;
        for (size_t t = 0; t < sizeof telling / sizeof telling[0]; t++)
            if (strcmp(name, telling[t].name) == 0 && telling[t].plan > plan) plan = telling[t].plan;
    }
    return plan;
}

enum sandbox_plan sandbox_plan(void)
{
    static int known = -1;
    if (known < 0) known = look();
    return (enum sandbox_plan)known;
}

bool sandbox_may_filter_all_threads(void)
{
    sandbox_plan();
    return has_prctl && has_syscall && !changes_user;
}
