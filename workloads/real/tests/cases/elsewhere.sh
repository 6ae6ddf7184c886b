#!/bin/sh
# SPDX-License-Identifier: MIT
# Finds out while running that it cannot run here.
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

skip "not on this machine"
