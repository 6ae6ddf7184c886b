#!/usr/bin/python3 -I
# SPDX-License-Identifier: MIT
"""Runs the tests of this folder (all, or the modules named) and closes with 'N passed, N failed, N skipped'."""
import os
import sys
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [HERE, os.path.dirname(HERE)]


def main(names):
    loader = unittest.TestLoader()
    if names:
        suite = loader.loadTestsFromNames(names)
    else:
        suite = unittest.TestSuite(loader.loadTestsFromName(name[:-3]) for name in sorted(os.listdir(HERE))
                                   if name.startswith("test_") and name.endswith(".py") and name != "test_docs.py")
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    for test, why in result.skipped:
        print(f"SKIP: {test.id()}: {why}")
    bad = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    print(f"{max(0, result.testsRun - bad - len(result.skipped))} passed, {bad} failed, {len(result.skipped)} skipped")
    return 1 if bad or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
