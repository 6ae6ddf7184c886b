# SPDX-License-Identifier: MIT
"""Pillow on images of 12 megapixels: resize, mirror, brighten, split, merge, crop, convert, pass on as raw bytes."""
import argparse
import zlib

from PIL import Image, ImageChops, ImageEnhance

SIZE = (4000, 3000)
ROUNDS = 6


def process(picture):
    """What a photo service does with one upload; every step makes a new image."""
    bright = ImageEnhance.Brightness(picture).enhance(1.1)
    mirrored = bright.transpose(Image.FLIP_LEFT_RIGHT)
    red, green, blue = mirrored.split()
    swapped = Image.merge("RGB", (blue, red, ImageChops.invert(green)))
    thumbnail = swapped.resize((1000, 750), Image.BOX)
    gray = swapped.convert("L").crop((100, 100, 3900, 2900))
    swapped.paste(gray.resize((400, 300), Image.BOX), (50, 50))
    swapped.paste(thumbnail.transpose(Image.ROTATE_180), (1500, 1000))
    # Pixels leave and enter as bytes of 36 MB when another library works on them.
    received = Image.frombytes("RGB", SIZE, bytes(reversed_rows(swapped.tobytes())))
    return ImageChops.add_modulo(received, picture.transpose(Image.FLIP_TOP_BOTTOM))


def reversed_rows(data):
    """The bytes of an image with the order of its halves changed."""
    half = len(data) // 2
    return bytearray(data[half:]) + data[:half]


def main():
    """Print a checksum of a reduced last image."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--scale", type=float, default=1.0, help="multiply the number of rounds")
    rounds = max(1, round(ROUNDS * options.parse_args().scale))
    ramp = Image.linear_gradient("L").resize(SIZE, Image.BILINEAR)
    picture = Image.merge("RGB", (ramp, ramp.transpose(Image.FLIP_LEFT_RIGHT), ImageChops.invert(ramp)))
    for _ in range(rounds):
        picture = process(picture)
    print("pillow_12mp", rounds, f"{zlib.crc32(picture.resize((400, 300), Image.NEAREST).tobytes()):08x}")


main()
