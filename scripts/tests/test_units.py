# SPDX-License-Identifier: MIT
"""Parts of the tools by themselves: ELF reader, runner, allocators, options, progress, table."""
import ast
import io
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import unittest
from unittest import mock

import support
from zeropool_tools import elf, html, options, progress, results, runner, sampler, session, table, variants, words
from zeropool_tools.errors import ToolError, UsageError


class Words(unittest.TestCase):
    def test_plural(self):
        self.assertEqual([words.plural(n, "round") for n in (0, 1, 2)], ["0 rounds", "1 round", "2 rounds"])
        self.assertEqual(words.plural(2, "process", "processes"), "2 processes")
        self.assertEqual((words.plural(12000, "call", shown="12.0k"), words.plural(1, "call", shown="1")), ("12.0k calls", "1 call"))

    def test_numbers_have_their_nouns(self):
        # A plural right behind a number in braces is wrong where that is 1; these never are, or the verb is one.
        rarely = ("{stats.MIN_ROUNDS_FOR_VERDICT}", "QUICK_ROUNDS", "{len(reports)}", "process {pid} runs", "{lost} samples", "{caller[0]} calls")
        folder = os.path.join(support.SCRIPTS, "zeropool_tools")
        for name in sorted(n for n in os.listdir(folder) if n.endswith(".py")):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                found = re.findall(r"\w+ \{[^{}]+\} (?:\w+ )?(?:rounds|runs|samples|processes|calls|rows)\b|"
                                   r"\{[^{}]+\} (?:\w+ )?(?:rounds|runs|samples|processes|calls|rows)\b", file.read())
            self.assertEqual([f for f in found if not any(n in f for n in rarely)], [], name)


