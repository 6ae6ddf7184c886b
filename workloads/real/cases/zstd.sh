#!/bin/sh
# SPDX-License-Identifier: MIT
# zstd -T0 compresses, tests and restores mixed data; long windows; a dictionary of many small files.
# needs: /usr/bin/zstd (zstd)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

gen mixed 48000000 >data
under zstd -q -T0 -3 -k data -o fast.zst
under zstd -q -T2 -9 --long=27 -k data -o long.zst
under zstd -q -t fast.zst
under zstd -q -d -c fast.zst | digest
under zstd -q -d --long=27 -c long.zst | digest

mkdir -p "$TMPDIR/samples"
gen text 4000000 7 | split -b 4000 -a 4 - "$TMPDIR/samples/s"
under zstd -q --train "$TMPDIR"/samples/s* --maxdict=65536 -o dictionary 2>/dev/null
under zstd -q -D dictionary -c "$TMPDIR/samples/saaaa" | under zstd -q -d -D dictionary -c | digest
