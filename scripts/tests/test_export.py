# SPDX-License-Identifier: MIT
"""zeropool report --collapsed, --speedscope, --pprof, --firefox: the files themselves, and opened in the real viewers."""
import contextlib
import gzip
import io
import json
import os
import re
import subprocess
import unittest

import support
import viewers
from support import run

from zeropool_tools import export, export_firefox, export_pprof, folded, record_store, report

STACKS = {
    "glibc": {("prog", "main", "work"): 900_000, ("prog", "main", "work", "asm_exc_page_fault_[k]", "clear_page_[k]"): 300_000,
              ("prog", "main", "free", "munmap_[k]"): 100_000, ("prog", "main", "work", "main", "work"): 7},
    "zeropool": {("prog", "main", "work"): 500_000, ("prog", "main", "zp_get"): 50_000, ("prog", "main", "Ä<T>::f(int, \"x\")"): 3},
}
UNITS = {"us": "cpu", "faults": "faults", "bytes": "alloc"}


class Recordings(support.Case):
    def recording(self, unit="us", names=("glibc",), **more):
        folder, items = self.folder(), []
        for name in names:
            place = name if len(names) > 1 else ""
            os.makedirs(os.path.join(folder, place), exist_ok=True)
            self.write(os.path.join(folder, place, "stacks.folded"), folded.to_text(STACKS[name]))
            items.append({"name": name, "folder": place, "unit": unit, "total": sum(STACKS[name].values()), "samples": 2000, "wall_s": 2.5,
                          "kinds": {}})
        self.write(os.path.join(folder, "record.json"), json.dumps({
            "schema": record_store.SCHEMA, "command": ["/bin/prog", "an arg"], "event": UNITS[unit], "notes": [], "variants": items,
            "time": "2024-01-01T00:00:00Z", "frequency": 500, **more}))
        return folder

    def export(self, name, *more, **recording):
        """The path of the file that is written."""
        folder = self.recording(**recording)
        target = os.path.join(folder, f"out.{name}")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as messages:
            self.assertEqual(report.main([f"--{name}", target, *more, folder]), 0)
        self.assertIn(f"zeropool: stored {target}\n", messages.getvalue())
        self.assertRegex(messages.getvalue(), rf"zeropool: next: .*{re.escape(target)}")
        return target


def fields(data):
    """[(field, value)] of a protobuf message: a number, or the bytes of what has a length."""
    found, at = [], 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        value = varint()
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        elif key & 7:
            raise AssertionError(f"kind {key & 7} is not used")
        found.append((key >> 3, value))
    return found


def numbers(data):
    """Packed varints."""
    found, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value = shift = 0
    return found


def read_pprof(data):
    """({stack: weight}, (kind, unit), {field: value} of the plain numbers), every reference followed."""
    message = fields(data)
    strings = [value.decode() for field, value in message if field == 6]
    functions = {dict(fields(value))[1]: strings[dict(fields(value))[2]] for field, value in message if field == 5}
    places = {}
    for field, value in message:
        if field == 4:
            location = dict(fields(value))
            places[location[1]] = functions[dict(fields(location[4]))[1]]
    stacks = {}
    for field, value in message:
        if field == 2:
            sample = dict(fields(value))
            stack = tuple(places[i] for i in reversed(numbers(sample[1])))
            weight, = numbers(sample[2])
            stacks[stack] = stacks.get(stack, 0) + weight
    types = dict(fields(next(value for field, value in message if field == 1)))
    return stacks, tuple(strings[types[i]] for i in (1, 2)), {f: v for f, v in message if isinstance(v, int)}, strings


