# SPDX-License-Identifier: MIT
"""gen.py KIND BYTES [SEED]: write deterministic test data to standard output.

Kinds: random (incompressible bytes), text (lines of words), mixed (text with runs of noise and zeros),
numbers (one decimal number a line), ppm (a colour image of about that many bytes), c (a C source file).
"""
import random
import sys

PIECE_BYTES = 1 << 20


def words(source):
    """A vocabulary of a thousand words."""
    return ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 11))) for _ in range(1000)]


def random_pieces(source):
    """Noise."""
    while True:
        yield source.randbytes(PIECE_BYTES)


def text_pieces(source):
    """Lines of ten words; common words come more often."""
    vocabulary = words(source)
    weights = [1.0 / (rank + 1) for rank in range(len(vocabulary))]
    while True:
        chosen = source.choices(vocabulary, weights, k=20000)
        lines = (" ".join(chosen[start:start + 10]) for start in range(0, len(chosen), 10))
        yield ("\n".join(lines) + "\n").encode()


def mixed_pieces(source):
    """Text, noise and zeros in turn, so that a compressor meets all of them."""
    text, noise = text_pieces(source), random_pieces(source)
    while True:
        yield next(text)
        yield next(noise)[:65536]
        yield bytes(131072)


def number_pieces(source):
    """Numbers that collide now and then."""
    while True:
        yield "".join(f"{source.randrange(10 ** 7)}\n" for _ in range(20000)).encode()


def ppm(size):
    """A gradient with a pattern over it, as binary PPM of 3:2."""
    height = max(2, int((size / 3 / 1.5) ** 0.5))
    width = height * 3 // 2
    yield f"P6\n{width} {height}\n255\n".encode()
    across = bytes((x * 255 // width) for x in range(width))
    for y in range(height):
        row = bytearray(3 * width)
        row[0::3] = across
        row[1::3] = bytes([y * 255 // height]) * width
        row[2::3] = bytes((x ^ y) & 255 for x in range(width))
        yield bytes(row)


def c_source(size):
    """Functions with loops and switches; main prints a checksum over all of them."""
    yield b"#include <stdint.h>\n#include <stdio.h>\n"
    written = count = 0
    while written < size:
        cases = "".join(f"        case {k}: h ^= x * {count * 31 + k * 7 + 3}u; break;\n" for k in range(8))
        text = (f"static uint32_t f{count}(uint32_t x) {{\n    uint32_t h = {count}u, t[16];\n"
                f"    for (int i = 0; i < 16; i++) t[i] = x * (uint32_t)(i + {count % 13});\n"
                f"    for (int i = 0; i < 64; i++) {{\n        switch ((h + t[i & 15]) & 7) {{\n{cases}"
                f"        }}\n        h = (h << 5 | h >> 27) + t[(i * 3) & 15];\n    }}\n    return h;\n}}\n").encode()
        yield text
        written += len(text)
        count += 1
    calls = "".join(f"    h = h * 31 + f{k}(h);\n" for k in range(count))
    yield f"int main(void) {{\n    uint32_t h = 1;\n{calls}    printf(\"%u\\n\", h);\n    return 0;\n}}\n".encode()


def main():
    """Write the kind asked for; the endless kinds are cut at the size."""
    kind, size = sys.argv[1], int(sys.argv[2])
    source = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    endless = {"random": random_pieces, "text": text_pieces, "mixed": mixed_pieces, "numbers": number_pieces}
    whole = {"ppm": ppm, "c": c_source}
    out = sys.stdout.buffer
    if kind in whole:
        for piece in whole[kind](size):
            out.write(piece)
        return
    left = size
    for piece in endless[kind](source):
        out.write(piece[:left])
        left -= len(piece)
        if left <= 0:
            return


main()
