# SPDX-License-Identifier: MIT
"""Stacks as a pprof profile: the message Profile of pprof's profile.proto as gzipped protobuf, with an encoder of our own.

A protobuf message is a run of fields, each a key (number << 3 | kind) and a value: kind 0 is a varint, kind 2 a length and
that many bytes (texts, inner messages, packed numbers). A field that is 0 is left out. Texts stand once in string_table
and are named by index everywhere else; index 0 is the empty text.
"""
import gzip

from .errors import ToolError

INT64_MAX = 2 ** 63 - 1
VALUES = {"us": ("cpu", "microseconds"), "faults": ("page_faults", "count"), "bytes": ("alloc_space", "bytes"),
          "samples": ("samples", "count")}


def varint(value):
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value) if value else b""


def block(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


class Strings:
    def __init__(self):
        self.indices = {"": 0}

    def of(self, text):
        return self.indices.setdefault(text, len(self.indices))


def value_type(field, strings, kind, unit):
    return block(field, number(1, strings.of(kind)) + number(2, strings.of(unit)))


def encode(sheet):
    profile, = sheet.profiles
    strings, places = Strings(), {}
    kind, unit = VALUES[profile.unit]
    parts = [value_type(1, strings, kind, unit)]
    for stack, weight in profile.ordered:
        if weight > INT64_MAX:
            raise ToolError(f"a weight of {weight} does not fit into a pprof profile")
        # Locations are numbered from 1; the innermost comes first.
        ids = b"".join(varint(places.setdefault(name, len(places) + 1)) for name in reversed(stack))
        parts.append(block(2, block(1, ids) + block(2, varint(weight))))
    # The names are final: the mapping says so, and a function without a system name is not demangled any further.
    program = sheet.title.split(" ", 1)[0]
    parts.append(block(3, number(1, 1) + number(5, strings.of(program)) + number(7, 1)))
    for name, place in places.items():
        parts.append(block(4, number(1, place) + number(2, 1) + block(4, number(1, place))))
        parts.append(block(5, number(1, place) + number(2, strings.of(name))))
    parts.append(number(9, round(sheet.started * 1e9)) + number(10, round(profile.wall_s * 1e9)))
    if sheet.hz:
        parts.append(value_type(11, strings, "cpu", "nanoseconds") + number(12, round(1e9 / sheet.hz)))
    parts.append(number(13, strings.of(f"zeropool record: {sheet.title}, {profile.name}")))
    parts += [block(6, text.encode(errors="replace")) for text in strings.indices]
    return gzip.compress(b"".join(parts), mtime=0)
