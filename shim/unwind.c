/* SPDX-License-Identifier: MIT */
/* unwind.c: see unwind.h. */
#include "unwind.h"

#include "base/bits.h"
#include "os/os.h"

#include <dlfcn.h>
#include <string.h>

/* Of the library itself. */
#define OWN_FRAMES_MAX 8
/* No more than so much of a stack is asked of the kernel at once. */
#define ASKED_PAGES 1024
#define COPY_BYTES 1024

/* Of the first thread, whose stack has no end that it could be known by. */
OS_SEALED static uintptr_t main_stack_end;
/* So much is left free below it by the kernel. */
#define MAIN_STACK_BYTES (64 * MIB)

bool unwind_prepare(void) {
    void **end = dlsym(RTLD_DEFAULT, "__libc_stack_end");
    if (!end) dlerror(); /* the program must not find our error */
    if (end && os_unseal()) {
        main_stack_end = (uintptr_t)*end;
        os_seal();
    }
    return modules_prepare();
}

/* --- memory --- */

struct memory {
    uintptr_t low, high;       /* read directly */
    uintptr_t copied, n_bytes; /* what is in copy */
    uint64_t copy[COPY_BYTES / sizeof(uint64_t)];
};

static uintptr_t thread_pointer(void) {
    uintptr_t p;
    __asm__("mov %%fs:0, %0" : "=r"(p));
    return p;
}

/* Extends what the thread knows down to its stack pointer. The C library puts a thread's own data at the
 * top of its stack. */
static void learn_stack(struct unwind_thread *thread, uintptr_t sp) {
    uintptr_t low = align_down(sp, PAGE_BYTES), top = thread->high;
    if (sp >= thread->low && sp < top) return;
    if (top && (sp >= top || thread->low - low > ASKED_PAGES << PAGE_SHIFT)) return; /* another stack */
    if (!top) {
        uintptr_t of_thread = thread_pointer();
        if (main_stack_end - sp < MAIN_STACK_BYTES)
            top = main_stack_end;
        else if (of_thread - sp < ASKED_PAGES << PAGE_SHIFT)
            top = of_thread;
        else
            return;
    }
    uintptr_t end = thread->high ? thread->low : align_up(top, PAGE_BYTES);
    if (!os_is_readable((void *)low, (end - low) >> PAGE_SHIFT)) return;
    thread->low = low;
    thread->high = top;
}

static noinline_cold bool copy_word(struct memory *memory, uintptr_t at, uintptr_t *value) {
    uintptr_t start = align_down(at, COPY_BYTES);
    if (start != memory->copied || !memory->n_bytes) {
        memory->n_bytes = 0;
        if (!os_read_memory((void *)start, memory->copy, COPY_BYTES)) return false;
        memory->copied = start;
        memory->n_bytes = COPY_BYTES;
    }
    *value = memory->copy[(at - start) / sizeof(uint64_t)];
    return true;
}

static inline bool read_word(struct memory *memory, uintptr_t at, uintptr_t *value) {
    if (unlikely(at % sizeof(uintptr_t))) return false;
    if (unlikely(at < memory->low || at >= memory->high)) return copy_word(memory, at, value);
    *value = *(const uintptr_t *)at;
    return true;
}

/* --- rules --- */

enum { RULE_BITS = 30, KEY_BITS = 47, OFFSET_BITS = 20, SAVED_BITS = 7 };
#define KEY_MASK (((uint64_t)1 << KEY_BITS) - 1)

/* A bijection of 47 bits. */
static inline uint64_t key_of(uintptr_t pc, unsigned module) {
    uint64_t key = (pc ^ module * 0x5851F42D4Cull << 9) & KEY_MASK;
    key = key * 0x2545F4914F6CDD1Dull & KEY_MASK;
    return key ^ key >> 23;
}

/* Never 0. */
static uint64_t pack(struct cfi_rule rule) {
    uint64_t offset = (uint64_t)(int64_t)rule.cfa_offset / 8, saved = rule.saved_below / 8;
    if (rule.cfa_offset < 0 || offset >> OFFSET_BITS || saved >> SAVED_BITS) rule.kind = CFI_END;
    if (rule.kind != CFI_FRAME) return (uint64_t)rule.kind + 1;
    return ((offset << SAVED_BITS | saved) << 1 | rule.from_frame_pointer) << 2 | (CFI_FRAME + 1);
}

