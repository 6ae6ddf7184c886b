# SPDX-License-Identifier: MIT
"""What several tests need: a stand-in for the library, small C programs, and running the command.

The stand-in preloads and does nothing, so that these tests are about the tools and not about the pool.
"""
import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

SCRIPTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
ROOT = os.path.dirname(SCRIPTS)
ZEROPOOL = os.path.join(SCRIPTS, "zeropool")

_folder = None
_built = {}


def folder():
    """A temporary folder for this run of the tests."""
    global _folder
    if _folder is None:
        _folder = tempfile.mkdtemp(prefix="zeropool-test-")
        atexit.register(shutil.rmtree, _folder, True)
    return _folder


def compile_c(name, source, *flags):
    """The path of the built program or library; compiled once per run."""
    if name not in _built:
        path = os.path.join(folder(), name)
        subprocess.run(["gcc", "-O1", "-x", "c", "-", "-o", path, *flags], input=source, text=True, check=True,
                       capture_output=True)
        _built[name] = path
    return _built[name]


def library():
    return compile_c("libzeropool-preload.so", "int zeropool_stand_in;\n", "-shared", "-fPIC")


def static_program():
    try:
        return compile_c("static-program", "int main(void) { return 0; }\n", "-static")
    except subprocess.CalledProcessError as error:
        raise unittest.SkipTest("no static C library to link with") from error


def environment(**more):
    """The environment of a user, without what tests or meson may have set."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("ZEROPOOL_", "MALLOC_", "LD_", "GLIBC_")) and k not in ("CI",)}
    env["ZEROPOOL_LIB"] = library()
    env.update(more)
    return {k: v for k, v in env.items() if v is not None}


def default_signals():
    """In the child: what a background job of a script (&) or nohup ignores, tests send."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def run(*words, env=None, timeout=120, program=ZEROPOOL, **more):
    return subprocess.run([program, *words], env=env or environment(), capture_output=True, text=True,
                          timeout=timeout, preexec_fn=default_signals, stdin=more.pop("stdin", subprocess.DEVNULL), check=False, **more)


def without_proc(*words, **more):
    """Runs words where nothing is mounted on /proc."""
    def call(*inner):
        return subprocess.run(["unshare", "-m", "sh", "-c", 'umount -l /proc && exec "$@"', "sh", *inner], env=environment(**more),
                              capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False)

    if not shutil.which("unshare") or call("true").returncode:
        raise unittest.SkipTest("a mount namespace cannot be made here")
    return call(*words)


class Case(unittest.TestCase):
    maxDiff = None

    def assert_fails(self, result, status, *texts):
        """Own failures: the status, nothing on standard output, one line on standard error with all texts."""
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stdout, "")
        lines = result.stderr.splitlines()
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertTrue(lines[0].startswith("zeropool: "), lines[0])
        for text in texts:
            self.assertIn(text, lines[0])

    def folder(self):
        path = tempfile.mkdtemp(dir=folder())
        self.addCleanup(shutil.rmtree, path, True)
        return path

    def write(self, path, text, mode=0o755):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path
