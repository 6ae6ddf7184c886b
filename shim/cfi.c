/* SPDX-License-Identifier: MIT */
/* cfi.c: reads the binary search table of .eh_frame_hdr, the entry that it leads to, and runs the entry's
 * instructions up to an address. See cfi.h.
 *
 * Every read is checked against the bounds of the segment that holds the tables (struct reader), so
 * damaged tables give CFI_END and no fault. No state, no allocation, no lock.
 */
#include "cfi.h"

#include <string.h>

struct reader {
    const uint8_t *at, *end;
    bool failed; /* something was beyond the end, or not understood */
};

/* Encodings of pointers: the low half is the format, the high half what it is relative to. */
enum { ENC_ABSPTR = 0, ENC_UDATA2 = 2, ENC_UDATA4 = 3, ENC_UDATA8 = 4, ENC_SDATA2 = 10, ENC_SDATA4 = 11 };
enum { ENC_SDATA8 = 12, ENC_PCREL = 0x10, ENC_DATAREL = 0x30, ENC_RELATIVE = 0x70, ENC_OMIT = 0xff };

enum { REG_RBP = 6, REG_RSP = 7, REG_RETURN = 16 };

static uint64_t take(struct reader *reader, unsigned n_bytes) {
    uint64_t value = 0;
    if (reader->failed || (size_t)(reader->end - reader->at) < n_bytes) {
        reader->failed = true;
        return 0;
    }
    memcpy(&value, reader->at, n_bytes);
    reader->at += n_bytes;
    return value;
}

static uint64_t take_uleb(struct reader *reader) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint64_t byte = take(reader, 1);
        value |= (byte & 0x7f) << shift;
        if (!(byte & 0x80)) return value;
    }
    reader->failed = true;
    return 0;
}

static int64_t take_sleb(struct reader *reader) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 63;) {
        uint64_t byte = take(reader, 1);
        value |= (byte & 0x7f) << shift;
        shift += 7;
        if (byte & 0x80) continue;
        return (int64_t)(byte & 0x40 ? value | ~(uint64_t)0 << shift : value);
    }
    reader->failed = true;
    return 0;
}

static void skip(struct reader *reader, uint64_t n_bytes) {
    if (reader->failed || (uint64_t)(reader->end - reader->at) < n_bytes)
        reader->failed = true;
    else
        reader->at += n_bytes;
}

static uint64_t take_encoded(struct reader *reader, uint8_t encoding) {
    uintptr_t here = (uintptr_t)reader->at;
    uint64_t value;
    switch (encoding & 15) {
    case ENC_ABSPTR:
    case ENC_UDATA8:
    case ENC_SDATA8:
        value = take(reader, 8);
        break;
    case ENC_UDATA4:
        value = take(reader, 4);
        break;
    case ENC_SDATA4:
        value = (uint64_t)(int64_t)(int32_t)take(reader, 4);
        break;
    case ENC_UDATA2:
        value = take(reader, 2);
        break;
    case ENC_SDATA2:
        value = (uint64_t)(int64_t)(int16_t)take(reader, 2);
        break;
    default:
        reader->failed = true;
        return 0;
    }
    if ((encoding & ENC_RELATIVE) == ENC_PCREL) return value + here;
    if (encoding & ENC_RELATIVE) reader->failed = true; /* nobody uses the others here */
    return value;
}

static struct reader reader_at(const struct cfi *cfi, uintptr_t address) {
    bool good = address >= cfi->lowest && address < cfi->end;
    return (struct reader){(const uint8_t *)(good ? address : cfi->end), (const uint8_t *)cfi->end, !good};
}

/* The entry (FDE) that begins last at or before pc, or 0. */
static uintptr_t search(const struct cfi *cfi, uintptr_t pc) {
    struct reader reader = reader_at(cfi, cfi->header);
    uint64_t version = take(&reader, 1);
    uint8_t of_frame = (uint8_t)take(&reader, 1), of_count = (uint8_t)take(&reader, 1);
    uint8_t of_table = (uint8_t)take(&reader, 1);
    if (version != 1 || of_table != (ENC_DATAREL | ENC_SDATA4) || of_count == ENC_OMIT) return 0;
    if (of_frame != ENC_OMIT) take_encoded(&reader, of_frame);
    uint64_t count = take_encoded(&reader, of_count);
    if (reader.failed || count == 0 || count > (uint64_t)(reader.end - reader.at) / 8) return 0;
    const uint8_t *table = reader.at;
    size_t low = 0, high = count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        int32_t start;
        memcpy(&start, table + middle * 8, sizeof start);
        if (cfi->header + (uintptr_t)(intptr_t)start <= pc)
            low = middle;
        else
            high = middle;
    }
    int32_t entry;
    memcpy(&entry, table + low * 8 + 4, sizeof entry);
    return cfi->header + (uintptr_t)(intptr_t)entry;
}

