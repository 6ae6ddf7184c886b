#!/bin/sh
# SPDX-License-Identifier: MIT
# node hands Buffers between worker threads, compresses them and writes files.
# needs: /usr/bin/node (nodejs)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

under node "$SUITE_PROGRAMS/buffers.js"
