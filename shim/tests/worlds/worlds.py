#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs in mixed worlds, each without the library and with it: output and exit status must be the same.

usage: worlds.py LIBRARY FOLDER CASE...     FOLDER holds the programs built beside this file

What is not installed or not permitted is skipped with a message (exit status 77 if nothing else was asked).
"""
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile

SKIP = 77
LIBRARY = FOLDER = ""
THRESHOLDS = ({}, {"ZEROPOOL_THRESHOLD": "1"})


class Skipped(Exception):
    pass


class Differs(Exception):
    pass


def need(program):
    path = shutil.which(program)
    if not path:
        raise Skipped(f"{program} is not installed")
    return path


def built(name):
    return os.path.join(FOLDER, name)


def run(command, settings, timeout):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ZEROPOOL_") and k != "LD_PRELOAD"}
    environment.update({"MALLOC_PERTURB_": "0", "LC_ALL": "C"}, **settings)
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          start_new_session=True) as process:
        try:
            output, messages = process.communicate(timeout=timeout)
            return process.returncode, output.decode(errors="replace"), messages.decode(errors="replace")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, messages = process.communicate()
            return "hang", output.decode(errors="replace"), messages.decode(errors="replace")


def same(command, before="", behind="", timeout=120, thresholds=THRESHOLDS, settings=None):
    """Runs the command without the library and with it, among the allocators named before and behind it."""
    settings = settings or {}
    others = ":".join(filter(None, (before, behind)))
    plain = run(command, {**settings, **({"LD_PRELOAD": others} if others else {})}, timeout)
    if plain[0] != 0:
        # Our own programs must work; of others we know less.
        kind = Differs if command[0].startswith(FOLDER) and not others else Skipped
        raise kind(f"{os.path.basename(command[0])} does not work without the library here: {plain[0]} {plain[2][-300:]}")
    preload = ":".join(filter(None, (before, LIBRARY, behind)))
    for threshold in thresholds:
        ours = run(command, {**settings, "LD_PRELOAD": preload, **threshold}, timeout)
        if ours[:2] != plain[:2]:
            raise Differs(f"{' '.join(command)[:200]} {threshold}: {plain[0]} {plain[1][-200:]!r} became {ours[0]} "
                          f"{ours[1][-200:]!r}; {ours[2][-500:]}")


def world(*arguments, **options):
    same([built("world"), *arguments], **options)


def plugin(case):
    return lambda: world(case, built("world_plugin.so"))


def libraries():
    with tempfile.TemporaryDirectory() as folder:
        for i in range(200):
            shutil.copy(built("world_plugin.so"), f"{folder}/plugin{i}.so")
        # A page a block is too much for the loader's small ones of 200 libraries only in time, not in kind.
        world("libraries", folder)


PHP = """
$a = range(1, 300000); shuffle($a); sort($a);
echo md5(json_encode($a)), " ", md5(serialize($a)), "\\n";
echo strlen(str_repeat("x", 50000000)), "\\n";
foreach (["ctype", "iconv", "tokenizer", "fileinfo", "posix", "readline", "sockets", "pdo", "ffi", "phar", "gettext"] as $e) echo $e, extension_loaded($e) ? 1 : 0;
if (function_exists("iconv")) echo strlen(iconv("UTF-8", "UTF-16", str_repeat("abc", 2000000))), "\\n";
if (function_exists("token_get_all")) echo count(token_get_all("<?php " . str_repeat("\\$a = 1 + 2; ", 50000))), "\\n";
if (class_exists("finfo")) { $f = new finfo(FILEINFO_MIME); echo $f->buffer(str_repeat("text ", 100000)), "\\n"; }
if (class_exists("Collator")) echo "intl\\n";
if (extension_loaded("ffi")) { $c = FFI::cdef("void *malloc(size_t); void free(void *);", "libc.so.6");
  for ($i = 0; $i < 50; $i++) { $p = $c->malloc(1000000 * ($i + 1)); $c->free($p); } echo "ffi\\n"; }
echo gzcompress_ok(), "\\n";
function gzcompress_ok() { return function_exists("gzcompress") ? strlen(gzuncompress(gzcompress(str_repeat("y", 9000000)))) : 0; }
"""


def php():
    same([need("php"), "-d", "ffi.enable=1", "-d", "memory_limit=-1", "-r", PHP])


def ctypes():
    same([sys.executable, "-c", """
import ctypes
every, libc = ctypes.CDLL(None), ctypes.CDLL("libc.so.6")
for library in (every, libc):
    library.malloc.restype = library.realloc.restype = ctypes.c_void_p
    library.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
for n in (100, 40000, 1 << 20, 40 << 20):
    libc.free(every.malloc(n))
    every.free(libc.malloc(n))
    libc.free(libc.realloc(every.malloc(n), 2 * n))
    every.free(every.realloc(libc.malloc(n), 2 * n))
