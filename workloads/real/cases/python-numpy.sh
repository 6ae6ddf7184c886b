#!/bin/sh
# SPDX-License-Identifier: MIT
# python3 with numpy: temporaries, linear algebra, sorting, concatenation, files, with and without huge pages.
# needs: /usr/lib/python3/dist-packages/numpy/__init__.py (python3-numpy)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

export OPENBLAS_NUM_THREADS=2
under "$PYTHON" "$SUITE_PROGRAMS/numpy_arrays.py"
export NUMPY_MADVISE_HUGEPAGE=0
under "$PYTHON" "$SUITE_PROGRAMS/numpy_arrays.py"
