#!/bin/sh
# SPDX-License-Identifier: MIT
# pigz compresses with several threads; pigz and gzip restore the same.
# needs: /usr/bin/pigz (pigz)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

gen mixed 48000000 >data
under pigz -n -p 4 -b 512 -c data >four.gz
under pigz -n -p 2 -9 -c data >two.gz
under pigz -d -c four.gz | digest
under gzip -d -c two.gz | digest
under pigz -t four.gz