/* One of the two kinds of records: its contents behind length and identifier. */
static bool open_record(const struct cfi *cfi, uintptr_t at, struct reader *out, uintptr_t *id_at,
                        uint32_t *id) {
    *out = reader_at(cfi, at);
    uint64_t length = take(out, 4);
    if (out->failed || length < 4 || length == 0xffffffff || length > (uint64_t)(out->end - out->at))
        return false;
    out->end = out->at + length;
    *id_at = (uintptr_t)out->at;
    *id = (uint32_t)take(out, 4);
    return true;
}

struct common {
    struct reader instructions;
    uint64_t code_factor;
    int64_t data_factor;
    uint8_t pointers;
    bool is_signal, has_lengths;
};

static bool read_common(const struct cfi *cfi, uintptr_t at, struct common *out) {
    struct reader reader;
    uintptr_t id_at;
    uint32_t id;
    if (!open_record(cfi, at, &reader, &id_at, &id) || id != 0) return false;
    uint64_t version = take(&reader, 1);
    char letters[8];
    unsigned n = 0;
    while (n < sizeof letters && (letters[n] = (char)take(&reader, 1)))
        n++;
    if (n == sizeof letters || (version != 1 && version != 3)) return false;
    *out = (struct common){.pointers = ENC_ABSPTR};
    out->code_factor = take_uleb(&reader);
    out->data_factor = take_sleb(&reader);
    if ((version == 1 ? take(&reader, 1) : take_uleb(&reader)) != REG_RETURN) return false;
    for (unsigned i = 0; i < n; i++) {
        if (letters[i] == 'z') {
            out->has_lengths = true;
            take_uleb(&reader);
        } else if (letters[i] == 'R') {
            out->pointers = (uint8_t)take(&reader, 1);
        } else if (letters[i] == 'P') {
            take_encoded(&reader, (uint8_t)take(&reader, 1) & 0x7f);
        } else if (letters[i] == 'L') {
            take(&reader, 1);
        } else if (letters[i] == 'S') {
            out->is_signal = true;
        } else {
            return false;
        }
    }
    out->instructions = reader;
    return !reader.failed;
}

/* --- the instructions --- */

enum where { UNCHANGED, SAVED, UNKNOWN };
struct saved {
    enum where where;
    int64_t offset; /* from the CFA */
};
struct row {
    bool has_cfa; /* as register and offset */
    uint64_t cfa_register;
    int64_t cfa_offset;
    struct saved frame_pointer, return_address;
};

struct machine {
    struct row row, initial, remembered[8];
    unsigned n_remembered;
    uintptr_t location;
};

/* NULL for the registers that nobody asks for. */
static struct saved *saved_of(struct row *row, uint64_t reg) {
    return reg == REG_RBP ? &row->frame_pointer : reg == REG_RETURN ? &row->return_address : NULL;
}

static void set_saved(struct row *row, uint64_t reg, enum where where, int64_t offset) {
    struct saved *saved = saved_of(row, reg);
    if (saved) *saved = (struct saved){where, offset};
}

static void restore(struct machine *machine, uint64_t reg) {
    struct saved *saved = saved_of(&machine->row, reg);
    if (saved) *saved = *saved_of(&machine->initial, reg);
}

static void remember(struct machine *machine, struct reader *reader) {
    if (machine->n_remembered == sizeof machine->remembered / sizeof machine->remembered[0])
        reader->failed = true;
    else
        machine->remembered[machine->n_remembered++] = machine->row;
}

static void recall(struct machine *machine, struct reader *reader) {
    if (machine->n_remembered == 0)
        reader->failed = true;
    else
        machine->row = machine->remembered[--machine->n_remembered];
}

/* The instructions in the low six bits, where the high two are 0; those that move the location are not
 * here. */
