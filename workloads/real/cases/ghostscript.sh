#!/bin/sh
# SPDX-License-Identifier: MIT
# Ghostscript renders a generated PostScript drawing to a large bitmap.
# needs: /usr/bin/gs (ghostscript)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

cat >drawing.ps <<'PS'
%!PS
/Helvetica findfont 18 scalefont setfont
0 1 400 {
    /i exch def
    i 37 mod 37 div i 11 mod 11 div i 53 mod 53 div setrgbcolor
    i 61 mul 550 mod i 97 mul 780 mod moveto i 13 mul 300 mod 100 rlineto 40 i 7 mod 20 mul rlineto closepath fill
    0 setgray i 31 mul 500 mod i 71 mul 760 mod moveto (zeropool) show
} for
showpage
PS
under gs -q -dBATCH -dNOPAUSE -sDEVICE=ppmraw -r200 -sOutputFile=page.ppm drawing.ps
under gs -q -dBATCH -dNOPAUSE -sDEVICE=png16m -r150 -dGraphicsAlphaBits=4 -dTextAlphaBits=4 -dNumRenderingThreads=2 \
    -sOutputFile=page.png drawing.ps
under gs -q -dNODISPLAY -dBATCH -c '0 1 1 100000 { add } for = 5000000 string length = quit'
