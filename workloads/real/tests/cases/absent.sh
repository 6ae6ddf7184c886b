#!/bin/sh
# SPDX-License-Identifier: MIT
# Needs a program that no machine has.
# needs: /usr/bin/no-such-program (no-such-package)
exit 1
