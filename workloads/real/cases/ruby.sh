#!/bin/sh
# SPDX-License-Identifier: MIT
# ruby builds, slices, packs and collects large strings and arrays, in threads and in a forked child.
# needs: /usr/bin/ruby (ruby)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

under ruby "$SUITE_PROGRAMS/strings.rb"