print("done")
"""])


def allocator(name):
    found = sorted(glob.glob(f"/usr/lib/x86_64-linux-gnu/lib{name}*.so*"), key=len)
    found = [f for f in found if "debug" not in f]
    if not found:
        raise Skipped(f"{name} is not installed")
    return found[0]


def allocators(name):
    """Small blocks of the neighbour, large ones of the pool; before us it takes everything."""
    def case():
        other = allocator(name)
        script = [sys.executable, "-c", "a=[bytes(i*4997) for i in range(200)]; b=b''.join(a); print(len(b), hash(b[:9])*0)"]
        for place in ({"before": other}, {"behind": other}):
            world("work", **place)
            world("plain", built("world_plugin.so"), **place)
            same(script, **place)
            same(["/bin/sort", "--parallel=4", "-S", "8M", __file__], **place)
    return case


def own_malloc():
    same([built("world_own_malloc")])


def audit():
    library = built("world_audit.so")
    world("work", settings={"LD_AUDIT": library})
    world("deepbind", built("world_plugin.so"), settings={"LD_AUDIT": library})
    same([sys.executable, "-c", "import json; print(len(json.dumps(list(range(200000)))))"], settings={"LD_AUDIT": library})


def child_static():
    world("child", built("world_static"))


def child_setuid():
    if os.geteuid() != 0:
        raise Skipped("only root can make a program setuid")
    setpriv = need("setpriv")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy, host = f"{folder}/setuid", f"{folder}/world"
        shutil.copy(built("world_small"), copy)
        shutil.copy(built("world"), host)
        os.chmod(copy, 0o4755)
        same([setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", host, "child", copy])


SOURCE_32 = """
int puts(const char *); void *malloc(unsigned); void free(void *); void exit(int);
void _start(void) { char *p = malloc(5000000); p[4999999] = 1; free(p); puts("32 bits"); exit(0); }
"""


def child_32():
    """A dynamic program of the other architecture: its loader reports the library and goes on without."""
    compiler = need("gcc")
    libc = next((p for p in ("/lib32/libc.so.6", "/usr/lib/i386-linux-gnu/libc.so.6") if os.path.exists(p)), None)
    if not libc or not os.path.exists("/lib/ld-linux.so.2"):
        raise Skipped("no 32-bit C library is installed")
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/a.c", "w", encoding="utf-8") as file:
            file.write(SOURCE_32)
        made = subprocess.run([compiler, "-m32", "-fno-pic", "-no-pie", "-fno-builtin", "-mstackrealign", "-nostdlib", "-o", f"{folder}/a",
                               f"{folder}/a.c", libc, "-Wl,-dynamic-linker,/lib/ld-linux.so.2"], capture_output=True, check=False)
        if made.returncode:
            raise Skipped("gcc makes no 32-bit programs here")
        world("child", f"{folder}/a")


def valgrind():
    tool = need("valgrind")
    same([tool, "-q", "--error-exitcode=9", built("world"), "work"], timeout=200)
    same([tool, "-q", "--tool=none", built("world"), "work"], timeout=200)


def gdb():
    tool = need("gdb")
    lines = ["set debuginfod enabled off", "set confirm off", "set startup-with-shell off", "break puts", "run", "delete",
             "print (int)getpid() > 0", "continue"]
    command = [tool, "-q", "-nx", "-batch"]
    for variable in ("LD_PRELOAD", "ZEROPOOL_THRESHOLD"):
        command += ["-ex", f"set environment {variable} __{variable}__"]
    # The debugger itself stays without; only the program gets the library.
    for line in lines:
        command += ["-ex", line]
    command += ["--args", built("world"), "work"]

    def with_values(preload, threshold):
        values = {"__LD_PRELOAD__": preload, "__ZEROPOOL_THRESHOLD__": threshold}
        filled = []
        for word in command:
            for mark, value in values.items():
                word = word.replace(mark, value)
            filled.append(word)
        status, output, messages = run(filled, {}, 120)
        kept = [x for x in output.splitlines() if x.startswith(("worked", "$1", "[Inferior"))]
        return status, [x.split("(process")[0] + x.split(")")[-1] if x.startswith("[Inferior") else x for x in kept], messages

    plain = with_values("", "32K")
    if plain[0] != 0 or "worked" not in plain[1]:
        raise Skipped(f"gdb does not work here: {plain[2][-200:]}")
    for threshold in ("32K", "1"):
        ours = with_values(LIBRARY, threshold)
        if ours[:2] != plain[:2]:
            raise Differs(f"under gdb: {plain[:2]} became {ours}")


CASES = {
    "deepbind": plugin("deepbind"), "deepbind-lazy": plugin("deepbind-lazy"), "plain": plugin("plain"),
    "by-handle": lambda: world("by-handle"), "namespace": plugin("namespace"), "libraries": libraries,
    "php": php, "ctypes": ctypes, "own-malloc": own_malloc, "jemalloc": allocators("jemalloc"),
    "mimalloc": allocators("mimalloc"), "tcmalloc": allocators("tcmalloc_minimal"), "audit": audit,
    "no-stderr": lambda: world("no-stderr"), "no-environment": lambda: world("no-environment"),
    "child-static": child_static, "child-setuid": child_setuid, "child-32": child_32, "valgrind": valgrind, "gdb": gdb,
}


def main(names):
    n_bad = n_done = 0
    for name in names or CASES:
        try:
            CASES[name]()
            n_done += 1
            print(f"ok   {name}")
        except Skipped as why:
            print(f"skip {name}: {why}")
        except Differs as why:
            n_bad += 1
            print(f"FAIL {name}: {why}")
    return 1 if n_bad else 0 if n_done else SKIP


if __name__ == "__main__":
    LIBRARY, FOLDER = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    sys.exit(main(sys.argv[3:]))
