# SPDX-License-Identifier: MIT
"""The Python half of the zeropool command: everything but `zeropool run`. Standard library only."""

VERSION = "0.1.0"
