# SPDX-License-Identifier: MIT
"""Pillow on in.ppm: resize, rotate, filter, split, merge, encode and decode; prints checksums."""
import hashlib
import io

from PIL import Image, ImageChops, ImageFilter, ImageOps


def show(name, image):
    """Checksum of an image's pixels."""
    print(name, image.mode, image.size, hashlib.sha256(image.tobytes()).hexdigest()[:32])


def through(image, kind, **options):
    """Encode and decode again in memory."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    print(kind, len(stream.getvalue()), hashlib.sha256(stream.getvalue()).hexdigest()[:32])
    return Image.open(io.BytesIO(stream.getvalue())).convert(image.mode)


def main():
    """All steps on one picture."""
    picture = Image.open("in.ppm")
    picture.load()
    show("in", picture)
    show("half", picture.resize((picture.width // 2, picture.height // 2), Image.LANCZOS))
    show("turned", picture.rotate(33, resample=Image.BICUBIC, expand=True))
    show("blurred", picture.filter(ImageFilter.GaussianBlur(4)))
    show("equal", ImageOps.equalize(picture))
    red, green, blue = picture.split()
    show("merged", Image.merge("RGBA", (blue, red, green, ImageChops.invert(red))))
    for _ in range(5):
        picture = ImageChops.add_modulo(picture, picture.transpose(Image.FLIP_LEFT_RIGHT))
    show("sum", picture)
    small = picture.resize((900, 600))
    show("jpeg", through(small, "JPEG", quality=80))
    show("png", through(small, "PNG", compress_level=1))
    show("tiff", through(picture, "TIFF"))


main()
