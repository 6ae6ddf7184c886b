# SPDX-License-Identifier: MIT
"""Probes for `record -e alloc`: uprobes on the entries of one allocator's malloc family, set for one recording.

Set through tracefs and by address, because `perf probe malloc` also takes the library's own call stub (malloc@plt) and
would count calls twice. The kernel filters by size before it copies a stack, so small requests cost a trap and no sample.
"""
import os
import re

from . import elf, perf_symbols
from .errors import ToolError

EVENTS = "/sys/kernel/tracing/uprobe_events"
LEAST_BYTES = 32768
LEAST_FACTOR = 181  # of n x size >= LEAST_BYTES at least one is larger than this
# name: (arguments, filter); the product of calloc is left to the reader, the kernel cannot multiply.
FUNCTIONS = {
    "malloc": ("size=%di:u64", f"size >= {LEAST_BYTES}"),
    "calloc": ("n=%di:u64 size=%si:u64", f"n > {LEAST_FACTOR} || size > {LEAST_FACTOR}"),
    "realloc": ("size=%si:u64", f"size >= {LEAST_BYTES}"),
    "aligned_alloc": ("size=%si:u64", f"size >= {LEAST_BYTES}"),
    "memalign": ("size=%si:u64", f"size >= {LEAST_BYTES}"),
    "posix_memalign": ("size=%dx:u64", f"size >= {LEAST_BYTES}"),
}
LIBC = ("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6")


def library_of(variant):
    """The file whose malloc the program will call under this variant."""
    for path in variant.preload:
        found = elf.read(path)
        if found and {"malloc", "free"} <= found.defined:
            return os.path.realpath(path)
    for path in LIBC:
        if os.path.isfile(path):
            return os.path.realpath(path)
    raise ToolError("-e alloc: the C library is in none of its usual places")


class Probes:
    """Context manager: the probes exist inside it. options() are those for perf record."""

    def __init__(self, variant):
        self.library = library_of(variant)
        self.group = f"zeropool_{os.getpid()}"
        self.names = []

    def __enter__(self):
        offsets = perf_symbols.offsets(self.library, set(FUNCTIONS))
        try:
            # Two names of one function would count its calls twice.
            for offset, name in sorted({offset: name for name, offset in offsets.items()}.items()):
                self.write(f"p:{self.group}/{name} {self.library}:{offset:#x} {FUNCTIONS[name][0]}")
                self.names.append(name)
        except OSError as error:
            self.__exit__()
            raise ToolError(f"-e alloc: the kernel takes no probe in {self.library}: {error.strerror}") from error
        if "malloc" not in self.names:
            self.__exit__()
            raise ToolError(f"-e alloc: {self.library} has no malloc")
        return self

    def __exit__(self, *_):
        for name in self.names:
            try:
                self.write(f"-:{self.group}/{name}")
            except OSError:
                pass  # somebody else removed it
        self.names = []

    @staticmethod
    def write(line):
        # Not with open(): that seeks to the end, which tracefs refuses.
        descriptor = os.open(EVENTS, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, (line + "\n").encode())
        finally:
            os.close(descriptor)

    def options(self):
        words = []
        for name in self.names:
            words += ["-e", f"{self.group}:{name}", "--filter", FUNCTIONS[name][1]]
        return words


def weigh(head):
    """Bytes that the calls behind a sample asked for; 0 for what the filter let through though it is small."""
    values = {k: int(v) for k, v in re.findall(r"\b(n|size)=(\d+)", head["rest"])}
    size = values.get("size", 0) * values.get("n", 1)
    return size * int(head["period"]) if LEAST_BYTES <= size < 1 << 47 else 0
