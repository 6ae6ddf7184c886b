# SPDX-License-Identifier: MIT
"""zeropool doctor: every kind of program it must recognise, exit statuses, and that it never runs the program."""
import json
import os
import shutil
import unittest

import support
from support import compile_c, environment, run

from zeropool_tools import calibrate, doctor_machine, doctor_program


class Programs(support.Case):
    def findings(self, path, status):
        result = run("doctor", "--json", path)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return {f["topic"]: f for f in json.loads(result.stdout)["program"]}

    def test_ordinary(self):
        found = self.findings("/bin/ls", 0)
        self.assertEqual(found["malloc"]["level"], "ok")

    def test_static(self):
        found = self.findings(support.static_program(), 1)
        self.assertEqual(found["linking"]["level"], "BAD")
        self.assertIn("statically linked", found["linking"]["text"])

    def test_own_malloc(self):
        path = compile_c("own-malloc", "#include <stddef.h>\nvoid *malloc(size_t n) { return NULL; }\n"
                         "void free(void *p) {}\nint main(void) { return 0; }\n", "-rdynamic", "-fno-builtin")
        found = self.findings(path, 1)
        self.assertIn("defines malloc itself", found["own malloc"]["text"])

    def test_library_with_malloc(self):
        library = compile_c("libjemalloc-like.so", "#include <stddef.h>\nvoid *malloc(size_t n) { return NULL; }\n"
                            "void free(void *p) {}\nint known;\n", "-shared", "-fPIC", "-fno-builtin")
        path = compile_c("links-jemalloc", "extern int known;\nint main(void) { return known; }\n", f"-Wl,{library}")
        found = self.findings(path, 0)
        self.assertEqual(found["allocator"]["level"], "note")
        self.assertIn("linked with jemalloc", found["allocator"]["text"])

    def test_missing_library(self):
        source = compile_c("libgone.so", "int gone;\n", "-shared", "-fPIC", "-Wl,-soname,libgone-really.so")
        path = compile_c("links-gone", "extern int gone;\nint main(void) { return gone; }\n", f"-Wl,{source}")
        self.assertIn("libgone-really.so is not found", self.findings(path, 1)["linking"]["text"])

    def test_origin_behind_a_link(self):
        # As Debian's java: its libraries lie beside it, and it is called through a link that lies elsewhere.
        here = self.folder()
        for name in ("bin", "lib", "else", "else/where"):
            os.mkdir(os.path.join(here, name))
        library = compile_c("liborigin.so", "int known;\n", "-shared", "-fPIC", "-Wl,-soname,liborigin-really.so")
        program = compile_c("uses-origin", "extern int known;\nint main(void) { return known; }\n", f"-Wl,{library}",
                            "-Wl,-rpath,$ORIGIN/../lib")
        shutil.copy(library, os.path.join(here, "lib", "liborigin-really.so"))
        shutil.copy(program, os.path.join(here, "bin", "program"))
        os.symlink("../../bin/program", os.path.join(here, "else/where", "link"))
        os.symlink("link", os.path.join(here, "else/where", "again"))
        for name in ("bin/program", "else/where/link", "else/where/again"):
            self.assertEqual(self.findings(os.path.join(here, name), 0)["malloc"]["level"], "ok", name)

    def test_sanitizer(self):
        path = compile_c("asan-like", "void __sanitizer_get_allocated_size(void) {}\nint main(void) { return 0; }\n", "-rdynamic")
        self.assertIn("stays passive", self.findings(path, 1)["sanitizer"]["text"])

    def test_own_interface(self):
        library = compile_c("libown-interface.so", "#include <stddef.h>\nvoid *malloc(size_t n) { return NULL; }\n"
                            "void free(void *p) {}\nvoid dallocx(void *p, int f) {}\n", "-shared", "-fPIC", "-fno-builtin")
        path = compile_c("calls-dallocx", "void dallocx(void *, int);\nint main(void) { dallocx(0, 0); return 0; }\n", f"-Wl,{library}")
        found = self.findings(path, 1)
        self.assertIn("calls dallocx", found["own interface"]["text"])
        self.assertNotIn("malloc", found)

    def test_probe_for_an_interface_that_is_not_there(self):
        path = compile_c("probes", "__attribute__((weak)) void dallocx(void *, int);\nint main(void) { return dallocx != 0; }\n")
        self.assertEqual(self.findings(path, 0)["malloc"]["level"], "ok")

    def test_other_architectures(self):
        with open("/bin/true", "rb") as file:
            data = bytearray(file.read())
        folder = self.folder()
        for name, at, value, text in (("arm", 18, 183, "64-bit ARM"), ("i386", 4, 1, "x32")):
            changed = bytearray(data)
            changed[at] = value
            path = os.path.join(folder, name)
            with open(path, "wb") as file:
                file.write(changed)
            os.chmod(path, 0o755)
            self.assertIn(text, self.findings(path, 1)["architecture"]["text"])

    def test_musl(self):
        with open("/bin/true", "rb") as file:
            data = file.read().replace(b"/lib64/ld-linux-x86-64.so.2\0", b"/lib/ld-musl-x86_64.so.1\0\0\0\0")
        path = os.path.join(self.folder(), "musl")
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, 0o755)
        self.assertIn("ld-musl", self.findings(path, 1)["C library"]["text"])

    @unittest.skipUnless(os.geteuid() == 0, "only root can give a file away")
    def test_setuid(self):
        path = os.path.join(self.folder(), "setuid")
        shutil.copy("/bin/true", path)
        os.chown(path, 65534, 65534)
        os.chmod(path, 0o4755)
        self.assertIn("setuid", self.findings(path, 1)["rights"]["text"])

    def test_script_is_followed_and_not_run(self):
        folder = self.folder()
        path = self.write(os.path.join(folder, "script"), f"#!/bin/sh\ntouch {folder}/was-run\n")
        found = self.findings(path, 0)
        self.assertIn("/bin/sh", found["script"]["text"])
        self.assertFalse(os.path.exists(f"{folder}/was-run"))
        path = self.write(os.path.join(folder, "broken"), "#!/nowhere/interpreter\n")
        self.assertIn("does not exist", run("doctor", path).stdout)

    def test_names_that_tell(self):
        folder = self.folder()
        for name, topic in (("php8.2", "DEEPBIND"), ("java", "own heap"), ("node", "own heap")):
            path = shutil.copy("/bin/true", os.path.join(folder, name))
            self.assertIn(topic, self.findings(path, 0))

    def test_php_maps_its_own_memory(self):
        path = shutil.copy("/bin/true", os.path.join(self.folder(), "php8.2"))
        for value, level in ((None, "warn"), ("1", "warn"), ("0", "ok"), ("10", "warn"), ("", "ok"), ("no", "ok")):
            result = run("doctor", "--json", path, env=environment(USE_ZEND_ALLOC=value))
            found = {f["topic"]: f for f in json.loads(result.stdout)["program"]}
            self.assertEqual(found["own heap"]["level"], level, value)
            self.assertIn("USE_ZEND_ALLOC=0", found["own heap"]["text"])

    def test_seccomp(self):
        path = compile_c("may-filter", "#include <sys/prctl.h>\nint main(void) { return prctl(0); }\n")
        self.assertIn("seccomp", self.findings(path, 0))

    def test_text_that_is_no_program(self):
        path = self.write(os.path.join(self.folder(), "text"), "echo hello\n")
        self.assertEqual(self.findings(path, 0)["program"]["level"], "note")

    def test_truncated_file(self):
        with open("/bin/true", "rb") as file:
            data = file.read(200)
        path = os.path.join(self.folder(), "short")
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, 0o755)
        self.assertIn(run("doctor", path).returncode, (0, 1))


