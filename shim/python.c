/* SPDX-License-Identifier: MIT */
/* python.c: see python.h. */
#include "python.h"

#include "base/bits.h"
#include "os/os.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <string.h>

/* Offsets in the structures of CPython 3.11. */
enum {
    RUNTIME_THREAD = 576, /* the thread that holds the lock */
    RUNTIME_HAS_KEY = 592,
    RUNTIME_KEY = 596,
    THREAD_CFRAME = 56,
    CFRAME_FRAME = 8,
    FRAME_CODE = 32,
    FRAME_PREVIOUS = 48,
    FRAME_INSTRUCTION = 56,
    OBJECT_TYPE = 8,
    OBJECT_SIZE = 16,
    CODE_LINE = 72,
    CODE_FILE = 112,
    CODE_NAME = 128,
    CODE_LINES = 136,
    CODE_INSTRUCTIONS = 184,
    BYTES_DATA = 32,
    TEXT_LENGTH = 16,
    TEXT_STATE = 32,
    TEXT_ASCII_DATA = 48,
    TEXT_DATA = 72,
};
#define WALKS_CHECKED 100
#define TEXT_MOST 200
#define LINES_MOST (64 * KIB)

OS_SEALED static struct {
    uintptr_t runtime, code_type;
    struct unwind_stop interpreter;
} found;
static _Atomic uint32_t n_checked;
static _Atomic bool failed;

void python_prepare(void) {
    unsigned long *version = dlsym(RTLD_DEFAULT, "Py_Version");
    uintptr_t runtime = (uintptr_t)dlsym(RTLD_DEFAULT, "_PyRuntime");
    uintptr_t type = (uintptr_t)dlsym(RTLD_DEFAULT, "PyCode_Type");
    void *interpreter = dlsym(RTLD_DEFAULT, "_PyEval_EvalFrameDefault");
    const ElfW(Sym) *symbol = NULL;
    Dl_info info;
    if (!version || !runtime || !type || !interpreter) {
        dlerror(); /* the program must not find our error */
        return;
    }
    if (*version >> 16 != 0x030b || !dladdr1(interpreter, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol)
        return;
    if (!os_unseal()) return;
    found.runtime = runtime;
    found.code_type = type;
    found.interpreter.start = (uintptr_t)interpreter;
    found.interpreter.end = (uintptr_t)interpreter + symbol->st_size;
    os_seal();
}

const struct unwind_stop *python_interpreter(void) {
    return &found.interpreter;
}

/* --- reading --- */

static bool read_bytes(uintptr_t from, void *to, size_t length) {
    if (likely(atomic_load_explicit(&n_checked, memory_order_relaxed) >= WALKS_CHECKED)) {
        memcpy(to, (const void *)from, length);
        return true;
    }
    return os_read_memory((const void *)from, to, length);
}

static bool read_word(uintptr_t from, uintptr_t *to) {
    return read_bytes(from, to, sizeof *to);
}

/* --- a place, when it is first seen --- */

/* Copies a str; what is no ASCII becomes '?'. Where it cannot be, the place has no name. */
static uint32_t copy_text(struct python *python, uintptr_t text) {
    uintptr_t length;
    uint32_t state;
    char copy[TEXT_MOST + 1];
    if (!read_word(text + TEXT_LENGTH, &length) || !read_bytes(text + TEXT_STATE, &state, sizeof state))
        return 0;
    unsigned kind = state >> 2 & 7, is_compact = state >> 5 & 1, is_ascii = state >> 6 & 1;
    if (!is_compact || (kind != 1 && kind != 2 && kind != 4) || length > 1 << 20) return 0;
    /* The end tells more, of a path. */
    uintptr_t first = length > TEXT_MOST ? length - TEXT_MOST : 0;
    uintptr_t data = text + (is_ascii ? TEXT_ASCII_DATA : TEXT_DATA);
    size_t n = 0;
    for (uintptr_t i = first; i < length; i++) {
        uint32_t c = 0;
        if (!read_bytes(data + i * kind, &c, kind)) return 0;
        copy[n++] = c >= ' ' && c < 127 ? (char)c : '?';
    }
    copy[n++] = '\0';
    uint32_t at = 1 + atomic_fetch_add_explicit(&python->n_string_bytes, (uint32_t)n, memory_order_relaxed);
    if (at > PYTHON_STRINGS - n) {
        atomic_fetch_sub_explicit(&python->n_string_bytes, (uint32_t)n, memory_order_relaxed);
        return 0;
    }
    memcpy(python->strings + at, copy, n);
    return at;
}

struct lines {
    uintptr_t at, end;
};

static uint32_t take_byte(struct lines *lines) {
    uint8_t byte = 0;
    if (lines->at < lines->end && !read_bytes(lines->at, &byte, 1)) lines->at = lines->end;
    lines->at++;
    return byte;
}

static uint32_t take_number(struct lines *lines) {
    uint32_t value = 0, byte = 0x40;
    for (unsigned shift = 0; byte & 0x40 && shift < 32; shift += 6) {
        byte = take_byte(lines);
        value |= (byte & 0x3f) << shift;
    }
    return value;
}

/* Of the instruction `offset` bytes behind the first; 0: unknown. */
static uint32_t line_at(uintptr_t code, uintptr_t table, uintptr_t offset) {
    uint32_t first = 0;
    uintptr_t length;
    if (!read_bytes(code + CODE_LINE, &first, sizeof first) || !read_word(table + OBJECT_SIZE, &length))
        return 0;
    struct lines lines = {table + BYTES_DATA, table + BYTES_DATA + min_size(length, LINES_MOST)};
    int64_t line = first;
    uintptr_t behind = 0;
    while (lines.at < lines.end) {
        uint32_t head = take_byte(&lines), kind = head >> 3 & 15, number;
        behind += ((head & 7) + 1) * 2;
        if (kind < 10) {
            take_byte(&lines);
        } else if (kind < 13) {
            line += kind - 10;
            take_byte(&lines);
            take_byte(&lines);
        } else if (kind < 15) {
            number = take_number(&lines);
            line += number & 1 ? -(int64_t)(number >> 1) : (int64_t)(number >> 1);
            for (unsigned i = 0; kind == 14 && i < 3; i++)
                take_number(&lines);
        }
        if (offset < behind) return kind == 15 || line < 0 ? 0 : (uint32_t)line;
    }
    return 0;
}

/* --- the walk --- */

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15ull;
    return hash ^ hash >> 29;
}

