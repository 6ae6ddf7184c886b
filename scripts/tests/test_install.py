# SPDX-License-Identifier: MIT
"""Installed into a prefix, and as a Debian package: everything is there, works, agrees with the code, and goes again."""
import glob
import gzip
import os
import re
import shutil
import subprocess
import unittest

import support

from zeropool_tools import VERSION, record, results, sites_rows, top, variants

BUILD = os.path.join(support.ROOT, "build")
BUILT = os.path.join(BUILD, "shim", "libzeropool-preload.so")
GENERATE = os.path.join(support.ROOT, "docs", "man", "generate")
PROGRAM = "#include <zeropool.h>\n#include <stdio.h>\nint main(void) { zp_pool *p = zp_pool_create(NULL); void *b = zp_get(p, 1 << 20);" \
          " zp_put(p, b); zp_pool_destroy(p); puts(zp_version()); return b == NULL; }\n"


def call(*words, **more):
    return subprocess.run(words, capture_output=True, text=True, timeout=600, check=False, stdin=subprocess.DEVNULL,
                          env=more.pop("env", None) or support.environment(ZEROPOOL_LIB=None, XDG_CACHE_HOME=support.folder()), **more)


def check_prefix(case, prefix):
    """The command, the library and the header of an installation work from where they lie."""
    zeropool = f"{prefix}/bin/zeropool"
    here = case.folder()
    traced = call(zeropool, "trace", "-o", f"{here}/t.zpt", "--", "/usr/bin/python3", "-c", "bytearray(1 << 20)")
    case.assertIn(f"wrote {here}/t.zpt: ", traced.stderr)
    case.assertEqual(call(zeropool, "replay", f"{here}/t.zpt").returncode, 0)
    case.assertEqual(call(zeropool, "--version").stdout, f"zeropool {VERSION}\n")
    result = call(zeropool, "run", "--", "sh", "-c", 'echo "$LD_PRELOAD"; cat /proc/self/maps')
    case.assertEqual((result.returncode, result.stderr), (0, ""))
    library = result.stdout.splitlines()[0]
    case.assertTrue(library.startswith(prefix), library)
    case.assertIn(os.path.realpath(library), result.stdout)
    case.assertEqual(call(zeropool, "doctor", "ls").returncode, 0)
    case.assertIn("did you mean 'doctor'", call(zeropool, "docter").stderr)
    folder = case.folder()
    stats = f"{folder}/stats"
    case.assertEqual(call(zeropool, "run", f"--stats={stats}", "--", "ls", "/").returncode, 0)
    case.assertEqual(call(zeropool, "stat", "--fault-ns", "1", stats).returncode, 0)
    # Either way into the hardened mode, a byte behind a block is out of reach.
    overflow = "import ctypes; c = ctypes.CDLL(None); c.malloc.restype = ctypes.c_void_p; p = c.malloc(1 << 20); ctypes.memset(p + (1 << 20), 0, 1)"
    for options in ([], [f"--stats={stats}-hardened"]):
        ran = call(zeropool, "run", "--hardened", *options, "--", "/usr/bin/python3", "-I", "-c", overflow)
        case.assertEqual((ran.returncode, ran.stderr), (-11, ""))
    # As pkg-config says it; its paths are those of the final place.
    pc = glob.glob(f"{prefix}/lib/**/zeropool.pc", recursive=True)[0]
    env = support.environment(PKG_CONFIG_PATH=os.path.dirname(pc), PKG_CONFIG_ALLOW_SYSTEM_CFLAGS="1",
                              PKG_CONFIG_ALLOW_SYSTEM_LIBS="1")
    flags = call("pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", "zeropool", env=env)
    case.assertEqual(flags.returncode, 0, flags.stderr)
    source = case.write(f"{folder}/program.c", PROGRAM)
    built = call("gcc", source, "-o", f"{folder}/program", *flags.stdout.split())
    case.assertEqual(built.returncode, 0, built.stderr)
    ran = call(f"{folder}/program", env=support.environment(LD_LIBRARY_PATH=os.path.dirname(os.path.dirname(pc))))
    case.assertEqual((ran.returncode, ran.stdout.strip()), (0, VERSION), ran.stderr)


