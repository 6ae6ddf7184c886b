#!/bin/sh
# SPDX-License-Identifier: MIT
# A program with large allocations.
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

under "$PYTHON" -c 'print(len(b"x" * 5_000_000))'
