#!/bin/sh
# SPDX-License-Identifier: MIT
# jq reads, groups and rewrites a JSON document that it holds in memory as a whole.
# needs: /usr/bin/jq (jq)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

gen numbers 800000 5 | awk 'BEGIN { print "[" }
    { printf "%s{\"n\":%d,\"s\":\"item %d\",\"g\":%d}\n", s, $1, $1 * 3, $1 % 97; s = "," }
    END { print "]" }' >data.json
under jq -c 'group_by(.g) | map({g: .[0].g, count: length, sum: (map(.n) | add)})' data.json
under jq 'sort_by(.n) | map(.s) | join(" ")' data.json | digest
