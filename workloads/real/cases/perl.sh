#!/bin/sh
# SPDX-License-Identifier: MIT
# perl grows strings, fills hashes, sorts, matches, forks, uses threads, and goes through its core modules.
# needs: /usr/bin/perl (perl)
# timeout: 120
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

under perl "$SUITE_PROGRAMS/strings.pl"
under perl "$SUITE_PROGRAMS/broad.pl"
