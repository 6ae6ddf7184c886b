# SPDX-License-Identifier: MIT
"""The static probes: noted in the library where <sys/sdt.h> was there, documented, and hit by perf where perf may."""
import os
import re
import shutil
import subprocess
import unittest

import support
from test_stat import BUILT, real

NAMES = {"alloc_slow", "free_slow", "refill", "steal", "purge", "realloc_move"}
PROGRAM = """
#include <malloc.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
static void *blocks[60];
static void pin(int cpu) { cpu_set_t s; CPU_ZERO(&s); CPU_SET(cpu, &s); sched_setaffinity(0, sizeof s, &s); }
static void fill(void) { for (int i = 0; i < 60; i++) memset(blocks[i] = malloc(40000), 1, 40000); }
static void empty(void) { for (int i = 0; i < 60; i++) free(blocks[i]); }
int main(int n, char **cpus)
{
    char *a = malloc(1 << 20), *b = malloc(1 << 20);
    memset(a, 1, 1 << 20), memset(b, 1, 1 << 20);
    a = realloc(a, 20 << 20);
    pin(atoi(cpus[1])), fill(), empty(), fill(), empty();
    pin(atoi(cpus[n - 1])), fill(), empty();
    free(a), free(b);
    malloc_trim(0);
    return 0;
}
"""


def noted():
    notes = subprocess.run(["readelf", "-n", BUILT], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"Provider: zeropool\s+Name: (\w+)", notes))


@unittest.skipUnless(os.path.exists(BUILT) and shutil.which("readelf"), "the library is not built, or readelf is missing")
class Probes(support.Case):
    def setUp(self):
        if not noted():
            self.skipTest("built without <sys/sdt.h> (apt-get install systemtap-sdt-dev)")

    def test_noted_and_documented(self):
        self.assertEqual(noted(), NAMES)
        with open(os.path.join(support.ROOT, "docs", "probes.md"), encoding="utf-8") as file:
            self.assertEqual(set(re.findall(r"^\| `(\w+)` \|", file.read(), re.M)), NAMES)

    def perf(self, *words):
        return subprocess.run(["perf", *words], capture_output=True, text=True, timeout=60, check=False, env=self.env,
                              stdin=subprocess.DEVNULL)

    @unittest.skipUnless(shutil.which("perf") and os.geteuid() == 0, "needs perf and root")
    def test_perf_hits_them(self):
        folder, cpus = self.folder(), sorted(os.sched_getaffinity(0))[:2]  # not all that the machine has
        self.env = real(HOME=folder)
        program = support.compile_c("probed", PROGRAM, "-D_GNU_SOURCE", "-fno-builtin")
        # A copy: the probes of this test are then not those that somebody else has set in the library itself.
        library = shutil.copy(BUILT, folder)
        self.perf("buildid-cache", "--add", library)
        try:
            added = self.perf("probe", "-x", library, "--add", "sdt_zeropool:*")
            if added.returncode:
                self.skipTest(f"perf probe: {added.stderr.strip().splitlines()[0] if added.stderr.strip() else 'refused'}")
            result = self.perf("record", "-q", "-o", f"{folder}/data", "-e", "sdt_zeropool:*", "--", "env",
                               f"LD_PRELOAD={library}", program, *map(str, cpus))
            self.assertEqual(result.returncode, 0, result.stderr)
            seen = set(re.findall(r"sdt_zeropool:(\w+):", self.perf("script", "-i", f"{folder}/data").stdout))
        finally:
            self.perf("probe", "-q", "-d", "sdt_zeropool:*")
        wanted = NAMES if len(cpus) > 1 else NAMES - {"steal"}
        self.assertEqual(seen, wanted)


if __name__ == "__main__":
    unittest.main()
