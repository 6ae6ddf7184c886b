#!/bin/sh
# SPDX-License-Identifier: MIT
# Every program in /usr/bin is started with --version, without rights; all print the same and end the same.
# long: starts more than a thousand programs three times
# timeout: 900
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

# The helper preloads the library into the programs it starts, and not into itself.
"$PYTHON" -B "$SUITE_PROGRAMS/usr_bin_version.py" "$SUITE_PROGRAMS/usr_bin_version.skip"
