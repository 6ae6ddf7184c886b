# SPDX-License-Identifier: MIT
"""Reads meson's testlog.json: names failures and skips, and closes with 'N passed, N failed, N skipped'."""
import json
import sys

PASSED = {"OK", "EXPECTEDFAIL"}


def main(path):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    try:
        with open(path, encoding="utf-8") as file:
            tests = [json.loads(line) for line in file if line.strip()]
    except FileNotFoundError:
        tests = []  # meson writes none where a suite has no tests
    for test in tests:
        verdict = "passed" if test["result"] in PASSED else "skipped" if test["result"] == "SKIP" else "failed"
        counts[verdict] += 1
        if verdict == "failed":
            print(f"FAIL: {test['name']}: {test['result']}")
            output = (test.get("stdout") or "") + (test.get("stderr") or "")
            print("\n".join("      " + line for line in output.splitlines()[-20:]))
        elif verdict == "skipped":
            said = [line for line in (test.get("stdout") or "").splitlines() if line.strip()]
            print(f"SKIP: {test['name']}: {said[-1].strip() if said else 'exit status 77'}")
    if not tests:
        print("SKIP: this suite: it has no tests yet")
        counts["skipped"] = 1
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
