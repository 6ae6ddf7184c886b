# SPDX-License-Identifier: MIT
"""zeropool run: what the program gets to see, and every way in which starting it can fail."""
import os
import re
import shutil
import signal
import subprocess
import unittest

import support
from support import ZEROPOOL, environment, library, run
from zeropool_tools import VERSION

SHOW = 'printf "%s|" "$LD_PRELOAD" "$ZEROPOOL_THRESHOLD" "$ZEROPOOL_RETAIN" "$ZEROPOOL_PRESET" "$ZEROPOOL_STATS"'


class Settings(support.Case):
    def seen(self, *options, **env):
        result = run("run", *options, "--", "sh", "-c", SHOW, env=environment(**env))
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout.split("|")[:-1]

    def test_library_alone(self):
        self.assertEqual(self.seen(), [library(), "", "", "", ""])

    def test_existing_preload_stays_behind(self):
        self.assertEqual(self.seen(LD_PRELOAD="libm.so.6")[0], library() + ":libm.so.6")

    def test_options_become_variables(self):
        self.assertEqual(self.seen("--threshold", "64K", "--retain=1G", "--preset", "ml", "--stats=/tmp/a b")[1:],
                         ["65536", str(1 << 30), "ml", "/tmp/a b"])

    def test_hardened_mode(self):
        root = self.folder()
        os.makedirs(f"{root}/bin")
        os.makedirs(f"{root}/lib")
        shutil.copy(ZEROPOOL, f"{root}/bin/zeropool")
        names = ["libzeropool-preload.so", "libzeropool-hardened.so"]
        default, hardened = (shutil.copy(library(), f"{root}/lib/{name}") for name in names)

        def chosen(*options, **env):
            result = run("run", *options, "--", "sh", "-c", SHOW, env=environment(**{"ZEROPOOL_LIB": None} | env), program=f"{root}/bin/zeropool")
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            return result.stdout.split("|")[0]

        self.assertEqual(chosen(), default)
        self.assertEqual(chosen("--hardened"), hardened)
        self.assertEqual(chosen(ZEROPOOL_HARDENED="1"), hardened)
        self.assertEqual(chosen(ZEROPOOL_HARDENED="0"), default)
        # For the statistics, or asked for by name, the other library, which loads it.
        self.assertEqual(chosen("--hardened", "--stats=/dev/null"), default)
        self.assertEqual(chosen("--hardened", ZEROPOOL_LIB=default), default)
        os.remove(hardened)
        self.assertEqual(chosen("--hardened"), default, "which will say that it is missing")

    def test_stats_file_does_not_depend_on_the_folder(self):
        here = self.folder()
        result = run("run", "--stats=x/y", "--", "sh", "-c", SHOW, cwd=here)
        self.assertTrue(result.stdout.endswith(f"|{here}/x/y|"))
        result = run("run", "--stats", "--", "sh", "-c", SHOW + "; echo $$", cwd=here)
        *_, path, pid = result.stdout.split("|")
        self.assertEqual(path, f"{here}/zeropool-stats-{pid.strip()}.json")
        self.assertTrue(result.stderr.startswith(f"zeropool: statistics go to {path}; afterwards: "), result.stderr)

    def test_stats_descriptor(self):
        here = self.folder()
        with open(os.path.join(here, "out"), "w", encoding="ascii") as file:
            for words in (("--stats=fd:%d",), ("--preset=ml", "--stats=fd:%d", "--")):
                result = run("run", *(w.replace("%d", str(file.fileno())) for w in words), "sh", "-c", SHOW, cwd=here,
                             pass_fds=(file.fileno(),))
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                self.assertTrue(result.stdout.endswith(f"|fd:{file.fileno()}|"), result.stdout)
        self.assertEqual(os.listdir(here), ["out"])
        self.assertTrue(self.seen("--stats=./fd:3")[4].endswith("/./fd:3"))
        for word, status, text in (("fd:", 2, "above 2"), ("fd:x", 2, "above 2"), ("fd:1", 2, "above 2"),
                                   ("fd:99999999", 2, "above 2"), ("fd:777", 125, "not open")):
            self.assert_fails(run("run", f"--stats={word}", "true"), status, text)

    def test_stats_that_cannot_be_written(self):
        here = self.folder()
        self.assert_fails(run("run", f"--stats={here}", "true"), 125, "is a folder")
        result = run("run", f"--stats={here}/none/x", "true")
        self.assertEqual(result.returncode, 0)
        self.assertIn(f"warning: --stats={here}/none/x: there is no folder {here}/none", result.stderr)

    def test_sizes(self):
        for text, size in (("1", 1), ("00064k", 65536), ("3m", 3 << 20), ("64G", 64 << 30), ("007", 7), ("4KiB", 4096), ("12B", 12)):
            self.assertEqual(self.seen("--threshold", text)[1], str(size), text)
        self.assertEqual(self.seen("--retain", "0")[2], "0")

    def test_sizes_are_those_that_the_library_takes(self):
        with open(os.path.join(support.ROOT, "core/sync/options.h"), encoding="utf-8") as file:
            limits = dict(re.findall(r'"ZEROPOOL_(THRESHOLD|RETAIN)", SIZE, [^,]+, (\d+), 64 \* GIB', file.read()))
        self.assertEqual(limits, {"THRESHOLD": "1", "RETAIN": "0"})
        for option in ("--threshold", "--retain"):
            least = limits[option[2:].upper()]
            for size in ("68719476737", "65G", "1T", *(["0"] if least == "1" else [])):
                self.assert_fails(run("run", option, size, "true"), 2, f"{option} wants a size from {least} to 64G, not '{size}'")

    def test_variables_of_the_user_pass(self):
        self.assertEqual(self.seen(ZEROPOOL_RETAIN="5M")[2], "5M")

    def test_next_path(self):
        self.assertEqual(self.seen("--next", "/lib/x86_64-linux-gnu/libm.so.6", LD_PRELOAD="libdl.so.2")[0],
                         library() + ":/lib/x86_64-linux-gnu/libm.so.6:libdl.so.2")

    def test_next_by_name(self):
        for name, soname in (("jemalloc", "libjemalloc.so.2"), ("mimalloc", "libmimalloc.so"),
                             ("tcmalloc", "libtcmalloc_minimal.so.4")):
            result = run("run", "--next", name, "--", "sh", "-c", 'echo "$LD_PRELOAD"')
            if result.returncode == 125:
                self.assertIn("apt-get install", result.stderr)
            else:
                self.assertIn(soname, result.stdout)


