/* SPDX-License-Identifier: MIT */
/* guarded.c: taking, placing and freeing slots. See guarded.h. */
#include "hardened/guarded.h"

#include "sync/fatal.h"
#include "os/os.h"

#include <errno.h>

#define CLASS_SPAN_LOG2 39
#define CLASS_SPAN ((size_t)1 << CLASS_SPAN_LOG2)
#define SLOTS_MAX_LOG2 15
/* As for open spaces: nothing is placed here by itself. */
#define RANGE_LOW ((uintptr_t)22 << 40)
#define RANGE_HIGH ((uintptr_t)42 << 40)
/* A class is given up for this request after so many slots that were taken, and after it the next larger one
 * is tried. */
#define PROBES 48
#define CLASSES_TRIED 3
/* Foreign mappings met before the request is refused. */
#define COLLISIONS_MAX 8

void guarded_init(struct guarded *guarded, size_t max_bytes) {
    size_t span = GUARDED_CLASSES * CLASS_SPAN;
    guarded->key = os_random();
    guarded->max_bytes = max_bytes;
    guarded->base = align_up(RANGE_LOW + os_random() % (RANGE_HIGH - RANGE_LOW - span), HUGE_BYTES);
    guarded->span = span;
}

/* --- slots --- */

static unsigned slot_log2(unsigned cls) {
    return GUARDED_FIRST_LOG2 + cls;
}

static uint32_t n_slots(unsigned cls) {
    unsigned fitting = CLASS_SPAN_LOG2 - slot_log2(cls);
    return 1u << (fitting < SLOTS_MAX_LOG2 ? fitting : SLOTS_MAX_LOG2);
}

static uintptr_t slot_address(const struct guarded *guarded, unsigned cls, uint32_t index) {
    return guarded->base + cls * CLASS_SPAN + ((uintptr_t)index << slot_log2(cls));
}

