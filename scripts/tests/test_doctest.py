# SPDX-License-Identifier: MIT
"""The test of the documentation can fail: what it runs, skips and reports."""
import os
import subprocess
import sys

import support
import test_docs

TEXT = """# Title

```sh
echo one
```

<!-- doctest: skip because it needs a week -->

```sh
exit 1
```

```console
$ exit 1
```

1. indented
   ```sh
   exit 0
   ```

<!-- doctest: status 3 -->
```sh
exit 3
```
"""


class Documentation(support.Case):
    def test_blocks(self):
        found = test_docs.blocks(TEXT)
        self.assertEqual([(b[1], b[2], b[3], b[4]) for b in found],
                         [("sh", "echo one\n", None, 0), ("sh", "exit 1\n", "it needs a week", 0),
                          ("console", "$ exit 1\n", None, 0), ("sh", "exit 0\n", None, 0), ("sh", "exit 3\n", None, 3)])
        self.assertRaises(ValueError, test_docs.blocks, "```sh\nx\n")

    def run_on(self, text):
        path = self.write(os.path.join(self.folder(), "x.md"), text, 0o644)
        return subprocess.run([sys.executable, "-I", test_docs.__file__, path], capture_output=True, text=True,
                              check=False)

    def test_counts(self):
        result = self.run_on(TEXT)
        self.assertEqual((result.returncode, result.stdout.splitlines()[-1]), (0, "3 passed, 0 failed, 1 skipped"))

    def test_failure(self):
        result = self.run_on("```sh\nfalse\ntrue\n```\n```sh\n: $unset_variable\n```\n")
        self.assertEqual((result.returncode, result.stdout.splitlines()[-1]), (1, "0 passed, 2 failed, 0 skipped"))
