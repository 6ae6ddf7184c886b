# SPDX-License-Identifier: MIT
"""zeropool stat --metrics: the format, the numbers of `stat`, the document, the dashboard, and a real Prometheus."""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import support
from support import run

from zeropool_tools import live, metrics, saved, stats_report

MIB = 1 << 20
EXAMPLES = os.path.join(support.SCRIPTS, "examples")
DASHBOARD = os.path.join(EXAMPLES, "grafana_dashboard.json")
SAMPLE = re.compile(r'^(zeropool_\w+)(?:\{((?:\w+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$')
# What stat --json calls it, of those that are one number of a report.
KEYS = {"zeropool_requests_total": "gets", "zeropool_live_bytes": "bytes_live", "zeropool_live_peak_bytes": "bytes_live_peak",
        "zeropool_cached_bytes": "bytes_cached", "zeropool_idle_bytes": "bytes_dirty", "zeropool_muzzy_bytes": "bytes_muzzy",
        "zeropool_clean_bytes": "bytes_clean", "zeropool_hole_bytes": "bytes_holes", "zeropool_mapped_bytes": "bytes_mapped",
        "zeropool_threads": "n_threads", "zeropool_purges_total": "purges", "zeropool_purged_bytes_total": "bytes_purged",
        "zeropool_steals_total": "steals", "zeropool_evictions_total": "evictions", "zeropool_refused_requests_total": "refused",
        "zeropool_reallocs_in_place_total": "grown_in_place", "zeropool_reallocs_moved_total": "moved_by_tables"}


def report(**more):
    return {"schema": "zeropool-stats-1", "pid": os.getpid(), "parent": 1, "command": 'a "b" \\c',
            **{key: 100 + i for i, key in enumerate(KEYS.values())},
            "sizes": [{"from": 4096, "tcache": 3, "shard": 2, "dirty": 1, "mixed": 5, "fresh": 4, "bytes_warm": 40960,
                       "bytes_cleared": 0, "bytes_emptied": 4096, "bytes_fresh": 16384},
                      {"from": 32 * MIB, "tcache": 1, "shard": 0, "dirty": 1, "mixed": 0, "fresh": 1, "bytes_warm": 80 * MIB,
                       "bytes_cleared": 40 * MIB, "bytes_emptied": 0, "bytes_fresh": 40 * MIB}], **more}


def families(text):
    """{metric: (type, unit, [(sample name, labels, value)])}, with what the format wants of each line checked."""
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""], "must end in # EOF and nothing after it"
    found, name = {}, None
    for line in lines[:-2]:
        words = line.split(" ", 3)
        if words[0] == "#":
            assert words[1] in ("TYPE", "UNIT", "HELP"), line
            if words[1] == "TYPE":
                name = words[2]
                assert name not in found, f"{name} comes twice"
                found[name] = [words[3], None, []]
            assert words[2] == name, f"{line}: within {name}"
            assert not found[name][2], f"{line}: behind samples"
            if words[1] == "UNIT":
                assert name.endswith("_" + words[3]), f"{name} does not end in its unit"
                found[name][1] = words[3]
            continue
        match = SAMPLE.match(line)
        assert match, line
        assert match[1] == name + ("_total" if found[name][0] == "counter" else ""), line
        labels = {key: value.replace('\\"', '"').replace("\\\\", "\\") for key, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or "")}
        found[name][2].append((match[1], labels, float(match[3])))
    for name, (kind, _, samples) in found.items():
        assert kind in ("counter", "gauge") and samples, name
        assert len({(n, *sorted(labels.items())) for n, labels, _ in samples}) == len(samples), f"{name}: a series comes twice"
    return found


class Case(support.Case):
    """With a folder for pages, and a page of this very process, whose numbers stay as they are."""

    def setUp(self):
        self.runtime = self.folder()
        self.env = support.environment(XDG_RUNTIME_DIR=self.runtime)

    def page(self, content, age_s=0.0):
        text = json.dumps(content).encode()
        data = bytearray(live.FILE_BYTES)
        live.HEADER.pack_into(data, 0, live.MAGIC, os.getpid(), os.geteuid(), live.start_ticks(os.getpid()), 2,
                              time.clock_gettime_ns(time.CLOCK_MONOTONIC) - int(age_s * 1e9), len(text))
        data[live.HEADER.size:live.HEADER.size + len(text)] = text
        with open(os.path.join(self.runtime, f"zeropool-live.{os.getpid()}.1"), "wb") as file:
            file.write(data)

    def metrics(self, *words):
        result = run("stat", "--metrics", *words, env=self.env)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout


