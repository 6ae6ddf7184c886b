#!/bin/sh
# SPDX-License-Identifier: MIT
# python3 multiprocessing hands numpy arrays between processes: fork, spawn, forkserver, queues, shared memory.
# needs: /usr/lib/python3/dist-packages/numpy/__init__.py (python3-numpy)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

export OPENBLAS_NUM_THREADS=1
under "$PYTHON" "$SUITE_PROGRAMS/processes.py"
