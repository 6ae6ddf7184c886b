/* SPDX-License-Identifier: MIT */
/* os_helper_tls.c: memory for a thread that the C library does not know, but on which the program's signal
 * handlers may run.
 *
 *   guard page | stack | static thread-local storage | thread control block | dynamic thread vector
 *                                                    ^ thread pointer, at a page's start: any alignment holds
 *
 * - Handlers use errno, thread-local variables of any model, ctype, stack guards, pthread_self. So the
 *   storage holds the initial images of all modules that were loaded at start-up, the vector is one in which
 *   modules loaded later count as not yet used (glibc then allocates their part at the first access), and the
 *   guards are the process's.
 * - Not there: initial values of static storage that a library brings which is opened later (it reads as
 *   zero), thread-specific buffers of the resolver, cancellation, robust mutexes.
 * - Knowledge of glibc: tcbhead_t and dtv_t, unchanged since 2.26 and checked against what dl_iterate_phdr
 *   says before it is relied on.
 */
#include "os/os_helper.h"

#include <ctype.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>

#define STACK_BYTES (128 * KIB)
/* glibc's descriptor of a thread ends with what programs see of restartable sequences. */
#define TCB_BYTES (3 * KIB)
#define MODULES_MAX 64
/* What lies further below the thread pointer was allocated for a thread, or no thread of ours can be had. */
#define STATIC_MAX MIB
/* Below the variables known at start-up: where glibc puts those of libraries opened later that insist on
 * static storage. */
#define SURPLUS_BYTES (8 * KIB)
/* Slots of the vector beyond those in use: glibc must not make ours longer, which did not come from malloc.
 */
#define MORE_SLOTS 32

/* The words of glibc's tcbhead_t. */
enum {
    TCB_SELF = 0,
    TCB_VECTOR = 1,
    TCB_THREAD = 2,
    TCB_MULTIPLE_THREADS = 3,
    TCB_STACK_GUARD = 5,
    TCB_POINTER_GUARD = 6
};

/* glibc's dtv_t: slot -1 holds the number of slots, slot 0 the generation of the list of modules. */
struct slot {
    uintptr_t value, to_free;
};
#define SLOT_UNUSED UINTPTR_MAX

struct module {
    size_t id, below; /* its part begins so far below the thread pointer */
    const void *image;
    size_t image_bytes;
};
static struct module modules[MODULES_MAX];
static unsigned n_modules;
static size_t below_most;
static size_t id_offset; /* of the thread's id, from the thread pointer; 0: unknown */

static struct {
    char *mapped;
    size_t length, n_slots, tls_bytes;
} memory;

static char *own_pointer(void) {
    return __builtin_thread_pointer();
}

static struct slot *vector_of(const char *pointer) {
    return (struct slot *)((const uintptr_t *)pointer)[TCB_VECTOR];
}

static int note_module(struct dl_phdr_info *info, size_t size, void *result) {
    bool *good = result;
    if (size < offsetof(struct dl_phdr_info, dlpi_tls_data) + sizeof info->dlpi_tls_data) return 0;
    const ElfW(Phdr) *segment = info->dlpi_phdr;
    for (int i = 0; i < info->dlpi_phnum && segment->p_type != PT_TLS; i++)
        segment++;
    if (segment == info->dlpi_phdr + info->dlpi_phnum || !info->dlpi_tls_data) return 0;
    size_t below = (size_t)(own_pointer() - (char *)info->dlpi_tls_data);
    const struct slot *vector = vector_of(own_pointer());
    if (!vector || info->dlpi_tls_modid > vector[-1].value ||
        vector[info->dlpi_tls_modid].value != (uintptr_t)info->dlpi_tls_data)
        *good = false;
    if (below > STATIC_MAX) {
        if (segment->p_memsz > STATIC_MAX) *good = false;
        return 0;
    }
    if (n_modules == MODULES_MAX)
        *good = false;
    else
        modules[n_modules++] = (struct module){
            info->dlpi_tls_modid, below, (void *)(info->dlpi_addr + segment->p_vaddr), segment->p_filesz};
    below_most = max_size(below_most, below);
    return 0;
}

/* Where glibc keeps a thread's id. It has been there in all versions for this processor; looked at, not
 * trusted. */
#define ID_OFFSET 0x2d0

