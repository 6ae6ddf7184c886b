# SPDX-License-Identifier: MIT
"""The runner behind run-suite: case files, processes, comparison, report."""