@unittest.skipUnless(os.path.exists(BUILT) and shutil.which("meson"), "the build folder or meson is missing")
class Prefix(support.Case):
    def test_install(self):
        root = self.folder()
        result = call("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", root)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        binary = glob.glob(f"{root}/**/bin/zeropool", recursive=True)[0]
        prefix = os.path.dirname(os.path.dirname(binary))
        check_prefix(self, prefix)
        for page in ("man1/zeropool.1", "man1/zeropool-run.1", "man3/zp_get.3", "man7/zeropool.7"):
            self.assertTrue(os.path.exists(f"{prefix}/share/man/{page}"), page)
        self.assertTrue(os.access(binary, os.X_OK))
        self.assertFalse(glob.glob(f"{prefix}/**/__pycache__", recursive=True))


class Pages(support.Case):
    def setUp(self):
        self.pages = self.folder()
        result = call(GENERATE, self.pages)
        self.assertEqual(result.returncode, 0, result.stderr)

    def page(self, name):
        with open(os.path.join(self.pages, name), encoding="utf-8") as file:
            return file.read().replace("\\-", "-")

    def test_list_is_what_is_written(self):
        self.assertEqual(sorted(os.listdir(self.pages)), call(GENERATE, "--list").stdout.split())

    @unittest.skipUnless(shutil.which("man"), "man is missing")
    def test_no_warnings(self):
        for path in glob.glob(f"{self.pages}/zeropool*"):
            result = call("man", "--warnings=w", "-l", path, env=support.environment(MANWIDTH="100", LC_ALL="C.UTF-8"))
            self.assertEqual((result.returncode, result.stderr), (0, ""), path)

    def test_every_variable(self):
        with open(os.path.join(support.ROOT, "core/sync/options.h"), encoding="utf-8") as file:
            names = set(re.findall(r'"(ZEROPOOL_\w+)"', file.read()))
        self.assertGreater(len(names), 10)
        for name in names | {"ZEROPOOL_LIB"}:
            self.assertIn(f".B {name}\n", self.page("zeropool.7"))

    def test_every_function_and_type(self):
        with open(os.path.join(support.ROOT, "core/include/zeropool.h"), encoding="utf-8") as file:
            text = file.read()
        names = set(re.findall(r"^[a-z].*?\b(zp_\w+)\(", text, re.M))
        self.assertGreater(len(names), 15)
        for name in names:
            self.assertIn(f"{name}(", self.page("zeropool.3"))
            self.assertEqual(self.page(f"{name}.3"), ".so man3/zeropool.3\n")
        for name in re.findall(r"^\} (zp_\w+);", text, re.M):
            self.assertIn("} " + name, self.page("zeropool.3"))

    def test_every_option_of_every_command(self):
        for name in re.findall(r"^zeropool-(\w+)\.1$", call(GENERATE, "--list").stdout, re.M):
            options = set(re.findall(r"^ {2,6}(?:-\w, )?(--[a-z-]+)", support.run(name, "--help").stdout, re.M))
            self.assertIn("--help", options)
            for option in options:
                self.assertRegex(self.page(f"zeropool-{name}.1"), rf"(?m)^\.B .*{option}\b", name)