class Files(Recordings):
    def test_collapsed(self):
        with open(self.export("collapsed"), encoding="utf-8") as file:
            self.assertEqual(folded.from_text(file.read()), STACKS["glibc"])

    def test_varints(self):
        self.assertEqual([export_pprof.varint(n) for n in (0, 1, 127, 128, 300)], [b"\0", b"\1", b"\x7f", b"\x80\1", b"\xac\2"])
        self.assertEqual(numbers(export_pprof.varint(2 ** 63 - 1) + export_pprof.varint(5)), [2 ** 63 - 1, 5])

    def test_pprof(self):
        for unit, wanted in (("us", ("cpu", "microseconds")), ("faults", ("page_faults", "count")), ("bytes", ("alloc_space", "bytes"))):
            path = self.export("pprof", unit=unit)
            with open(path, "rb") as file:
                raw = file.read()
            stacks, types, plain, strings = read_pprof(gzip.decompress(raw))
            self.assertEqual((stacks, types), (STACKS["glibc"], wanted))
            self.assertEqual((plain[9], plain[10]), (1_704_067_200 * 10 ** 9, 2_500_000_000))
            self.assertEqual(plain.get(12), 2_000_000 if unit == "us" else None, "the period of sampling is a time for cpu only")
            self.assertEqual(strings[0], "")
            self.assertEqual(len(strings), len(set(strings)))
        self.assertEqual(raw[4:8], b"\0\0\0\0", "the same stacks give the same bytes")

    def test_speedscope(self):
        for unit, wanted in (("us", "microseconds"), ("faults", "none"), ("bytes", "bytes")):
            with open(self.export("speedscope", unit=unit, names=("glibc", "zeropool")), encoding="utf-8") as file:
                document = json.load(file)
            self.assertEqual(document["$schema"], export.SPEEDSCOPE_SCHEMA)
            self.assertEqual(document["name"], "/bin/prog an arg")
            frames = [frame["name"] for frame in document["shared"]["frames"]]
            self.assertEqual([p["name"] for p in document["profiles"]], ["glibc", "zeropool"])
            for profile in document["profiles"]:
                self.assertEqual((profile["type"], profile["unit"], profile["startValue"]), ("sampled", wanted, 0))
                self.assertEqual(profile["endValue"], sum(profile["weights"]))
                stacks = {tuple(frames[i] for i in stack): weight for stack, weight in zip(profile["samples"], profile["weights"])}
                self.assertEqual(stacks, STACKS[profile["name"]])

    def test_firefox(self):
        for unit, kind, axis, scale in (("us", "tracing-ms", "ms", 1000), ("faults", "samples", "ms", 1), ("bytes", "bytes", "bytes", 1)):
            with open(self.export("firefox", unit=unit, names=("glibc", "zeropool")), encoding="utf-8") as file:
                document = json.load(file)
            meta, shared = document["meta"], document["shared"]
            self.assertEqual((meta["preprocessedProfileVersion"], meta["sampleUnits"]["time"]), (60, axis))
            self.assertEqual((meta["startTime"], meta["interval"]), (1_704_067_200_000, 2 if unit == "us" else 1))
            self.check_tables(shared, meta)
            for thread in document["threads"]:
                samples = thread["samples"]
                self.assertEqual(samples["weightType"], kind)
                self.assertEqual(samples["time"], sorted(samples["time"]))
                stacks = {self.stack(shared, at): round(weight * scale) for at, weight in zip(samples["stack"], samples["weight"])}
                self.assertEqual(stacks, STACKS[thread["processName"]])
                self.assertAlmostEqual(samples["time"][-1] + samples["weight"][-1], sum(stacks.values()) / scale)
            self.assertEqual(len({thread["pid"] for thread in document["threads"]}), 2)

    def check_tables(self, shared, meta):
        """Every column has its table's length, and every index is one of the table it points to."""
        for name, rows in shared.items():
            if name != "stringArray":
                self.assertEqual({len(column) for column in rows.values() if isinstance(column, list)}, {rows["length"]}, name)
        for table, column, other in (("stackTable", "frame", "frameTable"), ("frameTable", "func", "funcTable")):
            self.assertLess(max(shared[table][column]), shared[other]["length"])
        self.assertLess(max(shared["funcTable"]["name"]), len(shared["stringArray"]))
        self.assertLess(max(shared["frameTable"]["category"]), len(meta["categories"]))
        self.assertIn("grey", [category["color"] for category in meta["categories"]])
        self.assertTrue(all(prefix is None or prefix < i for i, prefix in enumerate(shared["stackTable"]["prefix"])))

    @staticmethod
    def stack(shared, at):
        names = []
        while at is not None:
            function = shared["frameTable"]["func"][shared["stackTable"]["frame"][at]]
            names.append(shared["stringArray"][shared["funcTable"]["name"][function]])
            at = shared["stackTable"]["prefix"][at]
        return tuple(reversed(names))

    def test_kinds_are_those_of_record(self):
        for stack in (("p", "main"), ("p", "main", "zp_get"), ("p", "f", "asm_exc_page_fault_[k]", "clear_page_[k]"), ("p", "sys_read_[k]", "x_[k]"),
                      ("p", "free", "__x64_sys_munmap_[k]", "tlb_[k]"), ("p", "munmap_[k]", "exc_page_fault_[k]"), ("p", "[libzeropool-preload.so]")):
            kind = None
            for name in stack:
                kind = export_firefox.kind_within(kind, name)
            inner = list(reversed(stack))
            modules = ["[kernel.kallsyms]" if name.endswith(folded.KERNEL) else "/bin/p" for name in inner]
            self.assertEqual(kind, folded.kind_of([name.removesuffix(folded.KERNEL) for name in inner], modules), stack)

    def test_one_allocator_of_several(self):
        names = ("glibc", "zeropool")
        for name in ("pprof", "collapsed"):
            folder = self.recording(names=names)
            self.assert_fails(run("report", f"--{name}", os.path.join(folder, "x"), folder), 125, "holds one allocator",
                              "has glibc, zeropool", "--only zeropool")
        with open(self.export("pprof", "--only", "zeropool", names=names), "rb") as file:
            self.assertEqual(read_pprof(gzip.decompress(file.read()))[0], STACKS["zeropool"])
        with open(self.export("speedscope", "--only", "zeropool", names=names), encoding="utf-8") as file:
            self.assertEqual([p["name"] for p in json.load(file)["profiles"]], ["zeropool"])

    def test_folded_stacks(self):
        path = self.write(os.path.join(self.folder(), "some.folded"), folded.to_text(STACKS["zeropool"]))
        for words, unit in (((), "samples"), (("--unit", "bytes"), "bytes")):
            result = run("report", "--pprof", path + ".pb.gz", "--speedscope", path + ".json", *words, path)
            self.assertEqual(result.returncode, 0, result.stderr)
            with open(path + ".pb.gz", "rb") as file:
                stacks, types, plain, _ = read_pprof(gzip.decompress(file.read()))
            self.assertEqual((stacks, types), (STACKS["zeropool"], export_pprof.VALUES[unit]))
            self.assertNotIn(9, plain, "when it was recorded is not known")

    def test_refusals(self):
        folder = self.recording()
        out = os.path.join(folder, "out")
        for words, status, text in ((("--pprof", out, "--only", "mimalloc"), 125, "no stacks of mimalloc; there are: glibc"),
                                    (("--only", "glibc"), 2, "--only goes with"), (("--pprof", "/nowhere/x"), 125, "no folder /nowhere"),
                                    (("--pprof", ""), 2, "a file name")):
            self.assert_fails(run("report", *words, folder), status, text)
        self.assertFalse(os.path.exists(out))
        stacks = os.path.join(folder, "stacks.folded")
        self.assert_fails(run("report", "--pprof", out, "--only", "glibc", stacks), 2, "--only does not fit folded stacks")
        self.write(stacks, f"a;b {2 ** 63}\n")
        self.assert_fails(run("report", "--pprof", out, folder), 125, "does not fit into a pprof profile")
        self.write(stacks, "")
        self.assert_fails(run("report", "--firefox", out, folder), 125, "no stacks that could be exported")
        os.unlink(stacks)
        self.assert_fails(run("report", "--speedscope", out, folder), 125, "no stacks that could be exported")
        statistics = self.write(os.path.join(folder, "s.json"), json.dumps({"pid": 1, "gets": 3}))
        self.assert_fails(run("report", "--speedscope", out, statistics), 2, "--speedscope does not fit statistics")

    def test_damaged_fields(self):
        for field, value in (("time", 3), ("time", "yesterday"), ("frequency", "x"), ("frequency", -1), ("command", ["\udcff"])):
            for name in ("pprof", "firefox"):
                with self.subTest(field=field, value=value, name=name):
                    self.export(name, **{field: value})


