#!/bin/sh
# SPDX-License-Identifier: MIT
# A program that leaves a file, and one that may vary.
# volatile: clock* tells the time
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

under "$PYTHON" -c 'open("out", "w").write("line of text\n" * 10000)'
date +%N >clock