class Machine(support.Case):
    def test_text(self):
        result = run("doctor")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for text in ("page faults", "overcommit", "huge pages", "This machine is fine"):
            self.assertIn(text, result.stdout)

    def test_without_library(self):
        result = run("doctor", env=environment(ZEROPOOL_LIB="/nowhere/lib.so"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("no such file", result.stdout)

    def test_limits_are_seen(self):
        result = support.subprocess.run(["/bin/sh", "-c", f"ulimit -v 900000; exec {support.ZEROPOOL} doctor"],
                                        env=environment(), capture_output=True, text=True, timeout=60, check=False)
        self.assertIn("ulimit -v is", result.stdout)

    def test_preload_is_seen(self):
        result = run("doctor", env=environment(LD_PRELOAD=support.library(), ZEROPOOL_THRESHOLD="64K"))
        self.assertIn("already holds", result.stdout)
        self.assertIn("ZEROPOOL_THRESHOLD", result.stdout)

    def test_without_proc(self):
        result = support.without_proc(support.ZEROPOOL, "doctor", "true")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"(?m)^  warn +/proc +is not mounted")
        self.assertNotRegex(result.stdout, "0 B|perf +works|unknown: no")

    def test_every_check_answers_on_a_machine_without_proc(self):
        read, lines = doctor_machine.read, doctor_machine.lines
        doctor_machine.read, doctor_machine.lines = (lambda path: ""), (lambda path: [])
        try:
            for check in (doctor_machine.huge_pages, doctor_machine.overcommit, doctor_machine.maps,
                          doctor_machine.cgroup, doctor_machine.limits):
                self.assertIsInstance(check(), list)
        finally:
            doctor_machine.read, doctor_machine.lines = read, lines

    def test_page_fault_cost_is_plausible(self):
        self.assertTrue(20 < calibrate.page_fault_ns() < 100000)


class Failures(support.Case):
    def test_failures(self):
        self.assert_fails(run("doctor", "--nonsense"), 2, "unknown option '--nonsense'")
        self.assert_fails(run("doctor", "no-such-program"), 127, "not found")
        self.assert_fails(run("doctor", self.folder()), 126, "is a directory")
        self.assert_fails(run("doctor", ""), 127, "empty word")

    def test_go_mark(self):
        path = os.path.join(self.folder(), "go")
        with open(path, "wb") as file:
            file.write(b"\x7fELF" + b"\0" * 100 + b"Go build ID: \"x\"")
        self.assertTrue(doctor_program.is_go(path))
        self.assertFalse(doctor_program.is_go("/nowhere"))
        self.assertFalse(doctor_program.is_go("/bin/true"))


if __name__ == "__main__":
    unittest.main()