static void run_extended(struct machine *machine, struct reader *reader, const struct common *common,
                         unsigned code) {
    struct row *row = &machine->row;
    uint64_t reg;
    switch (code) {
    case 0x00: /* nop */
        break;
    case 0x05: /* offset_extended */
        reg = take_uleb(reader);
        set_saved(row, reg, SAVED, (int64_t)take_uleb(reader) * common->data_factor);
        break;
    case 0x06: /* restore_extended */
        restore(machine, take_uleb(reader));
        break;
    case 0x07: /* undefined */
        set_saved(row, take_uleb(reader), UNKNOWN, 0);
        break;
    case 0x08: /* same_value */
        set_saved(row, take_uleb(reader), UNCHANGED, 0);
        break;
    case 0x09: /* register */
        set_saved(row, take_uleb(reader), UNKNOWN, 0);
        take_uleb(reader);
        break;
    case 0x0a:
        remember(machine, reader);
        break;
    case 0x0b:
        recall(machine, reader);
        break;
    case 0x0c: /* def_cfa */
    case 0x12: /* def_cfa_sf */
        row->has_cfa = true;
        row->cfa_register = take_uleb(reader);
        row->cfa_offset = code == 0x0c ? (int64_t)take_uleb(reader) : take_sleb(reader) * common->data_factor;
        break;
    case 0x0d: /* def_cfa_register */
        row->cfa_register = take_uleb(reader);
        break;
    case 0x0e: /* def_cfa_offset */
        row->cfa_offset = (int64_t)take_uleb(reader);
        break;
    case 0x13: /* def_cfa_offset_sf */
        row->cfa_offset = take_sleb(reader) * common->data_factor;
        break;
    case 0x0f: /* def_cfa_expression */
        row->has_cfa = false;
        skip(reader, take_uleb(reader));
        break;
    case 0x10: /* expression */
    case 0x16: /* val_expression */
        set_saved(row, take_uleb(reader), UNKNOWN, 0);
        skip(reader, take_uleb(reader));
        break;
    case 0x11: /* offset_extended_sf */
        reg = take_uleb(reader);
        set_saved(row, reg, SAVED, take_sleb(reader) * common->data_factor);
        break;
    case 0x14: /* val_offset */
    case 0x15: /* val_offset_sf */
        set_saved(row, take_uleb(reader), UNKNOWN, 0);
        take_uleb(reader);
        break;
    case 0x2e: /* GNU_args_size */
        take_uleb(reader);
        break;
    default:
        reader->failed = true;
    }
}

/* Up to the row that holds at pc. */
static void run(struct machine *machine, struct reader *reader, const struct common *common, uintptr_t pc) {
    while (reader->at < reader->end && !reader->failed) {
        unsigned code = (unsigned)take(reader, 1), low = code & 0x3f;
        uint64_t advance = 0;
        bool moves = true;
        if (code >> 6 == 1)
            advance = low;
        else if (code == 0x02)
            advance = take(reader, 1);
        else if (code == 0x03)
            advance = take(reader, 2);
        else if (code == 0x04)
            advance = take(reader, 4);
        else
            moves = false;
        if (moves) {
            machine->location += advance * common->code_factor;
            if (machine->location > pc) return;
        } else if (code >> 6 == 2) {
            set_saved(&machine->row, low, SAVED, (int64_t)take_uleb(reader) * common->data_factor);
        } else if (code >> 6 == 3) {
            restore(machine, low);
        } else if (code == 0x01) { /* set_loc */
            machine->location = take_encoded(reader, common->pointers);
            if (machine->location > pc) return;
        } else {
            run_extended(machine, reader, common, code);
        }
    }
}

static struct cfi_rule rule_of(const struct row *row) {
    struct cfi_rule rule = {.kind = CFI_END};
    const struct saved *frame = &row->frame_pointer;
    bool by_rbp = row->cfa_register == REG_RBP;
    if (!row->has_cfa || (!by_rbp && row->cfa_register != REG_RSP)) return rule;
    if (row->return_address.where != SAVED || row->return_address.offset != -8) return rule;
    if (frame->where == UNKNOWN || row->cfa_offset != (int32_t)row->cfa_offset || row->cfa_offset % 8)
        return rule;
    if (frame->where == SAVED && (frame->offset >= 0 || frame->offset < INT32_MIN || frame->offset % 8))
        return rule;
    rule = (struct cfi_rule){CFI_FRAME, by_rbp, (int32_t)row->cfa_offset, 0};
    if (frame->where == SAVED) rule.saved_below = (uint32_t)-frame->offset;
    return rule;
}

struct cfi_rule cfi_find(const struct cfi *cfi, uintptr_t pc) {
    static const struct cfi_rule none = {.kind = CFI_END};
    uintptr_t entry = search(cfi, pc), id_at;
    struct reader reader;
    uint32_t back;
    struct common common;
    if (!entry || !open_record(cfi, entry, &reader, &id_at, &back) || back == 0) return none;
    if (!read_common(cfi, id_at - back, &common)) return none;
    uintptr_t start = take_encoded(&reader, common.pointers);
    uint64_t length = take_encoded(&reader, common.pointers & 15);
    if (common.has_lengths) skip(&reader, take_uleb(&reader));
    if (reader.failed || pc - start >= length) return none;
    if (common.is_signal) return (struct cfi_rule){.kind = CFI_SIGNAL};
    struct machine machine = {.location = start};
    run(&machine, &common.instructions, &common, UINTPTR_MAX);
    machine.initial = machine.row;
    machine.location = start;
    if (!common.instructions.failed) run(&machine, &reader, &common, pc);
    return common.instructions.failed || reader.failed ? none : rule_of(&machine.row);
}
