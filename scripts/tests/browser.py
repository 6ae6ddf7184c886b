# SPDX-License-Identifier: MIT
"""A headless Chromium for tests, driven through chromedriver's HTTP interface with nothing but the standard library."""
import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--window-size=1240,1000")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def missing():
    """What is not installed, or ''."""
    return "" if shutil.which("chromedriver") and shutil.which("chromium") else \
        "chromium is not installed; on Debian: apt-get install chromium chromium-driver"


class Browser:
    """Use as a context manager."""

    def __enter__(self):
        self.profile = tempfile.mkdtemp(prefix="zeropool-chromium-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.session = ""
        try:
            self.wait_until_ready()
            wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": {
                "binary": shutil.which("chromium"), "args": [*FLAGS, f"--user-data-dir={self.profile}"]}}}
            self.session = self.send("POST", "/session", {"capabilities": wanted})["sessionId"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            if self.session:
                self.send("DELETE", f"/session/{self.session}")
        finally:
            self.driver.terminate()
            self.driver.wait()
            shutil.rmtree(self.profile, True)

    def wait_until_ready(self):
        deadline = time.monotonic() + 30
        while True:
            try:
                if self.send("GET", "/status")["ready"]:
                    return
            except OSError:
                if time.monotonic() > deadline or self.driver.poll() is not None:
                    raise
            time.sleep(0.1)

    def send(self, method, path, body=None):
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"},
                                         method=method)
        # No proxy: the environment's would be asked for our own machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def call(self, command, body=None):
        return self.send("POST", f"/session/{self.session}/{command}", body)

    def open(self, path):
        self.call("url", {"url": f"file://{os.path.abspath(path)}"})

    def run(self, script, *arguments):
        return self.call("execute/sync", {"script": script, "args": list(arguments)})

    def keys(self, *chords):
        """Presses real keys; a chord is a tuple held together, e.g. ('\\ue009', 'f') for Ctrl+F."""
        actions = []
        for chord in chords:
            actions += [{"type": "keyDown", "value": k} for k in chord]
            actions += [{"type": "keyUp", "value": k} for k in reversed(chord)]
        self.call("actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def click(self, element):
        self.call("actions", {"actions": [{"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [
            {"type": "pointerMove", "duration": 0, "origin": {ELEMENT: element[ELEMENT]}, "x": 0, "y": 0},
            {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]}]})

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.send("GET", f"/session/{self.session}/screenshot")))
