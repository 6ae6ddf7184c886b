#!/bin/sh
# SPDX-License-Identifier: MIT
# Fails without any library, so that it can tell nothing about one.
echo "broken for good" >&2
exit 3
