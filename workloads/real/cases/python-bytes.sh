#!/bin/sh
# SPDX-License-Identifier: MIT
# python3 pickles and handles bytes, bytearrays, strings, lists, dictionaries, zlib, bz2, json and sqlite3.
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

under "$PYTHON" "$SUITE_PROGRAMS/bytes_objects.py"
# With the plain allocator small objects go through malloc as well; the debug one checks its own padding.
export PYTHONMALLOC=malloc
under "$PYTHON" "$SUITE_PROGRAMS/bytes_objects.py"
export PYTHONMALLOC=malloc_debug
under "$PYTHON" -c 'b = bytearray(50_000_000); b[::4096] = b"x" * len(b[::4096]); print(sum(b))'