bool os_helper_tls_learn(void) {
    bool good = true;
    n_modules = 0;
    dl_iterate_phdr(note_module, &good);
    return good && n_modules > 0;
}

int os_helper_tls_id_of(const char *pointer) {
    return __atomic_load_n((const int *)(pointer + ID_OFFSET), __ATOMIC_RELAXED);
}

void os_helper_tls_learn_id(int id) {
    if (os_helper_tls_id_of(own_pointer()) == id) id_offset = ID_OFFSET;
}

static size_t tls_needed(const void *lowest) {
    size_t to_errno = (size_t)(own_pointer() - (char *)&errno),
           to_lowest = (size_t)(own_pointer() - (const char *)lowest);
    return align_up(max_size(below_most, max_size(to_errno, to_lowest)) + SURPLUS_BYTES, PAGE_BYTES);
}

static int map_memory(size_t tls_bytes, size_t n_slots) {
    if (memory.mapped && memory.n_slots >= n_slots) {
        memset(memory.mapped + PAGE_BYTES + STACK_BYTES, 0,
               memory.tls_bytes + TCB_BYTES); /* of the thread before */
        return 0;
    }
    if (memory.mapped) os_unmap(memory.mapped, memory.length);
    memory.mapped = NULL;
    n_slots += MORE_SLOTS;
    size_t length = PAGE_BYTES + STACK_BYTES + tls_bytes +
                    align_up(TCB_BYTES + (n_slots + 2) * sizeof(struct slot), PAGE_BYTES);
    void *mapped = NULL;
    int error = os_map(length, &mapped);
    if (error) return error;
    os_calls.mprotect(mapped, PAGE_BYTES, PROT_NONE); /* the guard below the stack */
    memory.mapped = mapped;
    memory.length = length;
    memory.n_slots = n_slots;
    memory.tls_bytes = tls_bytes;
    return 0;
}

static void fill_vector(char *pointer) {
    struct slot *vector = (struct slot *)(pointer + TCB_BYTES) + 1;
    const struct slot *caller = vector_of(own_pointer());
    vector[-1] = (struct slot){memory.n_slots, 0};
    vector[0] = caller[0];
    for (size_t i = 1; i <= memory.n_slots; i++)
        vector[i] = (struct slot){SLOT_UNUSED, 0};
    for (unsigned i = 0; i < n_modules; i++)
        vector[modules[i].id] = (struct slot){(uintptr_t)pointer - modules[i].below, 0};
    ((uintptr_t *)pointer)[TCB_VECTOR] = (uintptr_t)vector;
}

/* The same variable in the storage at `pointer`. */
#define THERE(variable, pointer) (*(__typeof__(variable) *)((pointer) + ((char *)&(variable)-own_pointer())))

int os_helper_tls_make(const void *lowest, struct os_helper_memory *out) {
    int error = map_memory(tls_needed(lowest), vector_of(own_pointer())[-1].value);
    if (error) return error;
    char *storage = memory.mapped + PAGE_BYTES + STACK_BYTES, *pointer = storage + memory.tls_bytes;
    for (unsigned i = 0; i < n_modules; i++)
        memcpy(pointer - modules[i].below, modules[i].image, modules[i].image_bytes);
    uintptr_t *tcb = (uintptr_t *)pointer;
    const uintptr_t *caller = (const uintptr_t *)own_pointer();
    tcb[TCB_SELF] = tcb[TCB_THREAD] = (uintptr_t)pointer;
    tcb[TCB_MULTIPLE_THREADS] = 1;
    tcb[TCB_STACK_GUARD] = caller[TCB_STACK_GUARD];
    tcb[TCB_POINTER_GUARD] = caller[TCB_POINTER_GUARD];
    fill_vector(pointer);
    THERE(*__ctype_b_loc(), pointer) = *__ctype_b_loc();
    THERE(*__ctype_tolower_loc(), pointer) = *__ctype_tolower_loc();
    THERE(*__ctype_toupper_loc(), pointer) = *__ctype_toupper_loc();
    *out = (struct os_helper_memory){storage, pointer};
    return 0;
}

void os_helper_tls_forget(void) {
    memory.mapped = NULL;
}

void os_helper_tls_set_id(int id) {
    if (id_offset) *(int *)(own_pointer() + id_offset) = id;
}
