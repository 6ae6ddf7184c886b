#!/bin/sh
# SPDX-License-Identifier: MIT
# ruby builds, slices, packs and collects large strings and arrays, in threads and in a forked child.
# needs: /usr/bin/ruby (ruby)
. "$SUITE_LIB"

under ruby "$SUITE_PROGRAMS/strings.rb"