def imported(path):
    """The modules of the package that a module imports anywhere, also in its functions."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module.split(".")[0]} if node.module else {name.name for name in node.names}
    return found


def circle(graph):
    """A list of names of which each leads to the next and the last to the first, or None."""
    done = set()

    def visit(name, trail):
        if name in trail:
            return trail[trail.index(name):]
        if name in done:
            return None
        for other in sorted(graph.get(name, ())):
            found = visit(other, [*trail, name])
            if found:
                return found
        done.add(name)
        return None

    return next(filter(None, (visit(name, []) for name in sorted(graph))), None)


class Modules(unittest.TestCase):
    def test_no_module_imports_itself_by_way_of_others(self):
        folder = os.path.dirname(os.path.realpath(words.__file__))
        graph = {name[:-3]: imported(os.path.join(folder, name)) for name in os.listdir(folder) if name.endswith(".py")}
        self.assertGreater(len(graph["record"]), 3)
        self.assertIsNone(circle(graph))

    def test_a_circle_is_found(self):
        self.assertEqual(circle({"a": {"b"}, "b": {"c", "d"}, "c": {"d"}, "d": {"b"}}), ["b", "c", "d"])
        self.assertEqual(circle({"a": {"a"}}), ["a"])
        self.assertIsNone(circle({"a": {"b", "c"}, "b": {"c"}, "c": {"outside"}}))


class Layers(support.Case):
    """core/tests/check_layers.py over a copy of the sources."""

    def copy(self):
        here = self.folder()
        for top in ("core", "shim"):
            shutil.copytree(os.path.join(support.ROOT, top), os.path.join(here, top), ignore=shutil.ignore_patterns("tests"))
        return here

    def check(self, root):
        return subprocess.run([sys.executable, "-I", os.path.join(support.ROOT, "core", "tests", "check_layers.py"), root], text=True,
                              capture_output=True, timeout=60, check=False)

    def test_as_it_is(self):
        self.assertEqual(self.check(self.copy()).returncode, 0)

    def test_a_circle_in_shim_is_found(self):
        for name, text, found in (
                ("system.c", "void system_extra(void) {\n    next_resolve();\n}\n", "shim/next.c -> shim/system.c -> shim/next.c"),
                ("symbols.c", "bool symbols_extra(void) {\n    return shim_ready();\n}\n", "shim/symbols.c -> shim/setup.c"),
                ("hardened.c", "void hardened_extra(void) {\n    bypass_close();\n}\n",
                 "shim/bypass.c -> shim/hardened.c -> shim/bypass.c"),
                ("family.h", '#include "shim.h"\n', "shim/family.h -> shim/shim.h -> shim/family.h")):
            root = self.copy()
            with open(os.path.join(root, "shim", name), "a", encoding="utf-8") as file:
                file.write(text)
            result = self.check(root)
            self.assertEqual(result.returncode, 1, name)
            self.assertIn(found, result.stdout)


class Sources(support.Case):
    MOST_LINES = 400

    def test_no_c_file_is_too_long(self):
        n, long = 0, []
        for top in ("core", "shim", "workloads"):
            for folder, _, names in os.walk(os.path.join(support.ROOT, top)):
                for name in sorted(names):
                    if name.endswith((".c", ".h", ".cc")):
                        n += 1
                        with open(os.path.join(folder, name), encoding="utf-8") as file:
                            lines = sum(1 for _ in file)
                        path = os.path.relpath(os.path.join(folder, name), support.ROOT)
                        if lines > self.MOST_LINES:
                            long.append(f"{path}: {lines} lines")
        self.assertGreater(n, 200)
        self.assertEqual(long, [], "split it by subject")

    def test_no_table_tells_stories(self):
        # As shown: of a link the text. Tables of figures that a script writes may be wider.
        n, long = 0, []
        for folder, names, files in os.walk(support.ROOT):
            names[:] = [name for name in names if not name.startswith((".", "build"))]
            for name in (name for name in files if name.endswith(".md")):
                path = os.path.relpath(os.path.join(folder, name), support.ROOT)
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    lines = [line.rstrip() for line in file]
                for i, line in enumerate(lines, 1):
                    if line.startswith("| "):
                        n += 1
                        cells = re.split(r"(?<!\\)\|", re.sub(r"\]\([^)]*\)", "]", line))
                        if any(len(cell.strip()) > 80 for cell in cells) or (len(line) > 160 and path != "docs/benchmarks.md"):
                            long.append(f"{path}:{i}")
        self.assertGreater(n, 200)
        self.assertEqual(long, [], "cells of at most 80 characters, lines of at most 160; the rest is text")


class ElfReader(support.Case):
    def test_dynamic_program(self):
        found = elf.read("/usr/bin/python3")
        self.assertTrue(found.native)
        self.assertIn("ld-linux-x86-64", found.interpreter)
        self.assertIn("libc.so.6", found.needed)
        self.assertEqual(elf.obstacles("/usr/bin/python3"), [])

    def test_static_program(self):
        self.assertIn("statically linked", elf.obstacles(support.static_program())[0])

    def test_own_malloc(self):
        path = support.compile_c("own-malloc", "#include <stddef.h>\nvoid *malloc(size_t n) { (void)n; return 0; }\n"
                                 "void free(void *p) { (void)p; }\nint main(void) { return malloc(1) != 0; }\n",
                                 "-rdynamic")
        self.assertIn("defines malloc itself", elf.obstacles(path)[0])

    def test_no_elf(self):
        here = self.folder()
        for name, data in (("empty", b""), ("text", b"hello" * 20), ("magic", b"\x7fELF"),
                           ("zeros", b"\x7fELF\2\1" + bytes(58)), ("ones", b"\x7fELF\2\1" + b"\xff" * 90)):
            path = os.path.join(here, name)
            with open(path, "wb") as file:
                file.write(data)
            elf.obstacles(path)  # must not raise
        self.assertEqual(elf.obstacles("/nowhere"), [])

    def test_every_truncation(self):
        with open("/bin/true", "rb") as file:
            data = file.read()
        path = os.path.join(self.folder(), "cut")
        for length in list(range(0, 1200, 7)) + list(range(1200, len(data), 997)):
            with open(path, "wb") as file:
                file.write(data[:length])
            elf.obstacles(path)

    def test_other_architectures(self):
        path = os.path.join(self.folder(), "arm")
        for bits, machine, name in ((2, 183, "64-bit ARM"), (1, 3, "32-bit x86"), (1, 62, "x32")):
            with open(path, "wb") as file:
                file.write(b"\x7fELF" + bytes([bits, 1, 1]) + bytes(11) + struct.pack("<H", machine) + bytes(60))
            self.assertIn(name, elf.obstacles(path)[0])

    def test_scripts(self):
        here = self.folder()
        path = self.write(os.path.join(here, "a"), f"#!{support.static_program()} -x\n")
        self.assertIn("statically linked", elf.obstacles(path)[0])
        self.assertEqual(elf.interpreter_of_script(self.write(os.path.join(here, "b"), "#!/usr/bin/env -S sh -e\n")),
                         elf.find_in_path("sh"))
        loop = os.path.join(here, "loop")
        self.write(loop, f"#!{loop}\n")
        self.assertEqual(elf.obstacles(loop), [])


class Running(support.Case):
    def run_one(self, *argv, **more):
        return runner.Runner().run(list(argv), dict(os.environ), **more)

    def test_figures(self):
        result = self.run_one("/usr/bin/python3", "-c", "b = bytearray(200 << 20); print(len(b))")
        self.assertEqual(result.status, 0)
        self.assertEqual(result.stdout_bytes, 10)
        self.assertTrue(200 << 20 < result.peak_rss_bytes < 230 << 20, result.peak_rss_bytes)
        self.assertGreater(result.faults, 600)
        self.assertLessEqual(result.user_s + result.sys_s, result.wall_s * 2)

    def test_peak_rss_is_not_our_own(self):
        self.assertLess(self.run_one("/bin/true").peak_rss_bytes, 4 << 20)

    def test_children_count(self):
        result = self.run_one("/bin/sh", "-c", "/usr/bin/python3 -c 'bytearray(100 << 20)'; true")
        self.assertGreater(result.peak_rss_bytes, 100 << 20)

    def test_status(self):
        self.assertEqual(self.run_one("/bin/sh", "-c", "exit 7").status, 7)
        self.assertEqual(self.run_one("/bin/sh", "-c", "kill -USR1 $$").status, 128 + signal.SIGUSR1)
        self.assertEqual(runner.status_in_words(139), "was ended by SIGSEGV")
        self.assertEqual(runner.status_in_words(255), "exited with status 255")

    def test_signals_are_default_in_the_child(self):
        # Python ignores SIGPIPE; a child must not.
        out = self.run_one("/bin/sh", "-c", "grep SigIgn /proc/self/status | grep -q 'SigIgn:.*0000$'")
        self.assertEqual(out.status, 0)

    def test_without_subreaper(self):
        with mock.patch.object(runner, "SETSID", "/nowhere"):
            result = self.run_one("/bin/sh", "-c", "echo hi; exit 2")
        self.assertEqual((result.status, result.stdout_bytes), (2, 3))

    def test_samples_the_tree(self):
        taken = sampler.Sampler()
        self.run_one("/bin/sh", "-c", "/usr/bin/python3 -c 'import time; b=b\"x\" * (50 << 20); time.sleep(0.4)'; true",
                     tick=taken.sample, tick_s=0.02)
        self.assertGreater(taken.summary()["peak_tree_rss_bytes"], 50 << 20)
        self.assertIsNone(sampler.Sampler().summary())


class Allocators(support.Case):
    def test_missing_ones_name_their_package(self):
        with mock.patch.object(variants, "FOLDERS", ("/nowhere",)):
            for name, package in (("jemalloc", "libjemalloc2"), ("mimalloc", "libmimalloc2.0"),
                                  ("tcmalloc", "libtcmalloc-minimal4")):
                with self.assertRaisesRegex(ToolError, f"{name} is not installed.*apt-get install {package}"):
                    variants.resolve_all(["glibc", name], True)
            chosen, notes = variants.resolve_all(["glibc", "glibc-retain", "jemalloc"], False)
        self.assertEqual([v.name for v in chosen], ["glibc", "glibc-retain"])
        self.assertIn("left out: jemalloc is not installed", notes[0])

    def test_remarks(self):
        notes = variants.remarks({"MALLOC_ARENA_MAX": "1", "LD_PRELOAD": "x.so", "MALLOC_PERTURB_": "3"})
        self.assertEqual(len(notes), 3)
        self.assertEqual(variants.remarks({"HOME": "/"}), [])


class Options(support.Case):
    COMMAND = options.Command("thing", "", "", (
        options.Option("--number", "a number", "-n", "N", options.whole_number(1, 9), 5),
        options.Option("--flag", "a switch")))

    def test_forms(self):
        for given in (["-n3"], ["-n", "3"], ["--number=3"], ["--number", "3"]):
            self.assertEqual(self.COMMAND.parse(given + ["--flag", "--", "-n"]), ({"number": 3, "flag": True}, ["-n"]))
        self.assertEqual(self.COMMAND.parse(["x", "--flag"]), ({"number": 5, "flag": False}, ["x", "--flag"]))

    def test_odd_numbers(self):
        for text in ("", "0", "10", "1e0", "²", "+3", " 3", "9" * 50):
            with self.assertRaises(UsageError):
                self.COMMAND.parse([f"--number={text}"])


class Shown(support.Case):
    def test_numbers(self):
        self.assertEqual([table.seconds(v) for v in (0, 0.0123, 0.1, 1.5, 123.4)],
                         ["0.0 ms", "12.3 ms", "0.100 s", "1.500 s", "123.4 s"])
        self.assertEqual([table.count(v) for v in (0, 9999, 15300, 610000, 2.5e6)],
                         ["0", "9999", "15.3k", "610k", "2.5M"])
        self.assertEqual([table.size(v) for v in (12, 2048, 5 << 20, 300 << 20, 3 << 30)],
                         ["12 B", "2.0 KiB", "5.0 MiB", "300 MiB", "3.0 GiB"])

    def test_time_left(self):
        self.assertEqual([progress.human_time(s) for s in (-1, 5, 65, 7300)], ["0 s", "5 s", "1:05 min", "2:01 h"])

    def test_progress_survives_a_closed_stream(self):
        stream = io.StringIO()
        bar = progress.Progress(stream)
        stream.close()
        bar.last_plain -= 100
        bar.update(0.5, "x")
        bar.clear()

    def test_ticks(self):
        for high in (0.0007, 0.3, 1, 9.9, 12345, 3e9):
            ticks = html.nice_ticks(high)
            self.assertTrue(3 <= len(ticks) <= 12 and ticks[-1] >= high * 0.999, (high, ticks))
        self.assertEqual(html.nice_ticks(0), [0, 1])

    def test_markdown_escapes(self):
        self.assertIn("a\\|b", table.markdown_table([["a|b"]], ("x",)))


class Rounds(support.Case):
    def test_every_variant_once_per_round_in_changing_order(self):
        order = []

        class Fake(runner.Runner):
            def run(self, argv, env, *_args, **_more):
                order.append(env["WHO"])
                return runner.Result(1.0, 0.5, 0.1, 10, 0, 1 << 20, 0, "", 0)

        chosen = [variants.Variant(name, settings={"WHO": name}) for name in "abc"]
        with mock.patch.object(session, "Runner", Fake):
            outcome = session.execute(session.Plan(["x"], chosen, rounds=20, warmups=1), progress.Progress(quiet=True))
        self.assertEqual(outcome.n_rounds, 20)
        rounds = [tuple(order[i:i + 3]) for i in range(3, len(order), 3)]
        self.assertTrue(all(sorted(r) == ["a", "b", "c"] for r in rounds))
        self.assertGreater(len(set(rounds)), 3)
        self.assertEqual(results.build(outcome)["variants"][1]["ratio"]["wall_s"]["value"], 1)

    def test_automatic_rounds(self):
        def plan_with(walls):
            import itertools
            values = itertools.cycle(walls)

            class Fake(runner.Runner):
                def run(self, *_args, **_more):
                    return runner.Result(next(values), 0.5, 0.1, 10, 0, 1 << 20, 0, "", 0)

            chosen = [variants.Variant(name) for name in "ab"]
            with mock.patch.object(session, "Runner", Fake):
                return session.execute(session.Plan(["x"], chosen, warmups=0), progress.Progress(quiet=True)).n_rounds

        self.assertEqual(plan_with([1.0]), session.AUTO_MIN)
        self.assertEqual(plan_with([1.0, 1.3, 0.8, 1.1, 1.4, 0.9, 1.2]), session.AUTO_MAX)


if __name__ == "__main__":
    unittest.main()