class Exposition(Case):
    def test_numbers_are_those_of_stat(self):
        self.page(report())
        found = families(self.metrics("--fault-ns", "1000", str(os.getpid())))
        one = {name: (labels, value) for _, _, samples in found.values() for name, labels, value in samples if "size_from" not in labels}
        total = json.loads(run("stat", "--json", "--fault-ns", "1000", str(os.getpid()), env=self.env).stdout)
        for name, key in KEYS.items():
            self.assertEqual(one[name], ({"pid": str(os.getpid()), "command": 'a "b" \\c'}, total[key]), name)
        self.assertEqual([one[f"zeropool_faults_avoided_{b}_bound"][1] for b in ("lower", "upper")], total["faults_avoided"])
        self.assertEqual([one[f"zeropool_saved_{b}_bound_seconds"][1] for b in ("lower", "upper")], total["seconds_saved"])
        self.assertEqual(one["zeropool_warm_ratio"][1], stats_report.hit_rate(total))
        self.assertEqual(one["zeropool_processes"], ({}, 1))
        sizes = {row["from"]: row for row in total["sizes"]}
        for name, label, keys in (("zeropool_served_requests", "level", {v: k for k, v in metrics.LEVELS.items()}),
                                  ("zeropool_served_bytes", "memory", {"warm": "bytes_warm", "fresh": "bytes_fresh"}),
                                  ("zeropool_zeroed_bytes", "way", {"memset": "bytes_cleared", "given_back": "bytes_emptied"})):
            samples = found[name][2]
            self.assertEqual(len(samples), 2 * len(keys))
            for _, labels, value in samples:
                self.assertEqual(value, sizes[int(labels["size_from"])][keys[labels[label]]], labels)
        self.assertGreater(saved.of([report()], 1000).low_s, 0, "or nothing was compared")

    def test_time_saved_wants_the_cost_of_a_fault(self):
        self.page(report())
        self.assertNotIn("saved", self.metrics())

    def test_age(self):
        self.page(report(), age_s=100)
        (_, _, value), = families(self.metrics())["zeropool_page_age_seconds"][2]
        self.assertTrue(100 <= value < 200, value)

    def test_nothing_running(self):
        self.assertEqual([sample for _, _, sample in families(self.metrics()).values()], [[("zeropool_processes", {}, 0)]])

    def test_a_page_without_requests(self):
        self.page({"pid": os.getpid(), "gets": 0, "command": "x\ny", "sizes": "?"})
        found = families(self.metrics())
        self.assertNotIn("zeropool_warm_ratio", found)
        self.assertEqual(found["zeropool_requests"][2][0][1]["command"], "x?y")

    def test_failures(self):
        path = self.write(os.path.join(self.folder(), "f"), json.dumps(report()))
        for words, status, text in (((path,), 2, "is no process id"), (("--json",), 2, "neither --json nor --each"),
                                    (("--each",), 2, "neither --json nor --each"), (("999999999",), 125, "there is none")):
            self.assert_fails(run("stat", "--metrics", *words, env=self.env), status, text)

    def test_official_parser(self):
        self.page(report())
        script = ("import sys\nfrom prometheus_client.openmetrics import parser\n"
                  "print(sum(len(f.samples) for f in parser.text_string_to_metric_families(sys.stdin.read())))")
        if subprocess.run(["/usr/bin/python3", "-c", "import prometheus_client"], capture_output=True, check=False).returncode:
            self.skipTest("prometheus_client is not installed; on Debian: apt-get install python3-prometheus-client")
        text = self.metrics()
        result = subprocess.run(["/usr/bin/python3", "-c", script], input=text, capture_output=True, text=True, check=False)
        self.assertEqual((result.returncode, result.stdout), (0, f"{sum(line[0] != '#' for line in text.splitlines())}\n"), result.stderr)


def expressions():
    with open(DASHBOARD, encoding="utf-8") as file:
        document = json.load(file)
    return document, [target["expr"] for panel in document["panels"] for target in panel["targets"]]