/* Unpredictable to who cannot read the process's memory, no more. */
static uint64_t draw(struct guarded *guarded) {
    uint64_t n = atomic_fetch_add_explicit(&guarded->n_drawn, 1, memory_order_relaxed);
    uint64_t x = guarded->key + (n + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static struct guarded_slot *class_slots(struct guarded_class *class, unsigned cls) {
    struct guarded_slot *slots = atomic_load_explicit(&class->slots, memory_order_acquire);
    if (likely(slots)) return slots;
    size_t bytes = align_up(n_slots(cls) * sizeof *slots, PAGE_BYTES);
    void *made = NULL;
    if (os_map(bytes, &made)) return NULL;
    if (atomic_compare_exchange_strong_explicit(&class->slots, &slots, made, memory_order_acq_rel,
                                                memory_order_acquire))
        return made;
    os_unmap(made, bytes); /* another thread was first */
    return slots;
}

/* Take a slot that may be used; *index says which. NULL if none was found. */
static struct guarded_slot *take_slot(struct guarded *guarded, unsigned cls, uint32_t *index) {
    struct guarded_class *class = &guarded->classes[cls];
    struct guarded_slot *slots = class_slots(class, cls);
    if (!slots) return NULL;
    uint32_t count = n_slots(cls);
    for (int probe = 0; probe < PROBES; probe++) {
        *index = (uint32_t)draw(guarded) & (count - 1);
        struct guarded_slot *slot = &slots[*index];
        uint32_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
        if (state == GUARDED_FREED) {
            uint64_t freed_since =
                atomic_load_explicit(&class->n_freed, memory_order_relaxed) - READ_RELAXED(slot->freed_at);
            if (freed_since < count / 4) continue;
        } else if (state != GUARDED_UNUSED) {
            continue;
        }
        if (atomic_compare_exchange_strong_explicit(&slot->state, &state, GUARDED_BUSY, memory_order_acquire,
                                                    memory_order_relaxed))
            return slot;
    }
    return NULL;
}

/* The slot an owned pointer points into, and its first address; NULL if that part of the range has never been
 * used. */
static struct guarded_slot *slot_of(struct guarded *guarded, const void *p) {
    size_t offset = (uintptr_t)p - guarded->base;
    unsigned cls = (unsigned)(offset >> CLASS_SPAN_LOG2);
    size_t index = (offset & (CLASS_SPAN - 1)) >> slot_log2(cls);
    struct guarded_slot *slots = atomic_load_explicit(&guarded->classes[cls].slots, memory_order_acquire);
    return slots && index < n_slots(cls) ? &slots[index] : NULL;
}

/* --- getting --- */

static uintptr_t first_page(const char *p) {
    return align_down((uintptr_t)p, PAGE_BYTES);
}
static uintptr_t end_page(const char *p, size_t size) {
    return align_up((uintptr_t)p + size, PAGE_BYTES);
}

/* Map a block somewhere in a slot that is BUSY. 0 or negative errno. */
static int place(struct guarded *guarded, unsigned cls, uint32_t index, struct guarded_slot *slot,
                 size_t alignment, size_t size, size_t needed) {
    size_t room_pages = (((size_t)1 << slot_log2(cls)) - PAGE_BYTES - needed) >> PAGE_SHIFT;
    uintptr_t end =
        slot_address(guarded, cls, index) + needed + (draw(guarded) % (room_pages + 1) << PAGE_SHIFT);
    char *p = (char *)align_down(end - size, alignment);
    int error = os_map_at((void *)first_page(p), end_page(p, size) - first_page(p));
    if (error) return error;
    WRITE_RELAXED(slot->address, p);
    WRITE_RELAXED(slot->size, size);
    atomic_store_explicit(&slot->state, GUARDED_LIVE, memory_order_release);
    return 0;
}

static unsigned class_for(size_t needed) {
    unsigned log2 = log2_floor(needed + PAGE_BYTES - 1) + 1; /* one page at least stays unmapped */
    return log2 < GUARDED_FIRST_LOG2 ? 0 : log2 - GUARDED_FIRST_LOG2;
}

/* A slot that was taken and could not be used: as if just freed. What it was before is forgotten. */
static void give_up(struct guarded_slot *slot, enum guarded_state state) {
    WRITE_RELAXED(slot->address, NULL);
    WRITE_RELAXED(slot->freed_at, 0);
    atomic_store_explicit(&slot->state, state, memory_order_release);
}

static void *get(struct guarded *guarded, size_t alignment, size_t size) {
    size_t needed = align_up(size, PAGE_BYTES) + (alignment > PAGE_BYTES ? alignment : 0);
    unsigned first = class_for(needed);
    int n_collisions = 0;
    for (unsigned cls = first; cls < first + CLASSES_TRIED && cls < GUARDED_CLASSES; cls++)
        while (n_collisions < COLLISIONS_MAX) {
            uint32_t index;
            struct guarded_slot *slot = take_slot(guarded, cls, &index);
            if (!slot) break;
            int error = place(guarded, cls, index, slot, alignment, size, needed);
            if (!error) return slot->address;
            give_up(slot, error == -EEXIST ? GUARDED_LOST : GUARDED_FREED);
            if (error != -EEXIST) return NULL;
            n_collisions++;
        }
    return NULL;
}

void *guarded_get(struct guarded *guarded, size_t alignment, size_t size) {
    if (size == 0 || size > guarded->max_bytes || alignment > GUARDED_ALIGNMENT_MAX) return NULL;
    if (alignment < 16) alignment = 16;
    if (atomic_fetch_add_explicit(&guarded->n_live, 1, memory_order_relaxed) < GUARDED_LIVE_MAX) {
        void *p = get(guarded, alignment, size);
        if (p) {
            atomic_fetch_add_explicit(&guarded->live_bytes, size, memory_order_relaxed);
            return p;
        }
    }
    atomic_fetch_sub_explicit(&guarded->n_live, 1, memory_order_relaxed);
    return NULL;
}

/* --- freeing --- */

_Noreturn static noinline_cold void bad_pointer(const struct guarded_slot *slot, const char *p) {
    const char *address = slot ? READ_RELAXED(slot->address) : NULL;
    bool covered = address && p >= address && p < address + READ_RELAXED(slot->size);
    if (covered && atomic_load_explicit(&slot->state, memory_order_relaxed) != GUARDED_LIVE)
        fatal_pointer("double free", p);
    if (!covered) fatal_pointer("free of an invalid pointer", p);
    if ((size_t)(p - address) % PAGE_BYTES) fatal_pointer("free of a misaligned pointer", p);
    fatal_pointer("free of an interior pointer", p);
}

static struct guarded_slot *live_slot(struct guarded *guarded, const void *p) {
    struct guarded_slot *slot = slot_of(guarded, p);
    if (unlikely(!slot || READ_RELAXED(slot->address) != p ||
                 atomic_load_explicit(&slot->state, memory_order_relaxed) != GUARDED_LIVE))
        bad_pointer(slot, p);
    return slot;
}

/* The live block's slot, now BUSY. */
static struct guarded_slot *seize(struct guarded *guarded, const void *p) {
    struct guarded_slot *slot = live_slot(guarded, p);
    uint32_t state = GUARDED_LIVE;
    if (unlikely(!atomic_compare_exchange_strong_explicit(&slot->state, &state, GUARDED_BUSY,
                                                          memory_order_acquire, memory_order_relaxed)))
        fatal_pointer("double free", p); /* in this moment, by another thread */
    return slot;
}

/* The pages are gone: let the slot rest. */
static void retire(struct guarded *guarded, struct guarded_slot *slot, bool unmapped) {
    struct guarded_class *class =
        &guarded->classes[((uintptr_t)slot->address - guarded->base) >> CLASS_SPAN_LOG2];
    WRITE_RELAXED(slot->freed_at, atomic_fetch_add_explicit(&class->n_freed, 1, memory_order_relaxed));
    atomic_store_explicit(&slot->state, unmapped ? GUARDED_FREED : GUARDED_LOST, memory_order_release);
}

void guarded_put(struct guarded *guarded, void *p) {
    struct guarded_slot *slot = seize(guarded, p);
    size_t size = slot->size;
    bool unmapped = os_unmap((void *)first_page(p), end_page(p, size) - first_page(p)) == 0;
    retire(guarded, slot, unmapped);
    atomic_fetch_sub_explicit(&guarded->live_bytes, size, memory_order_relaxed);
    if (unmapped) atomic_fetch_sub_explicit(&guarded->n_live, 1, memory_order_relaxed);
}

size_t guarded_size(struct guarded *guarded, const void *p) {
    return live_slot(guarded, p)->size;
}

void guarded_shrink(struct guarded *guarded, void *p, size_t size) {
    struct guarded_slot *slot = live_slot(guarded, p);
    size_t had = slot->size;
    uintptr_t end = end_page(p, size), old_end = end_page(p, had);
    if (end < old_end && os_unmap((void *)end, old_end - end)) return; /* it stays as large as it was */
    WRITE_RELAXED(slot->size, size);
    atomic_fetch_sub_explicit(&guarded->live_bytes, had - size, memory_order_relaxed);
}

void *guarded_grow(struct guarded *guarded, void *p, size_t size) {
    if (size > guarded->max_bytes) return NULL;
    size_t in_page = (uintptr_t)p % PAGE_BYTES, needed = align_up(in_page + size, PAGE_BYTES);
    unsigned cls = class_for(needed);
    uint32_t index;
    struct guarded_slot *to = cls < GUARDED_CLASSES ? take_slot(guarded, cls, &index) : NULL;
    if (!to) return NULL;
    struct guarded_slot *from = seize(guarded, p);
    size_t had = from->size;
    char *start = (char *)slot_address(guarded, cls, index);
    if (os_relocate((void *)first_page(p), end_page(p, had) - first_page(p), start, needed)) {
        give_up(to, GUARDED_FREED);
        atomic_store_explicit(&from->state, GUARDED_LIVE, memory_order_release);
        return NULL;
    }
    retire(guarded, from, true);
    WRITE_RELAXED(to->address, start + in_page);
    WRITE_RELAXED(to->size, size);
    atomic_store_explicit(&to->state, GUARDED_LIVE, memory_order_release);
    atomic_fetch_add_explicit(&guarded->live_bytes, size - had, memory_order_relaxed);
    return to->address;
}