class Program(support.Case):
    def test_arguments_arrive_unchanged(self):
        words = ["a b", "", "*", "$HOME", "new\nline", "--threshold", "-x", "--", "ü"]
        result = run("run", "--", "printf", "%s\\0", *words)
        self.assertEqual(result.stdout.split("\0")[:-1], words)

    def test_command_without_dashes(self):
        self.assertEqual(run("run", "printf", "%s", "--next").stdout, "--next")

    def test_stdin_passes(self):
        result = subprocess.run([ZEROPOOL, "run", "cat"], input="text\n", env=environment(), capture_output=True,
                                text=True, check=False)
        self.assertEqual(result.stdout, "text\n")

    def test_status(self):
        self.assertEqual(run("run", "sh", "-c", "exit 3").returncode, 3)

    def test_signal(self):
        # exec: the program is the process itself, so its parent sees the signal, and a shell says 128+n.
        self.assertEqual(run("run", "sh", "-c", "kill -TERM $$").returncode, -signal.SIGTERM)

    def test_same_process(self):
        process = subprocess.Popen([ZEROPOOL, "run", "sh", "-c", "echo $$"], env=environment(),
                                   stdout=subprocess.PIPE, text=True)
        self.assertEqual(process.communicate()[0].strip(), str(process.pid))

    def test_warns_of_static_program(self):
        result = run("run", support.static_program())
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stderr, r"^zeropool: warning: \S+ is statically linked: it runs without the pool\n$")

    def test_warns_of_other_architecture(self):
        with open("/bin/true", "rb") as file:
            data = bytearray(file.read())
        data = data.replace(b"ld-linux-x86-64.so.2", b"ld-linux-aarch64.so1")
        data[18] = 183
        path = os.path.join(self.folder(), "foreign")
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, 0o755)
        self.assertIn("is for another architecture", run("run", path).stderr)

    @unittest.skipUnless(os.geteuid() == 0, "only root can give a file away")
    def test_warns_of_setuid(self):
        path = os.path.join(self.folder(), "setuid")
        shutil.copy("/bin/true", path)
        os.chown(path, 65534, 65534)
        os.chmod(path, 0o4755)
        result = run("run", path)
        self.assertEqual(result.returncode, 0)
        self.assertIn("is setuid or setgid", result.stderr)

    def test_no_warning_for_scripts_and_dynamic_programs(self):
        path = self.write(os.path.join(self.folder(), "script"), "#!/bin/sh\nexit 4\n")
        result = run("run", path)
        self.assertEqual((result.returncode, result.stderr), (4, ""))
        self.assertEqual(run("run", "/bin/true").stderr, "")


