# SPDX-License-Identifier: MIT
"""From addresses in files to functions and lines of source, functions that were inlined there included, and which of them is the
user's: the innermost that is no allocator, no wrapper of one, and not of the C or C++ library.
"""
import functools
import os
import re
import shutil
from dataclasses import dataclass

from . import callers, folded
from .elf_names import Names, build_id
from .sites_file import PythonPlace

ASKED_AT_ONCE = 2000
LONG_PATH = 40
ADDRESS = re.compile(r"^0x[0-9a-f]+:?$")
VERSIONED = re.compile(r"\.(so)[.\d]*$")
# Objects whose functions are never the user's line.
LIBRARIES = re.compile(r"^(libc|ld-linux-x86-64|libstdc\+\+|libc\+\+|libgcc_s|libpthread|libdl|linux-vdso|libzeropool.*|libjemalloc|libmimalloc|"
                       r"libtcmalloc\w*)\.so")
# Functions that hand memory on: of C++, Rust, CPython, numpy, Ruby, GLib, PostgreSQL, and what programs call such functions of their own.
WRAPPERS = re.compile(
    r"^(operator (new|delete)|_Zn[wa]m|(std|__gnu_cxx|__cxxabiv1|boost::container|alloc|core|hashbrown|__rust_\w+|__rdl_\w+)(::|$)|"
    r"_?Py(Mem|Object)_(Raw|Sys)?(Malloc|Calloc|Realloc|Free|ArenaAlloc|New)\w*|_Py(Mem|Object)_\w*(Malloc|Calloc|Realloc)\w*|"
    r"_PyObject_(GC_)?(New|Alloc|Resize)\w*|PyType_GenericAlloc|_PyBytes_(FromSize|Resize)|PyByteArray_Resize|"
    r"PyDataMem_\w+|(_?npy_|default_|numpy_)\w*(alloc|new|cache)\w*|PyArray_NewFromDescr\w*|PyArray_Resize_int|"
    r"(ruby_|rb_|objspace_|x|safe_?|check_?|my_|g_(try_)?|av_|sqlite3\w*?|OPENSSL_|CRYPTO_)?x?(m|c|z|re|f|mem)alloc(ate)?(z|0|array|_array|_n|_n0|2|_body)?|"
    r"Perl_safesys\w+|(\w+::)*os::(m|re)alloc|(node|v8)::\S*(Alloc(ate)?|WithRetry)|"
    r"palloc\w*|repalloc\w*|MemoryContextAlloc\w*|AllocSet\w+|strn?dup|xstrn?dup|str_new\w*)(\.\w+)*$", re.I)


OPERATOR = re.compile(r"\boperator(\(\)|\[\]| ?[^\w\s(]+(?=[ (<])| (new|delete)(\[\])?)")


# Python's functions that hand memory on.
PYTHON_WRAPPERS = re.compile(r"^<|/(site|dist)-packages/numpy/")


@dataclass(frozen=True)
class Place:
    function: str
    file: str = ""  # "" where no line is known
    line: int = 0
    module: str = ""
    is_python: bool = False

    def name(self):
        return self.function if self.is_python else bare(self.function)

    def where(self):
        if self.file:
            return f"{shorten(self.file)}:{self.line}" if self.line else shorten(self.file)
        return "" if self.function.startswith("[") else f"[{os.path.basename(self.module) or 'no file'}]"

    def text(self):
        return f"{self.name()}  {self.where()}".rstrip()

    def is_wrapper(self):
        if self.is_python:
            return bool(PYTHON_WRAPPERS.search(self.file))
        name = bare(self.function)
        return bool(LIBRARIES.match(os.path.basename(self.module)) or folded.ALLOCATOR.match(name) or WRAPPERS.match(name)
                    or name.startswith(("std::", "__gnu_cxx::", "alloc::", "core::", "operator new")))


def bare(function):
    """A C++ function without template arguments, parameters, what it returns and what says const."""
    if function.startswith("["):
        return function
    text, depth, kept, at = function.replace("(anonymous namespace)", "{anonymous}"), 0, "", 0
    while at < len(text):
        operator = OPERATOR.match(text, at) if not depth else None
        if operator:
            # What it returns is in front, and a name of blanks behind.
            kept = re.sub(r"^.* (?=\S*$)", "", kept) + operator[0].replace(" ", "\0")
            at = operator.end()
            continue
        depth += (text[at] in "<(") - (text[at] in ">)" and depth > 0)
        kept += "" if depth or text[at] in ">)" else text[at]
        at += 1
    kept = re.sub(r"\[abi:\w+\]|\s+const$|\s*\[clone [^]]*\]", "", kept.strip())
    return kept.rsplit(" ", 1)[-1].replace("\0", " ") or function


def shorten(path):
    """Below the folder that the command was called in, relative to it; long ones without their beginning."""
    relative = os.path.relpath(path, os.getcwd()) if path.startswith("/") else path
    shown = path if relative.startswith("..") else relative
    return shown if len(shown) <= LONG_PATH else "/".join(["...", *shown.split("/")[-2:]])