/* The number of a place, PYTHON_PLACES where there is no room. The pointers tell a code object from a later
 * one at the same address. */
static uint32_t find_place(struct python *python, uintptr_t code, uintptr_t offset,
                           const uintptr_t texts[3]) {
    uint64_t hash = mix(mix(mix(mix(code, offset), texts[0]), texts[1]), texts[2]) | 1;
    for (uint32_t tried = 0, at = (uint32_t)(hash >> 20) % PYTHON_PLACES; tried < 64;
         tried++, at = (at + 1) % PYTHON_PLACES) {
        struct python_place *place = &python->places[at];
        uint64_t seen = atomic_load_explicit(&place->hash, memory_order_relaxed);
        if (seen == 0 && atomic_compare_exchange_strong(&place->hash, &seen, hash)) {
            place->file_at = copy_text(python, texts[0]);
            place->name_at = copy_text(python, texts[1]);
            place->line = line_at(code, texts[2], offset);
            atomic_store_explicit(&place->state, 1, memory_order_release);
            return at;
        }
        if (seen == hash) return at;
    }
    return PYTHON_PLACES;
}

/* The innermost frame; false if there is none to be looked at. */
static bool first_frame(uintptr_t *frame) {
    uintptr_t runtime = found.runtime, holder, cframe;
    if (!runtime || atomic_load_explicit(&failed, memory_order_relaxed)) return false;
    holder = *(const uintptr_t *)(runtime + RUNTIME_THREAD);
    if (!holder || *(const int *)(runtime + RUNTIME_HAS_KEY) != 1) return false;
    unsigned key = *(const unsigned *)(runtime + RUNTIME_KEY);
    if ((uintptr_t)pthread_getspecific(key) != holder) return false;
    if (read_word(holder + THREAD_CFRAME, &cframe) && cframe && read_word(cframe + CFRAME_FRAME, frame))
        return true;
    /* Under a filter it is not the layout that is wrong. */
    if (!os_restricted) atomic_store_explicit(&failed, true, memory_order_relaxed);
    return false;
}

static bool read_frame(struct python *python, uintptr_t frame, uint32_t *place, uintptr_t *previous) {
    uintptr_t code, instruction, type, texts[3];
    if (!read_word(frame + FRAME_CODE, &code) || !read_word(frame + FRAME_PREVIOUS, previous) ||
        !read_word(frame + FRAME_INSTRUCTION, &instruction) || !read_word(code + OBJECT_TYPE, &type) ||
        type != found.code_type)
        return false;
    if (!read_word(code + CODE_FILE, &texts[0]) || !read_word(code + CODE_NAME, &texts[1]) ||
        !read_word(code + CODE_LINES, &texts[2]))
        return false;
    uintptr_t offset = instruction - (code + CODE_INSTRUCTIONS);
    *place = find_place(python, code, offset, texts);
    return true;
}

unsigned python_walk(struct python *python, uint32_t *places, unsigned max, bool *is_cut) {
    uintptr_t frame;
    unsigned n = 0;
    if (!first_frame(&frame)) return 0;
    while (frame) {
        if (n == max) {
            *is_cut = true;
            break;
        }
        uintptr_t previous;
        if (!read_frame(python, frame, &places[n], &previous)) {
            if (!os_restricted) atomic_store_explicit(&failed, true, memory_order_relaxed);
            return 0;
        }
        frame = previous;
        n++;
    }
    if (n && atomic_load_explicit(&n_checked, memory_order_relaxed) < WALKS_CHECKED)
        atomic_fetch_add_explicit(&n_checked, 1, memory_order_relaxed);
    return n;
}