class Failures(support.Case):
    def test_usage(self):
        for words, texts in (
                ((), ["no command given"]),
                (("run",), ["no command given", "zeropool run --help"]),
                (("run", "--"), ["no command given"]),
                (("run", "--treshold", "1", "true"), ["unknown option '--treshold'", "'--threshold'"]),
                (("run", "-x", "true"), ["unknown option '-x'"]),
                (("run", "--threshold"), ["--threshold wants a value"]),
                (("run", "--threshold", "12X", "true"), ["--threshold wants a number of bytes", "'12X'"]),
                (("run", "--threshold", "-1", "true"), ["'-1'"]),
                (("run", "--threshold=", "true"), ["--threshold wants"]),
                (("run", "--retain", "9999999999999999999", "true"), ["larger than any address space"]),
                (("run", "--retain", "99999999999T", "true"), ["larger than any address space"]),
                (("run", "--preset", "huge", "true"), ["balanced, ml, network or file", "'huge'"]),
                (("run", "--next", "dlmalloc", "true"), ["jemalloc, mimalloc, tcmalloc", "'dlmalloc'"]),
                (("run", "--stats=", "true"), ["--stats= wants"]),
                (("comapre",), ["unknown command 'comapre'", "'compare'"]),
                (("xyz",), ["unknown command 'xyz'", "zeropool --help"]),
                (("--verson",), ["unknown option '--verson'", "'--version'"]),
                (("help", "comapre"), ["unknown command 'comapre'", "'compare'"])):
            self.assert_fails(run(*words), 2, *texts)

    def test_own_failures(self):
        self.assert_fails(run("run", "true", env=environment(ZEROPOOL_LIB="/nowhere/lib.so")), 125,
                          "ZEROPOOL_LIB=/nowhere/lib.so: no such file")
        self.assert_fails(run("run", "--next", "/nowhere/lib.so", "true"), 125, "/nowhere/lib.so: no such file")

    def test_libraries_that_the_loader_rejects(self):
        for path, why in (("/etc/passwd", "invalid ELF header"), ("/bin/ls", "cannot be preloaded")):
            self.assert_fails(run("run", "--next", path, "true"), 125, path, why)
            self.assert_fails(run("run", "true", env=environment(ZEROPOOL_LIB=path)), 125, path, why)

    def test_a_command_in_quotes(self):
        for command in ("run", "compare"):
            self.assert_fails(run(command, "--", "sleep 1"), 127, "sleep 1: not found in PATH; a command is given as words")

    def test_not_found(self):
        self.assert_fails(run("run", "no-such-program"), 127, "no-such-program: not found in PATH")
        self.assert_fails(run("run", "/nowhere/program"), 127, "/nowhere/program: not found")
        self.assert_fails(run("run", ""), 127, "empty")

    def test_not_executable(self):
        here = self.folder()
        self.write(os.path.join(here, "plain"), "text", 0o644)
        self.assert_fails(run("run", os.path.join(here, "plain")), 126, "not executable")
        self.assert_fails(run("run", here), 126, "is a directory")
        self.assert_fails(run("run", "plain", env=environment(PATH=here + ":/usr/bin:/bin")), 126, "not executable")

    def test_folder_with_blank_cannot_be_preloaded(self):
        here = os.path.join(self.folder(), "a b")
        os.mkdir(here)
        path = shutil.copy(library(), here)
        self.assert_fails(run("run", "true", env=environment(ZEROPOOL_LIB=path)), 125, "blank or a colon")