class Lines:
    """Looks addresses up, many at once; what was used is in `notes`."""

    def __init__(self):
        self.places = {}  # (Module, address) -> [Place], innermost first
        self.tool = shutil.which("eu-addr2line") or shutil.which("addr2line")
        self.with_lines, self.names_only, self.gone = set(), set(), set()

    def look_up(self, stacks, perf_map):
        wanted = {}
        for frames, _ in stacks:
            for module, address in frames:
                if isinstance(module, PythonPlace):
                    self.places[module, 0] = [Place(module.function, module.file, module.line, "python", True)]
                elif module is None:
                    self.places[None, address] = [compiled(perf_map(address) or f"[{address:#x}]")]
                else:
                    wanted.setdefault(module, set()).add(address)
        for module, addresses in sorted(wanted.items(), key=lambda item: item[0].path):
            self.of_module(module, sorted(addresses))

    def of_module(self, module, addresses):
        if not os.path.isfile(module.path) or module.build_id and module.build_id != build_id(module.path):
            if not module.path.startswith(("linux-", "[")):
                self.gone.add(module.path)
            self.places.update({(module, a): [Place(f"[{os.path.basename(module.path)}+{a:#x}]", module=module.path)] for a in addresses})
            return
        found = self.ask(module.path, addresses)
        names = Names(module.path) if any(not found.get(a) for a in addresses) else None
        for address in addresses:
            nameless = f"[{os.path.basename(module.path)}+{address:#x}]"
            self.places[module, address] = found.get(address) or [Place(demangled(names.at(address)) or nameless, module=module.path)]
        (self.with_lines if found else self.names_only).add(module.path)

    def ask(self, path, addresses):
        """{address: [Place]} of what the tool knows a line of: without one, it names the function that begins next before the
        address, whether it reaches so far or not."""
        found = {}
        for at in range(0, len(addresses) if self.tool else 0, ASKED_AT_ONCE):
            some = addresses[at:at + ASKED_AT_ONCE]
            answer = callers.run([self.tool, "-a", "-i", "-f", "-C", "-e", path], "".join(f"{a:#x}\n" for a in some))
            current, function = None, None
            for line in answer.splitlines():
                if ADDRESS.match(line):
                    current, function = found.setdefault(int(line.rstrip(":"), 16), []), None
                elif current is not None and function is None:
                    function = line
                elif current is not None:
                    file, number = place_of(line)
                    current.append(Place("[no name]" if function == "??" else function, file, number, path))
                    function = None
        return {address: places for address, places in found.items() if any(place.file for place in places)}

    def places_of(self, frames):
        return [place for frame in frames for place in self.places[frame]]

    def notes(self):
        used = os.path.basename(self.tool) if self.tool else "no addr2line here (binutils or elfutils has one)"
        found = [f"names: {used} for {len(self.with_lines)} of {len(self.with_lines | self.names_only)} files with lines, symbol tables for the rest"]
        if self.gone:
            found.append(f"not there any more, or another file than then: {', '.join(sorted(self.gone)[:3])}{', ...' if len(self.gone) > 3 else ''}")
        return found


@functools.lru_cache(maxsize=None)
def demangled(name):
    """As C++ has it, where c++filt is there."""
    answer = callers.run(["c++filt", "--", name]).strip() if name.startswith("_Z") else ""
    return answer or name


def compiled(name):
    """The Place of a function in /tmp/perf-PID.map; Python's are py::NAME:FILE there."""
    if name.startswith("py::") and ":" in name[4:]:
        function, file = name[4:].split(":", 1)
        return Place(function, file, 0, "python", True)
    return Place(name)


def place_of(text):
    """('/src/a.c', 12) of 'a.c:12 (discriminator 3)' or 'a.c:12:5'; ('', 0) of '??:0'."""
    match = re.match(r"(.*?):(\d+)(?::\d+)?(?: \(.*\))?$", text)
    if not match or match[1].startswith("??") or match[2] == "0":
        return "", 0
    return os.path.normpath(match[1]), int(match[2])


def of_user(places):
    """The index of the user's line: of Python's where there is Python, which is what its user can change."""
    python = [i for i, place in enumerate(places) if place.is_python]
    if python:
        return next((i for i in python if not places[i].is_wrapper()), python[0])
    for i, place in enumerate(places):
        if not place.is_wrapper():
            return i
    return len(places) - 1


def perf_map(profile):
    """A function address -> name by /tmp/perf-PID.map, which CPython (from 3.12 on) and other runtimes write. Of several processes,
    each of which has addresses of its own, none."""
    starts = []
    try:
        path = f"/tmp/perf-{profile.commands[0][0]}.map" if len(profile.commands) == 1 else ""
        if os.lstat(path).st_uid in (os.geteuid(), 0) and not os.path.islink(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    words = line.rstrip("\n").split(" ", 2)
                    if len(words) == 3:
                        starts.append((int(words[0], 16), int(words[1], 16), words[2]))
    except (OSError, ValueError):
        pass

    def find(address):
        return next((name for start, size, name in starts if start <= address < start + size), "")

    return find
