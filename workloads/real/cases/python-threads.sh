#!/bin/sh
# SPDX-License-Identifier: MIT
# python3 threads hand buffers from one to the next, compress in parallel, and come and go by the hundred.
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

under "$PYTHON" "$SUITE_PROGRAMS/threads.py"
