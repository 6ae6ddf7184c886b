/* SPDX-License-Identifier: MIT */
/* cfi.h: what .eh_frame says about one address: how its caller is found. x86-64. */
#ifndef ZP_SHIM_CFI_H
#define ZP_SHIM_CFI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

/* Where to look. Nothing outside of [lowest, end) is read, nor before the table or beyond. */
struct cfi {
    uintptr_t header; /* .eh_frame_hdr */
    uintptr_t lowest, end;
};

enum cfi_kind {
    CFI_END,    /* the outermost frame, or one whose caller cannot be found */
    CFI_FRAME,  /* the return address lies below the CFA */
    CFI_SIGNAL, /* the interrupted registers lie at the stack pointer */
};

/* The canonical frame address is base + cfa_offset; base is the frame pointer or the stack pointer. Where
 * saved_below is not 0 the caller's frame pointer lies so far below the CFA, else it is unchanged. */
struct cfi_rule {
    enum cfi_kind kind;
    bool from_frame_pointer;
    int32_t cfa_offset;
    uint32_t saved_below;
};

/* Anything but: CFA = rsp or rbp plus a number, rbp saved or unchanged, the return address saved right
 * below the CFA, is CFI_END. */
struct cfi_rule cfi_find(const struct cfi *cfi, uintptr_t pc);

#pragma GCC visibility pop

#endif