class Places(support.Case):
    """The command finds its library from wherever it is called, and however it was installed."""

    def tree(self, layout):
        root = self.folder()
        for path, source in layout.items():
            target = os.path.join(root, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(source, target)
        return root

    def seen(self, program, **more):
        result = run("run", "--", "sh", "-c", 'echo "$LD_PRELOAD"', program=program,
                     env=environment(ZEROPOOL_LIB=None), **more)
        self.assertEqual(result.stderr, "")
        return result.stdout.strip()

    def source_tree(self):
        return self.tree({"scripts/zeropool": ZEROPOOL, "build/shim/libzeropool-preload.so": library()})

    def test_source_tree(self):
        root = self.source_tree()
        want = f"{root}/build/shim/libzeropool-preload.so"
        self.assertEqual(self.seen(f"{root}/scripts/zeropool"), want)
        self.assertEqual(self.seen("scripts/zeropool", cwd=root), want)
        self.assertEqual(self.seen("./zeropool", cwd=f"{root}/scripts"), want)

    def test_links(self):
        root = self.source_tree()
        want = os.path.realpath(f"{root}/build/shim/libzeropool-preload.so")
        elsewhere = self.folder()
        os.symlink(f"{root}/scripts/zeropool", f"{elsewhere}/zp")
        os.symlink("zp", f"{elsewhere}/zp2")
        os.symlink(f"{root}/scripts", f"{elsewhere}/bin")
        for program in ("zp", "zp2", "bin/zeropool"):
            self.assertEqual(os.path.realpath(self.seen(f"{elsewhere}/{program}")), want)

    def test_path_lookup(self):
        root = self.source_tree()
        env = environment(ZEROPOOL_LIB=None, PATH=f"{root}/scripts:/usr/bin:/bin")
        result = subprocess.run(["/bin/sh", "-c", "zeropool run -- sh -c 'echo $LD_PRELOAD'"], env=env,
                                capture_output=True, text=True, check=False)
        self.assertEqual(result.stdout.strip(), f"{root}/build/shim/libzeropool-preload.so")

    def test_prefix(self):
        for folder in ("lib/x86_64-linux-gnu", "lib64", "lib"):
            root = self.tree({"bin/zeropool": ZEROPOOL, f"{folder}/libzeropool-preload.so": library()})
            self.assertEqual(self.seen(f"{root}/bin/zeropool"), f"{root}/{folder}/libzeropool-preload.so")

    def test_prefix_with_tools(self):
        root = self.tree({"bin/zeropool": ZEROPOOL, "lib/libzeropool-preload.so": library()})
        shutil.copytree(os.path.join(support.SCRIPTS, "zeropool_tools"), f"{root}/share/zeropool/zeropool_tools",
                        ignore=shutil.ignore_patterns("__pycache__"))
        result = run("compare", "-q", "-n", "1", "-w", "0", "-a", "glibc,zeropool", "--", "true",
                     program=f"{root}/bin/zeropool", env=environment(ZEROPOOL_LIB=None))
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_not_built(self):
        root = self.tree({"scripts/zeropool": ZEROPOOL})
        self.assert_fails(run("run", "true", program=f"{root}/scripts/zeropool", env=environment(ZEROPOOL_LIB=None)),
                          125, "libzeropool-preload.so not found", "meson setup build")

    def test_tools_missing(self):
        root = self.tree({"scripts/zeropool": ZEROPOOL})
        self.assert_fails(run("compare", "true", program=f"{root}/scripts/zeropool"), 125, "zeropool_tools")


class Help(support.Case):
    def test_help(self):
        for words in (("--help",), ("-h",), ("help",), ("run", "--help"), ("compare", "--help"), ("compare", "-h")):
            result = run(*words)
            self.assertEqual((result.returncode, result.stderr), (0, ""), words)
            self.assertTrue(result.stdout.startswith("usage: zeropool "), words)
            self.assertIn("Exit status", result.stdout)

    def test_help_of_a_command(self):
        for command in ("run", "compare"):
            self.assertEqual(run("help", command).stdout, run(command, "--help").stdout)

    def test_version_is_the_same_everywhere(self):
        self.assertEqual(run("--version").stdout, f"zeropool {VERSION}\n")
        with open(os.path.join(support.ROOT, "meson.build"), encoding="utf-8") as file:
            self.assertEqual(re.search(r"version: '([^']+)'", file.read()).group(1), VERSION)


if __name__ == "__main__":
    unittest.main()
