# SPDX-License-Identifier: MIT
"""Case files: what the header comments of cases/*.sh declare, and which package is missing.

A case is a POSIX shell script. Its header, the comment block at its top, may hold these lines:

    # needs: /usr/bin/xz (xz-utils)      a file the case runs, and the Debian package it comes from
    # timeout: 60                        seconds for one run; a run that takes longer is a failure
    # stderr: ignore REASON              do not compare standard error, and why not
    # volatile: GLOB REASON              files (relative to the working directory) not to compare
    # long: REASON                       only run with --long or when named

A path in `needs` may hold shell wildcards, for version numbers in directory names.
"""
import glob
import os
import re

DEFAULT_TIMEOUT_S = 60.0
# Test data and checks are written in Python; each case needs it.
ALWAYS_NEEDED = ("/usr/bin/python3", "python3")
NEEDS = re.compile(r"^(/\S+)\s+\(([a-z0-9][a-z0-9+.-]*)\)$")


class CaseError(Exception):
    """A case file whose header cannot be understood."""


class Case:
    """One case file with its declarations."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path)[:-len(".sh")]
        self.summary = ""
        self.needs = [ALWAYS_NEEDED]
        self.timeout_s = DEFAULT_TIMEOUT_S
        self.compare_stderr = True
        self.volatile = []
        self.long = False
        with open(path, encoding="utf-8") as stream:
            self._read_header(stream)

    def _read_header(self, stream):
        for line in stream:
            if not line.startswith("#"):
                break
            text = line[1:].strip()
            key, colon, value = text.partition(":")
            value = value.strip()
            if colon and key in ("needs", "timeout", "stderr", "volatile", "long"):
                self._declare(key, value)
            elif not self.summary and not text.startswith("!") and key != "SPDX-License-Identifier":
                self.summary = text

    def _declare(self, key, value):
        if key == "needs":
            found = NEEDS.match(value)
            if not found:
                raise CaseError(f"{self.path}: needs wants '/path (package)', not '{value}'")
            self.needs.append(found.groups())
        elif key == "timeout":
            try:
                self.timeout_s = float(value)
            except ValueError:
                raise CaseError(f"{self.path}: timeout wants seconds, not '{value}'") from None
        elif key == "stderr":
            if value.split(" ", 1)[0] != "ignore" or " " not in value:
                raise CaseError(f"{self.path}: stderr wants 'ignore REASON', not '{value}'")
            self.compare_stderr = False
        elif key == "volatile":
            if " " not in value:
                raise CaseError(f"{self.path}: volatile wants 'GLOB REASON', not '{value}'")
            self.volatile.append(value.split(" ", 1)[0])
        else:
            self.long = True

    def missing_packages(self):
        """Debian packages to install before this case can run, in the order declared."""
        missing = []
        for path, package in self.needs:
            if not glob.glob(path) and package not in missing:
                missing.append(package)
        return missing


def load_all(folder):
    """All cases of a folder, by name."""
    paths = sorted(glob.glob(os.path.join(folder, "*.sh")))
    return {case.name: case for case in map(Case, paths)}
