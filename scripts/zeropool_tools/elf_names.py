# SPDX-License-Identifier: MIT
"""Names of functions from the symbol tables of an ELF file, where addr2line knows none: it does not look at dynamic symbols. And the
build-id, which tells whether it is the file that it was."""
import bisect
import struct

SHT_SYMTAB, SHT_NOTE, SHT_DYNSYM = 2, 7, 11
NT_GNU_BUILD_ID = 3
STT_FUNC, STT_GNU_IFUNC = 2, 10
MOST_BYTES = 1 << 30


class Names:
    """The functions of one file, by address."""

    def __init__(self, path):
        self.starts, self.found = [], []
        try:
            with open(path, "rb") as file:
                image = file.read(MOST_BYTES)
            self.found = sorted(set(functions(image)))
        except (OSError, struct.error, ValueError, IndexError, MemoryError):
            pass  # no such file any more, or none that can be understood
        self.starts = [start for start, _, _ in self.found]

    def at(self, address):
        """The function that holds an address, or ''."""
        i = bisect.bisect_right(self.starts, address) - 1
        # Of several names for one address, and of functions within others, the last that reaches so far.
        for start, size, name in reversed(self.found[max(0, i - 8):i + 1]):
            if start <= address < start + max(size, 1):
                return name
        return ""


def sections_of(image):
    if image[:6] != b"\x7fELF\x02\x01":
        return []
    offset, = struct.unpack_from("<Q", image, 40)
    size, count = struct.unpack_from("<HH", image, 58)
    return [struct.unpack_from("<IIQQQQIIQQ", image, offset + i * size) for i in range(count)]


def build_id(path):
    """In hexadecimal; '' where there is none."""
    try:
        with open(path, "rb") as file:
            image = file.read(MOST_BYTES)
        for _, kind, _, _, at, length, _, _, _, _ in sections_of(image):
            end = at + length
            while kind == SHT_NOTE and at + 12 <= end:
                name, content, note = struct.unpack_from("<III", image, at)
                begin = at + 12 + (name + 3 & ~3)
                if note == NT_GNU_BUILD_ID and image[at + 12:at + 16] == b"GNU\0":
                    return image[begin:begin + content].hex()
                at = begin + (content + 3 & ~3)
    except (OSError, struct.error, MemoryError):
        pass
    return ""


def functions(image):
    """(address, size, name) of each."""
    sections = sections_of(image)
    for _, kind, _, _, at, length, link, _, _, _ in sections:
        if kind not in (SHT_SYMTAB, SHT_DYNSYM) or not link < len(sections):
            continue
        strings = sections[link][4]
        for entry in range(at, at + length - 23, 24):
            string, info, _, section, value, extent = struct.unpack_from("<IBBHQQ", image, entry)
            if section and value and info & 15 in (STT_FUNC, STT_GNU_IFUNC):
                begin = strings + string
                yield value, extent, image[begin:image.index(b"\0", begin)].decode(errors="replace")
