#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Answers http://127.0.0.1:PORT/metrics with what `zeropool stat --metrics` prints at that moment: a target for Prometheus.

usage: serve_metrics.py PORT
"""
import http.server
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
BESIDE = os.path.join(os.path.dirname(HERE), "zeropool")
COMMAND = BESIDE if os.path.isfile(BESIDE) else shutil.which("zeropool")
CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/metrics":
            self.send_error(404, "only /metrics is here")
            return
        result = subprocess.run([COMMAND, "stat", "--metrics"], capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False)
        if result.returncode:
            self.send_error(500, "zeropool stat failed", result.stderr.decode(errors="replace"))
            return
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(result.stdout)))
        self.end_headers()
        self.wfile.write(result.stdout)

    def log_message(self, *_):
        pass


def main(words):
    if len(words) != 1 or not words[0].isdigit() or not COMMAND:
        sys.exit(__doc__ if COMMAND else "zeropool is not in PATH")
    with http.server.HTTPServer(("127.0.0.1", int(words[0])), Handler) as server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main(sys.argv[1:])
