# SPDX-License-Identifier: MIT
"""The viewers that exported profiles are opened in, where they are installed. scripts/test puts those of npm into build-viewers/."""
import base64
import functools
import glob
import json
import os
import shutil
import subprocess
import time

import browser
import support

PLACES = (os.path.join(support.ROOT, "build-viewers", "node_modules"), "/usr/local/lib/node_modules", "/usr/lib/node_modules")
SPEEDSCOPE = os.path.join("speedscope", "dist", "release", "index.html")
PROFILER = os.path.join("@firefox-devtools", "profiler-cli", "dist", "profiler-cli.js")


def in_npm(path):
    return next((os.path.join(p, path) for p in PLACES if os.path.isfile(os.path.join(p, path))), None)


def pprof():
    """The words that start pprof; None where there is none. That of google-perftools reads another format."""
    if shutil.which("pprof"):
        return ["pprof"]
    if shutil.which("go"):
        return ["go", "tool", "pprof"]
    found = sorted(glob.glob("/usr/lib/go-*/pkg/tool/*/pprof"))
    return found[-1:] or None


class Speedscope:
    """Use as a context manager. Reads the page as a person does: the tabs, and the table of the sandwich view."""

    @staticmethod
    def missing():
        return browser.missing() or ("" if in_npm(SPEEDSCOPE) else "the npm package speedscope is not installed")

    def __enter__(self):
        self.browser = browser.Browser().__enter__()
        return self

    def __exit__(self, *_):
        self.browser.__exit__()

    def open(self, path, folder):
        """Loads a file, and waits for its table: {function: (total, self)} as texts."""
        with open(path, "rb") as file:
            content = base64.b64encode(file.read()).decode()
        loader = os.path.join(folder, "loader.js")
        with open(loader, "w", encoding="ascii") as file:
            file.write(f"speedscope.loadFileFromBase64({json.dumps(os.path.basename(path))}, {json.dumps(content)})")
        self.browser.call("url", {"url": "about:blank"})
        self.browser.call("url", {"url": f"file://{in_npm(SPEEDSCOPE)}#localProfilePath={loader}"})
        self.wait(lambda text: "Sandwich" in text and "Time Order" in text)
        self.browser.keys(("3",))
        return self.table(self.wait(self.table))

    def wait(self, condition):
        deadline = time.monotonic() + 60
        while True:
            text = self.browser.run("return document.body.innerText")
            if condition(text):
                return text
            if time.monotonic() > deadline:
                raise AssertionError(f"speedscope shows: {text[:500]}")
            time.sleep(0.05)

    @staticmethod
    def table(text):
        cells = [cell.strip() for cell in text.partition("Symbol Name")[2].replace("\t", "\n").splitlines() if cell.strip()]
        return {cells[i + 2]: (cells[i], cells[i + 1]) for i in range(0, len(cells) - 2, 3)}

    def shown(self):
        return self.browser.run("return document.body.innerText")


class FirefoxProfiler:
    """Mozilla's command line for the Firefox profiler, which loads a profile as the page does. Use as a context manager.

    Its daemon is started here: `load` gives one of its own only half a second.
    """

    def __init__(self, path, folder):
        self.path = path
        self.env = support.environment(HOME=folder, PROFILER_CLI_SESSION_DIR=folder, PROFILER_CLI_NO_SYMBOLICATE="1")

    @staticmethod
    @functools.cache
    def missing():
        if not in_npm(PROFILER):
            return "the npm package @firefox-devtools/profiler-cli is not installed"
        if not shutil.which("node"):
            return "node is not installed"
        result = subprocess.run(["node", in_npm(PROFILER), "--version"], capture_output=True, text=True, timeout=60, check=False)
        return "" if result.returncode == 0 else "this node is too old for @firefox-devtools/profiler-cli"

    def __enter__(self):
        self.daemon = subprocess.Popen(["node", in_npm(PROFILER), "--daemon", self.path, "--session", "test"], env=self.env,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while "Profile loaded successfully" not in self.log():
            if time.monotonic() > deadline or self.daemon.poll() is not None or "Failed to load" in self.log():
                self.__exit__()
                raise AssertionError(f"the Firefox profiler does not load the profile: {self.log()}")
            time.sleep(0.05)
        return self

    def log(self):
        try:
            with open(os.path.join(self.env["HOME"], "test.log"), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def __exit__(self, *_):
        self.daemon.kill()
        self.daemon.wait()

    def call(self, *words):
        return subprocess.run(["node", in_npm(PROFILER), *words, "--session", "test"], capture_output=True, text=True, env=self.env,
                              timeout=60, stdin=subprocess.DEVNULL, check=False)

    def ask(self, *words):
        result = self.call(*words, "--json")
        if result.returncode:
            raise AssertionError(result.stdout + result.stderr)
        return json.loads(result.stdout)
