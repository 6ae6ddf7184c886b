# SPDX-License-Identifier: MIT
"""zeropool compare with several commands, a scan of a parameter, memory over time, and latencies that clients print."""
import json
import os
import unittest

import support
from support import environment, run

from zeropool_tools import compare_commands, server

WRK = b"""  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   635.91us    0.89ms  12.92ms   93.69%
  Latency Distribution
     50%  250.00us
     75%  491.00us
     90%  700.00us
     99%    5.80ms
Requests/sec: 748868.53
"""
AB = b"""Percentage of the requests served within a certain time (ms)
  50%      2
  95%      7
  99%     13
 100%     20 (longest request)
"""
REDIS = b"""Summary:
  throughput summary: 99009.90 requests per second
  latency summary (msec):
          avg       min       p50       p95       p99       max
        0.254     0.088     0.247     0.367     0.479     1.279
"""
QUIET = b"SET: 12345.68 requests per second, p50=0.247 msec\nGET: 12345.68 requests per second, p50=0.351 msec\n"


class Parts(unittest.TestCase):
    def test_latencies(self):
        self.assertEqual(server.latencies(WRK), {50.0: 0.00025, 75.0: 0.000491, 90.0: 0.0007, 99.0: 0.0058})
        self.assertEqual(server.latencies(AB), {50.0: 0.002, 95.0: 0.007, 99.0: 0.013, 100.0: 0.02})
        self.assertEqual(server.latencies(REDIS), {50.0: 0.000247, 95.0: 0.000367, 99.0: 0.000479})
        self.assertEqual(server.latencies(QUIET), {50.0: 0.000351})
        self.assertEqual(server.latencies(b"nothing 50% of it"), {})

    def test_scan(self):
        self.assertEqual(compare_commands.scan("n=1..3,9").values, ("1", "2", "3", "9"))
        for wrong in ("n", "n=1", "n=1,1", "n=1..200", "2=1,2", "=1,2"):
            self.assertRaises(ValueError, compare_commands.scan, wrong)


class Commands(support.Case):
    def stored(self, *words, **env):
        path = os.path.join(self.folder(), "json")
        result = run("compare", "-q", "-w", "0", "--json", path, *words, env=environment(**env))
        self.assertEqual(result.returncode, 0, result.stderr)
        with open(path, encoding="utf-8") as file:
            return result, json.load(file), path

    def test_two_commands(self):
        result, data, path = self.stored("-n", "6", "--", "sh", "-c", "sleep 0.01; echo a", "---", "sh", "-c", "sleep 0.3; echo b")
        self.assertEqual([v["name"] for v in data["variants"]], ["A", "B"])
        self.assertRegex(result.stdout, r"(?m)^A: sh -c 'sleep 0.01; echo a'\nB: |^A: /\S+sh -c 'sleep 0.01; echo a'$")
        self.assertRegex(result.stdout, r"(?m)^command +wall")
        self.assertRegex(result.stdout, r"B against A: .*time.* \(interval")
        again = run("report", path)
        self.assertEqual(again.returncode, 0, again.stderr)

    def test_the_next_command_holds_all(self):
        result, _, _ = self.stored("-n", "1", "--scan", "n=1,2", "--", "echo", "{n}", "---", "echo", "-{n}")
        self.assertIn("next: zeropool compare --scan n=1,2 -- echo '{n}' --- echo '-{n}'   (", result.stderr)

    def test_commands_under_allocators(self):
        _, data, _ = self.stored("-n", "1", "-a", "glibc,zeropool", "--", "true", "---", "sleep", "0")
        self.assertEqual([v["name"] for v in data["variants"]], ["A glibc", "B glibc", "A zeropool", "B zeropool"])
        self.assertEqual([bool(v["preload"]) for v in data["variants"]], [False, False, True, True])

    def test_output_must_be_the_same_for_each_command(self):
        result = run("compare", "-q", "-n", "1", "-a", "glibc,zeropool", "--", "true", "---", "sh", "-c", 'echo "$LD_PRELOAD"')
        self.assertEqual(result.returncode, 1)
        self.assertIn("output differs", result.stderr)
        self.assertIn("under B zeropool", result.stderr)
        self.assert_fails(run("compare", "-q", "-n", "1", "--", "true", "---", "false"), 1, "exited with status 1 under B")

    def test_scan_of_words_and_of_the_environment(self):
        seen = os.path.join(self.folder(), "seen")
        _, data, _ = self.stored("-n", "1", "--scan", "n=1..3", "--", "sh", "-c", "echo {n} >>" + seen)
        self.assertEqual([v["name"] for v in data["variants"]], ["n=1", "n=2", "n=3"])
        _, data, _ = self.stored("-n", "1", "--scan", "ZEROPOOL_RETAIN=0,64M", "--", "sh", "-c", f'echo "$ZEROPOOL_RETAIN,$LD_PRELOAD" >>{seen}')
        with open(seen, encoding="utf-8") as file:
            lines = set(file.read().split())
        self.assertEqual(lines, {"1", "2", "3", f"0,{support.library()}", f"64M,{support.library()}"})
        self.assertEqual(data["commands"][1]["settings"], {"ZEROPOOL_RETAIN": "64M"})

    def test_usage(self):
        self.assert_fails(run("compare", "--", "true", "---"), 2, "an empty command")
        self.assert_fails(run("compare", "--scan", "n=1", "--", "true"), 2, "two to 100 different values")
        self.assert_fails(run("compare", "--scan", "n=1,2", "--ready", "TCP:auto", "--server", "a {port}", "--client", "x {n}"), 2, "--scan sets a variable")
        self.assert_fails(run("compare", "-n", "1", "--", "true", "---", "no-such-program"), 127, "not found")

    def test_memory_over_time_by_default(self):
        result, data, _ = self.stored("-n", "1", "-a", "glibc,zeropool", "--", "sleep", "0.5")
        memory = data["variants"][0]["memory"]
        self.assertGreaterEqual(len(memory["points"]), 5)
        self.assertIsNone(memory["peak_tree_pss_bytes"])
        self.assertRegex(result.stdout, r"(?m)^glibc +[\d.]+ MiB +[\d.]+ MiB +- +\d+$")

    def test_latencies_in_the_table(self):
        serve = ("import socket, sys, time\nl = socket.socket()\nl.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
                 "l.bind(('127.0.0.1', int(sys.argv[1])))\nl.listen()\nwhile True: l.accept()[0].close()")
        here = self.folder()
        script = self.write(f"{here}/serve.py", serve)
        text = self.write(f"{here}/text", WRK.decode())
        result, data, _ = self.stored("-n", "1", "-a", "glibc,zeropool", "--ready", "TCP:auto", "--server", f"/usr/bin/python3 -I {script} {{port}}",
                                      "--client", f"cat {text}")
        self.assertEqual(data["variants"][1]["median"]["latency_p99_s"], 0.0058)
        self.assertNotIn("latency_p95_s", data["variants"][1]["median"])
        self.assertRegex(result.stdout, r"allocator +wall +requests/s +p50 +p99 ")
        self.assertRegex(result.stdout, r"(?m)^glibc .* 749k +0\.2 ms +5\.8 ms ")


if __name__ == "__main__":
    unittest.main()
