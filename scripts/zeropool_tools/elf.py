# SPDX-License-Identifier: MIT
"""A small ELF reader: will the loader put a library into this program, and will the program use its malloc?

Reads only what those questions need: class, machine, interpreter, and from the dynamic section the needed libraries
and the names that the program defines itself. A file that is no ELF is no error here, it may be a script.
"""
import os
import stat
import struct
from dataclasses import dataclass, field

PT_DYNAMIC, PT_INTERP, PT_LOAD = 2, 3, 1
DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_GNU_HASH = 1, 4, 5, 6, 0x6FFFFEF5
EM_X86_64 = 62
MACHINES = {3: "32-bit x86", 40: "32-bit ARM", 183: "64-bit ARM", 243: "RISC-V", 22: "s390", 21: "PowerPC"}


@dataclass
class Elf:
    bits: int
    machine: int
    interpreter: str = ""
    needed: list = field(default_factory=list)
    defined: set = field(default_factory=set)
    imported: set = field(default_factory=set)

    @property
    def machine_name(self):
        if self.bits == 32 and self.machine == EM_X86_64:
            return "x32"
        return "x86-64" if self.machine == EM_X86_64 else MACHINES.get(self.machine, f"machine {self.machine}")

    @property
    def native(self):
        return self.bits == 64 and self.machine == EM_X86_64


def read(path):
    """The Elf at path, or None where it is no (whole) ELF file. Raises OSError where it cannot be read."""
    with open(path, "rb") as file:
        head = file.read(64)
        if len(head) < 52 or head[:4] != b"\x7fELF" or head[5] != 1:
            return None
        bits = 64 if head[4] == 2 else 32
        elf = Elf(bits, struct.unpack_from("<H", head, 18)[0])
        if bits == 64 and len(head) == 64:
            try:
                read_segments(file, head, elf)
            except (struct.error, ValueError, OverflowError, OSError):
                pass  # truncated or odd: what was found until here stands
        return elf


def read_segments(file, head, elf):
    offset, = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    file.seek(offset)
    table = file.read(size * count)
    loads, dynamic = [], None
    for i in range(count):
        kind, _, at, address, _, length = struct.unpack_from("<IIQQQQ", table, i * size)
        if kind == PT_INTERP:
            file.seek(at)
            elf.interpreter = file.read(min(length, 4096)).rstrip(b"\0").decode(errors="replace")
        elif kind == PT_LOAD:
            loads.append((address, at, length))
        elif kind == PT_DYNAMIC:
            dynamic = (at, length)
    if dynamic:
        file.seek(dynamic[0])
        read_dynamic(file, file.read(min(dynamic[1], 1 << 16)), loads, elf)


def read_dynamic(file, section, loads, elf):
    entries = [struct.unpack_from("<QQ", section, i) for i in range(0, len(section) - 15, 16)]
    where = dict(entries)

    def at(address, length):
        for base, offset, size in loads:
            if base <= address < base + size:
                file.seek(offset + address - base)
                return file.read(min(length, base + size - address))
        raise ValueError("address in no segment")

    strings = at(where[DT_STRTAB], 1 << 26) if DT_STRTAB in where else b""

    def name(offset):
        return strings[offset:strings.index(b"\0", offset)].decode(errors="replace")

    elf.needed = [name(value) for tag, value in entries if tag == DT_NEEDED]
    if DT_SYMTAB not in where:
        return
    # The symbol table has no length of its own; it ends where the strings begin, in every linker's output.
    length = where[DT_STRTAB] - where[DT_SYMTAB]
    table = at(where[DT_SYMTAB], length) if 0 < length < 1 << 26 else b""
    for i in range(24, len(table) - 23, 24):
        string, _, _, section_index = struct.unpack_from("<IBBH", table, i)
        if string:
            (elf.defined if section_index else elf.imported).add(name(string))


def interpreter_of_script(path):
    """The program that a `#!` file starts, or None."""
    with open(path, "rb") as file:
        line = file.read(256).split(b"\n", 1)[0]
    words = line[2:].decode(errors="replace").split() if line.startswith(b"#!") else []
    if len(words) > 1 and os.path.basename(words[0]) == "env":
        rest = [w for w in words[1:] if not w.startswith("-") and "=" not in w]
        return find_in_path(rest[0]) if rest else None
    return words[0] if words else None


def find_in_path(name):
    for folder in os.environ.get("PATH", "/usr/bin:/bin").split(":"):
        path = os.path.join(folder or ".", name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def obstacles(path, depth=0):
    """Sentences that say why preloading will not work as expected for the program at path; [] where it will."""
    try:
        status = os.stat(path)
        elf = read(path)
        if elf is None:
            script = interpreter_of_script(path) if depth < 3 else None
            return obstacles(script, depth + 1) if script else []
    except OSError:
        return []  # execute-only files exist and run; nothing is known about them
    found = []
    foreign = status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid()
    if foreign or status.st_mode & stat.S_ISGID and status.st_gid != os.getegid():
        found.append(f"{path} is setuid or setgid: the loader ignores LD_PRELOAD for it")
    elif has_capabilities(path):
        found.append(f"{path} has file capabilities: the loader ignores LD_PRELOAD for it")
    if not elf.native:
        found.append(f"{path} is a program for {elf.machine_name}: the loader cannot put an x86-64 library into it")
    elif not elf.interpreter:
        found.append(f"{path} is statically linked: LD_PRELOAD has no effect on it")
    elif "ld-linux" not in elf.interpreter:
        found.append(f"{path} uses the loader {elf.interpreter}, not glibc's: libraries for glibc do not fit it")
    elif {"malloc", "free"} <= elf.defined:
        found.append(f"{path} defines malloc itself: an allocator that is preloaded is not used, or used beside it")
    for library in elf.needed:
        if any(known in library for known in ("jemalloc", "mimalloc", "tcmalloc")):
            found.append(f"{path} links {library}: 'glibc' means that allocator here")
    return found


def has_capabilities(path):
    try:
        return os.geteuid() != 0 and bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False
