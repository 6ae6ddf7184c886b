#!/bin/sh
# SPDX-License-Identifier: MIT
# Pillow filters, resizes, converts, encodes and decodes an eight-megapixel image.
# needs: /usr/lib/python3/dist-packages/PIL/__init__.py (python3-pil)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

gen ppm 24000000 >in.ppm
under "$PYTHON" "$SUITE_PROGRAMS/images.py"