static struct cfi_rule unpack(uint64_t word) {
    struct cfi_rule rule = {.kind = (enum cfi_kind)((word & 3) - 1)};
    rule.from_frame_pointer = word >> 2 & 1;
    rule.saved_below = (uint32_t)(word >> 3 & ((1u << SAVED_BITS) - 1)) * 8;
    rule.cfa_offset = (int32_t)((word >> (3 + SAVED_BITS) & ((1u << OFFSET_BITS) - 1)) * 8);
    return rule;
}

static struct cfi_rule rule_at(struct unwinder *unwinder, unsigned number, uintptr_t pc) {
    uint64_t key = key_of(pc, number), tag = key >> UNWIND_RULES_LOG2 << RULE_BITS;
    _Atomic uint64_t *slot = &unwinder->rules[key & ((1 << UNWIND_RULES_LOG2) - 1)];
    uint64_t word = atomic_load_explicit(slot, memory_order_relaxed);
    const uint64_t mask = ((uint64_t)1 << RULE_BITS) - 1;
    if (unlikely((word & ~mask) != tag || !(word & mask))) {
        const struct module *module = &unwinder->modules.table[number];
        word =
            tag | pack(module->cfi.header ? cfi_find(&module->cfi, pc) : (struct cfi_rule){.kind = CFI_END});
        atomic_store_explicit(slot, word, memory_order_relaxed);
    }
    return unpack(word & mask);
}

/* --- the walk --- */

struct registers {
    uintptr_t pc, sp, bp;
    bool is_exact; /* pc is that of an instruction, not what a call returns to */
};

static inline bool step(struct registers *registers, struct cfi_rule rule, struct memory *memory) {
    if (unlikely(rule.kind == CFI_SIGNAL)) {
        /* The kernel's frame: struct ucontext begins where the handler's return address was. */
        enum { BP = 120, SP = 160, PC = 168 };
        uintptr_t at = registers->sp;
        registers->is_exact = true;
        return read_word(memory, at + BP, &registers->bp) && read_word(memory, at + PC, &registers->pc) &&
               read_word(memory, at + SP, &registers->sp);
    }
    if (rule.kind == CFI_END) return false;
    uintptr_t cfa = (rule.from_frame_pointer ? registers->bp : registers->sp) + (uintptr_t)rule.cfa_offset;
    if (cfa <= registers->sp) return false; /* stacks grow down: this chain has no end */
    registers->is_exact = false;
    registers->sp = cfa;
    return read_word(memory, cfa - 8, &registers->pc) &&
           (!rule.saved_below || read_word(memory, cfa - rule.saved_below, &registers->bp));
}

__attribute__((noinline)) unsigned unwind_walk(struct unwinder *unwinder, struct unwind_thread *thread,
                                               const void *own, const struct unwind_stop *stop,
                                               uint64_t *frames, unsigned max, bool *is_cut) {
    struct registers registers;
    __asm__ volatile("lea 0(%%rip), %0\n\tmov %%rsp, %1\n\tmov %%rbp, %2"
                     : "=&r"(registers.pc), "=&r"(registers.sp), "=&r"(registers.bp));
    registers.is_exact = true;
    learn_stack(thread, registers.sp);
    struct memory memory;
    memory.low = thread->low;
    memory.high = thread->high;
    memory.n_bytes = 0;
    const struct module *module = NULL;
    unsigned n = 0;
    int number = -1;
    bool skips = own != NULL;
    *is_cut = false;
    for (unsigned steps = 0; steps < max + OWN_FRAMES_MAX && registers.pc; steps++) {
        uintptr_t pc = registers.pc - !registers.is_exact;
        /* What is on the stack is not unloaded meanwhile, so neighbours are not looked up. */
        if (!module || pc - module->start >= module->end - module->start) {
            number = modules_find(&unwinder->modules, pc);
            module = number < 0 ? NULL : &unwinder->modules.table[number];
        }
        skips = skips && module && (uintptr_t)own - module->start < module->end - module->start;
        if (stop && pc - stop->start < stop->end - stop->start) break;
        if (!skips) {
            if ((*is_cut = n == max)) break;
            uint64_t in_file = module ? pc - module->bias : pc;
            frames[n++] = (uint64_t)(module ? (unsigned)number : UNWIND_NO_MODULE) << UNWIND_ADDRESS_BITS |
                          (in_file & (((uint64_t)1 << UNWIND_ADDRESS_BITS) - 1));
        }
        if (!module || !step(&registers, rule_at(unwinder, (unsigned)number, pc), &memory)) break;
    }
    return n;
}