class Documents(support.Case):
    def test_document_names_every_metric(self):
        with open(os.path.join(support.ROOT, "docs", "metrics.md"), encoding="utf-8") as file:
            text = file.read()
        named = set(re.findall(r"^\| `(zeropool_\w+)", text, re.M))
        self.assertEqual(named, {metrics.sample_name(m) for m in (metrics.PROCESSES, *metrics.METRICS)})
        for metric in metrics.METRICS:
            row = re.search(rf"^\| `{metrics.sample_name(metric)}.*$", text, re.M)[0]
            self.assertIn(f"| {metric.kind} |", row)

    def test_dashboard(self):
        document, queries = expressions()
        known = {metrics.sample_name(m) for m in (metrics.PROCESSES, *metrics.METRICS)}
        variables = {v["name"] for v in document["templating"]["list"]}
        texts = [*queries, *(v["query"] for v in document["templating"]["list"])]
        for text in texts:
            self.assertLessEqual(set(re.findall(r"zeropool_\w+", text)), known, text)
            self.assertLessEqual(set(re.findall(r"\$(\w+)", text)), variables | {"__rate_interval"}, text)
            self.assertLessEqual(set(re.findall(r"(?:by \(|, )(\w+)(?=[,)])", text)) - {"zeropool"},
                                 {"command", "pid", "level", "memory", "way"}, text)
        self.assertGreater(len(queries), 10)
        self.assertEqual(len({panel["id"] for panel in document["panels"]}), len(document["panels"]))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Served(Case):
    def get(self, address):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=30) as answer:
            return answer.headers, answer.read().decode()

    def start(self, words, ready):
        process = subprocess.Popen(words, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.wait_for(lambda: self.get(ready))

    def wait_for(self, look):
        """What look() says, once it says something."""
        deadline = time.monotonic() + 60
        while True:
            try:
                found = look()
                if found:
                    return found
            except OSError:
                pass
            self.assertLess(time.monotonic(), deadline, "nothing happened")
            time.sleep(0.1)

    def serve(self):
        port = free_port()
        self.start([sys.executable, "-I", os.path.join(EXAMPLES, "serve_metrics.py"), str(port)], f"http://127.0.0.1:{port}/metrics")
        return port

    def test_example_server(self):
        self.page(report())
        port = self.serve()
        headers, text = self.get(f"http://127.0.0.1:{port}/metrics")
        self.assertEqual(headers["Content-Type"], metrics.CONTENT_TYPE)
        self.assertIn("zeropool_requests", families(text))
        with self.assertRaises(urllib.error.HTTPError):
            self.get(f"http://127.0.0.1:{port}/")

    @unittest.skipUnless(shutil.which("prometheus"), "prometheus is not installed; Debian has it")
    def test_prometheus(self):
        self.page(report())
        folder, port, target = self.folder(), free_port(), self.serve()
        config = self.write(os.path.join(folder, "prometheus.yml"), "scrape_configs:\n- job_name: zeropool\n  scrape_interval: 200ms\n"
                            f"  scrape_timeout: 200ms\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n".replace("200ms", "1s"))
        api = f"http://127.0.0.1:{port}/api/v1/"
        self.start(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"],
                   api + "targets")

        def ask(query):
            answer = json.loads(self.get(api + "query?" + urllib.parse.urlencode({"query": query}))[1])
            self.assertEqual(answer["status"], "success")
            return answer["data"]["result"]

        found = self.wait_for(lambda: ask("zeropool_requests_total"))
        self.assertEqual((found[0]["metric"]["command"], float(found[0]["value"][1])), ('a "b" \\c', 100))
        self.assertEqual(len(ask("zeropool_served_requests_total")), 10)
        kinds = json.loads(self.get(api + "metadata?metric=zeropool_purged_bytes")[1])["data"]["zeropool_purged_bytes"]
        self.assertEqual([(k["type"], k["unit"]) for k in kinds], [("counter", "bytes")])
        for query in expressions()[1]:
            query = query.replace("$command", ".*").replace("$pid", ".*").replace("$__rate_interval", "30s")
            self.assertTrue(self.wait_for(lambda query=query: ask(query)), query)


if __name__ == "__main__":
    unittest.main()