class InViewers(Recordings):
    def test_pprof(self):
        program = viewers.pprof()
        if not program:
            self.skipTest("pprof is not installed; Debian has it in golang-go")
        for unit, total in (("us", "1300.01ms (52.00%)"), ("bytes", "1269.54kB"), ("faults", "1300007")):
            path = self.export("pprof", unit=unit)
            result = subprocess.run([*program, "-top", path], capture_output=True, text=True, timeout=120, check=False,
                                    env=support.environment(PPROF_TMPDIR=self.folder()))
            self.assertEqual(result.returncode, 0, result.stderr)
            for text in ("File: prog", f"Type: {export_pprof.VALUES[unit][0]}", f"Total samples = {total}"):
                self.assertIn(text, result.stdout)
            rows = {words[-1]: words for words in map(str.split, result.stdout.splitlines()) if len(words) == 6}
            self.assertEqual([rows["work"][1], rows["work"][4]], ["69.23%", "92.31%"])
            if unit == "us":
                self.assertEqual((rows["clear_page_[k]"][0], rows["main"][3]), ("300ms", "1300.01ms"))

    @unittest.skipIf(viewers.Speedscope.missing(), viewers.Speedscope.missing())
    def test_speedscope(self):
        with viewers.Speedscope() as viewer:
            times, plain_numbers = ("1.20s (92%)", "900.01ms (69%)"), ("1,200,007 (92%)", "900,007 (69%)")
            for name, unit, wanted in (("speedscope", "us", times), ("speedscope", "bytes", ("1.14 MB (92%)", "878.91 KB (69%)")),
                                       ("speedscope", "faults", plain_numbers), ("pprof", "us", times), ("collapsed", "us", plain_numbers)):
                with self.subTest(name=name, unit=unit):
                    table = viewer.open(self.export(name, unit=unit), self.folder())
                    self.assertEqual(set(table), {name for stack in STACKS["glibc"] for name in stack})
                    self.assertEqual(table["work"], wanted)
            table = viewer.open(self.export("speedscope", names=("glibc", "zeropool")), self.folder())
            self.assertIn("1/2", viewer.shown())

    @unittest.skipIf(viewers.FirefoxProfiler.missing(), viewers.FirefoxProfiler.missing())
    def test_firefox_profiler(self):
        for unit, kind, scale in (("us", "tracing-ms", 1000), ("bytes", "bytes", 1), ("faults", "samples", 1)):
            with viewers.FirefoxProfiler(self.export("firefox", unit=unit, names=("glibc", "zeropool")), self.folder()) as viewer:
                for number, stacks in enumerate(STACKS.values()):
                    shown = viewer.ask("thread", "functions", "--thread", f"t-{number}")
                    self.assertEqual(shown["weightType"], kind)
                    wanted = folded.by_function({("", *stack): weight for stack, weight in stacks.items()})
                    self.assertEqual({f["name"]: (round(f["selfSamples"] * scale), round(f["totalSamples"] * scale))
                                      for f in shown["functions"]}, wanted)
                kinds = viewer.ask("thread", "samples", "--thread", "t-0")["categoryBreakdown"]["categories"]
                self.assertEqual({k["name"]: round(k["samples"] * scale) for k in kinds},
                                 {"program": 900_007, "page faults": 300_000, "unmap": 100_000})


if __name__ == "__main__":
    unittest.main()
