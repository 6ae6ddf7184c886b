#!/bin/sh
# SPDX-License-Identifier: MIT
# ImageMagick resizes, blurs, rotates and composes a six-megapixel image.
# needs: /usr/bin/convert-im6.q16 (imagemagick)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

# The name `convert` may be somebody else's program; Debian's real one has this name.
convert=/usr/bin/convert-im6.q16
"$convert" --version | grep -q ImageMagick || skip "$convert is not ImageMagick"

gen ppm 18000000 >in.ppm
under "$convert" in.ppm -resize 50% -depth 8 rgb:half
under "$convert" in.ppm -rotate 90 -flop -depth 8 rgb:turned
under "$convert" half.ppm null: 2>/dev/null && die "read a file that is not there"
under "$convert" -size 1500x900 -depth 8 xc:gray in.ppm -gravity center -composite -crop 800x600+100+100 \
    +repage -depth 8 rgb:composed
under "$convert" in.ppm -resize 25% -blur 0x3 -normalize -depth 8 -strip -define png:exclude-chunks=all small.png
under /usr/bin/identify-im6.q16 -format '%w %h %m %#\n' small.png
under "$convert" in.ppm -resize 30% -quality 85 -strip small.jpg
under /usr/bin/compare-im6.q16 -metric AE small.png small.png null: 2>&1
echo
