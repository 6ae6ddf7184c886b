#!/bin/sh
# SPDX-License-Identifier: MIT
# A program whose output a pipeline consumes, and whose status it drops.
# needs: /usr/bin/cat (coreutils)
# timeout: 3
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

gen text 50000 >in
under cat in | digest
