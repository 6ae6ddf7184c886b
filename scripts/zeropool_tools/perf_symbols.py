# SPDX-License-Identifier: MIT
"""Where the functions of a shared library lie in its file: what a uprobe wants to know."""
import struct

PT_LOAD, PT_DYNAMIC = 1, 2
DT_STRTAB, DT_SYMTAB = 5, 6
STT_FUNC = 2


def offsets(path, names):
    """{name: file offset} of those of `names` that the library exports; {} where it cannot be understood."""
    with open(path, "rb") as file:
        image = file.read()
    try:
        return parse(image, names)
    except (struct.error, IndexError, ValueError, KeyError):
        return {}


def parse(image, names):
    at, = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    segments = [struct.unpack_from("<IIQQQQ", image, at + i * size) for i in range(count)]
    loads = [(address, offset, length) for kind, _, offset, address, _, length in segments if kind == PT_LOAD]

    def in_file(address):
        for base, offset, length in loads:
            if base <= address < base + length:
                return offset + address - base
        raise ValueError("address in no segment")

    start, length = next((s[2], s[5]) for s in segments if s[0] == PT_DYNAMIC)
    where = dict(struct.unpack_from("<QQ", image, start + i) for i in range(0, length - 15, 16))
    strings, symbols = in_file(where[DT_STRTAB]), in_file(where[DT_SYMTAB])
    found = {}
    # The symbol table has no length of its own; it ends where the strings begin, in every linker's output.
    for entry in range(symbols + 24, strings - 23, 24):
        string, info, _, section, value = struct.unpack_from("<IBBHQ", image, entry)
        begin = strings + string
        name = image[begin:image.index(b"\0", begin)].decode(errors="replace")
        # An indirect function has no entry of its own that could be probed.
        if name in names and section and value and info & 15 == STT_FUNC:
            found[name] = in_file(value)
    return found
