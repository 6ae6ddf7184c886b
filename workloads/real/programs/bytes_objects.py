# SPDX-License-Identifier: MIT
"""Large objects of the standard library: bytes, bytearray, str, pickle, array, compression, io, mmap, sqlite3."""
import array
import bz2
import hashlib
import io
import json
import lzma
import mmap
import pickle
import random
import sqlite3
import zlib


def show(name, data):
    """Checksum of something like bytes."""
    print(name, len(data), hashlib.sha256(data).hexdigest()[:32])


def byte_strings(source):
    """Slices, joins, translations and growth."""
    noise = source.randbytes(9_000_000)
    show("reversed", noise[::-1])
    show("joined", b"-".join(noise[start:start + 70_000] for start in range(0, 8_000_000, 70_000)))
    show("replaced", noise.replace(b"\x00", b"<zero>"))
    show("translated", noise.translate(bytes(255 - value for value in range(256))))
    grown = bytearray()
    for size in range(1000, 300_000, 3000):
        grown += noise[:size]
    show("grown", grown)
    del grown[1000:-1_000_000]
    grown.extend(memoryview(noise)[::3].tobytes())
    grown.insert(0, 7)
    show("shrunk", grown)
    text = noise.decode("latin-1")
    show("text", (text + text.upper()).encode("utf-8"))
    show("hex", bytes.fromhex(noise[:2_000_000].hex()))
    return noise


def pickling(source, noise):
    """Objects through pickle in each protocol, with buffers in band and out of band."""
    value = {
        "blobs": [noise[start:start + 1_500_000] for start in range(0, 6_000_000, 1_500_000)],
        "numbers": array.array("d", (source.random() for _ in range(200_000))),
        "words": {f"word{number}": number for number in range(60_000)},
        "mutable": bytearray(noise[:4_000_000]),
    }
    for protocol in (2, 4, 5):
        data = pickle.dumps(value, protocol)
        show(f"pickle {protocol}", data)
        assert pickle.loads(data) == value
    buffers = []
    head = pickle.dumps([pickle.PickleBuffer(blob) for blob in value["blobs"]], 5, buffer_callback=buffers.append)
    restored = pickle.loads(head, buffers=[bytearray(buffer) for buffer in buffers])
    show("out of band", b"".join(bytes(part) for part in restored))


def compression(noise):
    """Round trips through the compressors."""
    data = noise[:800_000] + bytes(3_000_000) + noise[:800_000]
    for module in (zlib, bz2, lzma):
        packed = module.compress(data) if module is not lzma else lzma.compress(data, preset=1)
        show(module.__name__, packed)
        assert module.decompress(packed) == data


def streams(noise):
    """Files, memory files and maps."""
    stream = io.BytesIO()
    for start in range(0, 9_000_000, 50_000):
        stream.write(noise[start:start + 50_000])
    stream.truncate(8_000_000)
    show("stream", stream.getvalue())
    with open("file", "wb") as out:
        out.write(noise)
    with open("file", "rb", buffering=0) as raw:
        target = bytearray(len(noise))
        raw.readinto(target)
        show("readinto", target)
        with mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            show("mapped", mapped[1_000_000:6_000_000])


def structures(source):
    """Large lists and dictionaries, sorting, JSON and a database in memory."""
    numbers = [source.randrange(10 ** 9) for _ in range(300_000)]
    numbers += sorted(numbers, reverse=True)
    show("json", json.dumps(numbers).encode())
    table = {number: str(number) for number in numbers}
    table.update({-number: number for number in numbers[:100_000]})
    print("table", len(table), sum(key for key in table))
    print("set", len(set(numbers[:200_000]) ^ set(numbers[100_000:])))
    big = 3 ** 1_000_000
    print("integer", big.bit_length(), big % 1_000_000_007)
    database = sqlite3.connect(":memory:")
    database.execute("create table item (number integer, data blob)")
    database.executemany("insert into item values (?, ?)", ((n, bytes([n % 256]) * 2000) for n in numbers[:5000]))
    rows = database.execute("select data from item order by number").fetchall()
    show("rows", b"".join(row[0] for row in rows))


def main():
    """All steps with one seed."""
    source = random.Random(11)
    noise = byte_strings(source)
    pickling(source, noise)
    compression(noise)
    streams(noise)
    structures(source)


main()