@unittest.skipUnless(shutil.which("bash"), "bash is missing")
class Completion(support.Case):
    def complete(self, *words):
        script = os.path.join(support.SCRIPTS, "completion", "zeropool")
        quoted = " ".join(f"'{w}'" for w in (support.ZEROPOOL, *words))
        text = f". {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _zeropool; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        result = call("bash", "--norc", "-c", text)
        self.assertEqual(result.stderr, "")
        return result.stdout.split()

    def test_commands(self):
        self.assertEqual(self.complete("do"), ["doctor"])
        self.assertLessEqual({"run", "compare", "stat", "top", "doctor"}, set(self.complete("")))

    def test_options(self):
        self.assertEqual(self.complete("run", "--pre"), ["--preset"])
        self.assertEqual(self.complete("run", "--preset", "ne"), ["network"])
        self.assertEqual(self.complete("run", "--next", "je"), ["jemalloc"])
        self.assertIn("--rounds", self.complete("compare", "--r"))

    def test_the_users_own_command(self):
        self.assertIn("true", self.complete("run", "tru"))
        self.assertIn("true", self.complete("run", "--threshold", "64K", "--", "tru"))
        for command in ("compare", "record", "advise", "trace", "doctor"):
            self.assertIn("true", self.complete(command, "tru"), command)
            self.assertIn("true", self.complete(command, "--", "tru"), command)
            self.assertIn("/usr/bin/env", self.complete(command, "--", "/usr/bin/env"), command)
        self.assertIn("true", self.complete("compare", "-n", "3", "--allocators", "=", "glibc,zeropool", "--quiet", "--", "tru"))
        self.assertIn("redis-server" if shutil.which("redis-server") else "env", self.complete("compare", "--server", ""))

    def test_values(self):
        for words, expected in ((("compare", "-a", "jem"), ["jemalloc"]), (("bench", "--allocators", "mi"), ["mimalloc"]),
                                (("record", "-a", "glibc,jem"), ["glibc,jemalloc"]), (("compare", "--allocators", "=", "tc"), ["tcmalloc"]),
                                (("record", "-e", "f"), ["faults"]), (("record", "--event", "al"), ["alloc"]),
                                (("diff", "--metric", "cpu"), ["cpu_s"]), (("diff", "a", "b", "--metric", "cpu"), ["cpu_s"]),
                                (("diff", "--only", "jem"), ["jemalloc"]), (("bench", "--only", "shi"), ["shift"]),
                                (("bench", "--only", "pair,shi"), ["pair,shift"]), (("replay", "--touch", "n"), ["none"]),
                                (("top", "-s", "r"), ["rate"]), (("run", "--preset", "=", "ne"), ["network"]),
                                (("run", "--preset", "="), ["balanced", "ml", "network", "file"]),
                                (("compare", "--ready", "T"), ["TCP:auto"]), (("compare", "-n", ""), []), (("run", "--threshold", ""), [])):
            with self.subTest(words=words):
                self.assertEqual(self.complete(*words), expected)

    def test_values_are_those_of_the_command(self):
        def values(command, option):
            script = os.path.join(support.SCRIPTS, "completion", "zeropool")
            return call("bash", "--norc", "-c", f". {script}; _zeropool_values {command} {option} {support.ZEROPOOL}").stdout.split()

        for command, option in (("compare", "--allocators"), ("report", "--only")):
            self.assertEqual(values(command, option), list(variants.NAMES))
        self.assertEqual(values("record", "--event"), list(record.EVENTS))
        self.assertEqual(values("diff", "--metric"), list(results.METRICS))
        self.assertEqual(values("top", "--sort"), list(top.ORDERS))
        self.assertEqual(values("sites", "--sort"), list(sites_rows.ORDERS))
        self.assertEqual(values("sites", "--collapsed"), list(sites_rows.WEIGHTS))
        self.assertLessEqual(set(values("run", "--next")), set(variants.LIBRARIES))
        for value in values("run", "--preset"):
            self.assertEqual(call(support.ZEROPOOL, "run", "--preset", value, "true", env=support.environment()).returncode, 0)

    def test_files(self):
        here = self.folder()
        self.write(f"{here}/result.json", "")
        os.mkdir(f"{here}/folder")
        for words in (("report",), ("compare", "--json"), ("stat",), ("run", "--stats", "="), ("diff", "a")):
            self.assertEqual(self.complete(*words, f"{here}/r"), [f"{here}/result.json"], words)
        self.assertEqual(self.complete("record", "-o", f"{here}/"), [f"{here}/folder"])
        self.assertEqual(self.complete("run", "--next", f"{here}/r"), [f"{here}/result.json"])


