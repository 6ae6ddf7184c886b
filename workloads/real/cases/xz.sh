#!/bin/sh
# SPDX-License-Identifier: MIT
# xz -T0 compresses and restores mixed data with two block sizes.
# needs: /usr/bin/xz (xz-utils)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

gen mixed 14000000 >data
# The block size makes several blocks, so that both threads have work and hand buffers over.
under xz -T0 -1 --block-size=3MiB -k data
digest data.xz
under xz -T0 -d -c data.xz | digest
under xz -T0 -3 --block-size=6MiB -c data | digest
under xz --robot --list data.xz
