#!/bin/sh
# SPDX-License-Identifier: MIT
# perl grows strings, fills hashes, sorts, matches, forks and uses threads.
# needs: /usr/bin/perl (perl)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

under perl "$SUITE_PROGRAMS/strings.pl"