@unittest.skipUnless(shutil.which("dpkg-deb") and shutil.which("meson") and os.path.exists(BUILT), "dpkg-deb or meson is missing")
class Package(support.Case):
    def test_installs_works_and_goes(self):
        folder = self.folder()
        result = call(os.path.join(support.SCRIPTS, "build-deb"), "-o", folder,
                      env=support.environment(DEBFULLNAME="Some Body", DEBEMAIL="somebody@example.com", ZEROPOOL_LIB=None))
        self.assertEqual(result.returncode, 0, result.stderr)
        package = result.stdout.strip()
        self.assertEqual(os.path.basename(package), f"zeropool_{VERSION}_amd64.deb")
        self.contents(package)
        root = self.folder()
        if os.geteuid() == 0:
            self.with_dpkg(package, root)
        else:
            self.assertEqual(call("dpkg-deb", "-x", package, root).returncode, 0)
            check_prefix(self, f"{root}/usr")

    def contents(self, package):
        listing = call("dpkg-deb", "-c", package).stdout
        for path in ("./usr/bin/zeropool", "./usr/include/zeropool.h", "./usr/share/man/man1/zeropool.1.gz",
                     "./usr/share/doc/zeropool/copyright", "./usr/share/doc/zeropool/changelog.gz"):
            self.assertIn(f" {path}\n", listing)
        self.assertNotIn("__pycache__", listing)
        self.assertEqual({line.split()[1] for line in listing.splitlines()}, {"root/root"})
        self.assertRegex(call("dpkg-deb", "-f", package, "Depends").stdout, r"libc6 \(>= 2\.\d+\)")
        self.assertIn("<somebody@example.com>", call("dpkg-deb", "-f", package, "Maintainer").stdout)
        # lintian will not be had everywhere, so what it found once is looked for by hand.
        unpacked = self.folder()
        call("dpkg-deb", "-R", package, unpacked)
        with open(f"{unpacked}/DEBIAN/shlibs", encoding="ascii") as file:
            self.assertRegex(file.read(), r"^libzeropool 1 zeropool \(>= [\d.]+\)\n$")
        programs = call("file", f"{unpacked}/usr/bin/zeropool-replay")
        self.assertNotIn("not stripped", programs.stdout)
        for library in glob.glob(f"{unpacked}/usr/lib/*/*.so*"):
            self.assertIn("SONAME", call("objdump", "-p", library).stdout, library)
        if shutil.which("lintian"):
            result = call("lintian", "--allow-root", "--fail-on", "error,warning", package)
            self.assertEqual((result.returncode, result.stdout), (0, ""), result.stderr)

    def with_dpkg(self, package, root):
        for name in ("info", "updates", "triggers"):
            os.makedirs(f"{root}/var/lib/dpkg/{name}")
        for name in ("status", "available"):
            self.write(f"{root}/var/lib/dpkg/{name}", "", 0o644)
        before = self.files(root)
        dpkg = ("dpkg", f"--root={root}", "--force-depends", "--log=/dev/null")
        result = call(*dpkg, "-i", package)
        self.assertEqual(result.returncode, 0, result.stderr)
        check_prefix(self, f"{root}/usr")
        self.assertEqual(call(*dpkg, "-V", "zeropool").stdout, "")
        with gzip.open(f"{root}/usr/share/man/man1/zeropool.1.gz") as page:
            self.assertIn(b".SH NAME", page.read())
        result = call(*dpkg, "-P", "zeropool")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.files(root), before)

    @staticmethod
    def files(root):
        return sorted(os.path.join(at, name) for at, _, names in os.walk(root) for name in names
                      if not at.startswith(f"{root}/var/lib/dpkg"))

    def test_failures(self):
        script = os.path.join(support.SCRIPTS, "build-deb")
        for words, status, text in ((("--nonsense",), 2, "unknown option"), (("-o",), 2, "wants a folder"),
                                    (("-o", "/nowhere"), 1, "no folder that can be written")):
            result = call(script, *words)
            self.assertEqual(result.returncode, status)
            self.assertIn(text, result.stderr)


if __name__ == "__main__":
    unittest.main()
