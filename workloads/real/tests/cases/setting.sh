#!/bin/sh
# SPDX-License-Identifier: MIT
# Prints what a run with the library is told; differs when there is anything.
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

under printenv ZEROPOOL_THRESHOLD || echo none
