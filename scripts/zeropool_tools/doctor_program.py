# SPDX-License-Identifier: MIT
"""zeropool doctor, second part: will the pool serve this program, and what is special about it?

The program is not run. Its libraries are asked from the loader, as ldd does, which maps but does not start it.
"""
import os
import re
import stat
import subprocess

from . import elf
from .doctor_machine import BAD, NOTE, OK, WARN, Finding
from .session import check_command

LOADER = "/lib64/ld-linux-x86-64.so.2"
C_LIBRARY = re.compile(r"(libc\.so\.6|ld-linux-x86-64\.so\.2|libc_malloc_debug\.so\.0|libzeropool-preload\.so)$")
ALLOCATORS = ("jemalloc", "mimalloc", "tcmalloc", "hoard", "snmalloc", "scudo", "rpmalloc")
# The rule of shim/passive.h: who defines the first has a sanitizer's allocator; who imports one of the others gives it blocks of malloc.
SANITIZER = "__sanitizer_get_allocated_size"
OWN_INTERFACE = re.compile(r"(sallocx|xallocx|rallocx|sdallocx|dallocx|MallocExtension_Get(AllocatedSize|Ownership)"
                           r"|mi_(free|cfree|realloc|recalloc|rezalloc|expand|usable_size|malloc_size|malloc_usable_size"
                           r"|is_in_heap_region|check_owned|heap_re|new_realloc|aligned_).*|tc_(free|cfree|realloc|delete|malloc_size).*)$")
# Programs that load extensions with RTLD_DEEPBIND, which binds those to the C library's malloc past any preload.
DEEPBIND = re.compile(r"^(php[\d.]*|php-fpm[\d.]*|php-cgi[\d.]*|libphp[\d.]*\.so)$")
# Programs whose large memory does not come from malloc.
OWN_HEAPS = ((re.compile(r"^(java|javac)$"), "the Java heap is mapped by the virtual machine itself; only native code of it uses malloc"),
             (re.compile(r"^(mono|dotnet)$"), "the managed heap is mapped by the runtime itself; only native code uses malloc"),
             (re.compile(r"^(beam(\.smp)?|sbcl)$"), "its heap is mapped by the run-time system itself; only native code uses malloc"),
             (re.compile(r"^(node|nodejs|deno)$"), "the JavaScript heap is V8's own; Buffers and ArrayBuffers do use malloc"),
             (re.compile(r"^(chrome|chromium|firefox.*)$"), "brings its own allocator (PartitionAlloc, mozjemalloc)"))


def resolve(word):
    """The file that exec would run."""
    return check_command([word])[0]


def examine(word):
    """(path of the program that counts, findings). A script is followed to its interpreter."""
    path, found = resolve(word), []
    for _ in range(4):
        try:
            program = elf.read(path)
            script = None if program else elf.interpreter_of_script(path)
        except OSError as error:
            return path, found + [Finding(NOTE, "program", f"{path} cannot be read ({error.strerror}); nothing is known of it")]
        if not script:
            break
        found.append(Finding(OK, "script", f"{path} is run by {script}; the pool goes into that"))
        if not os.path.exists(script):
            return path, found + [Finding(BAD, "script", f"{script} does not exist")]
        path = script
    if program is None:
        return path, found + [Finding(NOTE, "program", f"{path} is neither ELF nor a script with #!; the shell will run it")]
    blocked = cannot_preload(path, program)
    found += blocked or served(path, program)
    return path, found + hints(path, program)


def cannot_preload(path, program):
    """Why the loader will not put the library into it; [] where it will."""
    status = os.stat(path)
    found = []
    foreign = status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid()
    if foreign or status.st_mode & stat.S_ISGID and status.st_gid != os.getegid():
        found.append(Finding(BAD, "rights", "setuid or setgid: the loader ignores LD_PRELOAD; as that user it would work"))
    elif elf.has_capabilities(path):
        found.append(Finding(BAD, "rights", "has file capabilities: the loader ignores LD_PRELOAD; as root it would work"))
    if not program.native:
        found.append(Finding(BAD, "architecture", f"built for {program.machine_name}; the pool is for 64-bit x86 only"))
    elif not program.interpreter:
        found.append(Finding(BAD, "linking", "statically linked: LD_PRELOAD has no effect; link it with libzeropool.so or "
                             "build it dynamically"))
    elif "ld-linux" not in program.interpreter:
        found.append(Finding(BAD, "C library", f"uses {program.interpreter}, not glibc: the library does not fit"))
    return found


def libraries(path):
    """(paths of the shared libraries that the loader would map at start, names of those it does not find)."""
    # As ldd does it: with --list the loader ends at the first library that is missing. Started this way, the loader takes
    # $ORIGIN from the path as given, while for a program that is executed it is the folder of the file behind all links.
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"} | {"LD_TRACE_LOADED_OBJECTS": "1"}
    try:
        result = subprocess.run([LOADER, os.path.realpath(path)], capture_output=True, text=True, timeout=20, env=env,
                                stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return [], []
    paths, missing = [], []
    for line in result.stdout.splitlines():
        if "not found" in line:
            missing.append(line.split()[0])
            continue
        place = re.search(r"(/\S+) \(0x", line)
        if place:
            paths.append(place.group(1))
    return paths, missing


def readable(path):
    try:
        return elf.read(path)
    except OSError:
        return None


def own_interface(objects):
    """(path, name) of a function of an allocator's own interface that is called on blocks, and that one of the objects defines."""
    defined = set().union(*(symbols.defined for _, symbols in objects))
    for path, symbols in objects:
        for name in sorted(symbols.imported & defined):
            if OWN_INTERFACE.match(name):
                return path, name
    return None


def served(path, program):
    """The library gets in; who serves malloc then?"""
    found = []
    paths, missing = libraries(path)
    for name in missing:
        found.append(Finding(BAD, "linking", f"{name} is not found: the program does not start at all"))
    objects = [(path, program)] + [(library, symbols) for library in paths if (symbols := readable(library))]
    caller = own_interface(objects)
    if any(SANITIZER in symbols.defined for _, symbols in objects):
        found.append(Finding(BAD, "sanitizer", "built with a sanitizer, which must know every block: the pool stays passive"))
    elif caller:
        found.append(Finding(BAD, "own interface", f"{caller[0]} calls {caller[1]}, which only the allocator that it is linked with may be "
                             "asked: the pool stays passive"))
    elif {"malloc", "free"} <= program.defined:
        found.append(Finding(BAD, "own malloc", "the program defines malloc itself and keeps it: the pool sees none of its "
                             "requests"))
    for library in paths:
        name = os.path.basename(library)
        if C_LIBRARY.search(name):
            continue
        symbols = dict(objects).get(library)
        if symbols is None or not {"malloc", "free"} <= symbols.defined:
            continue
        known = next((a for a in ALLOCATORS if a in name), None)
        what = f"is linked with {known} ({library})" if known else f"{library} defines malloc"
        found.append(Finding(NOTE, "allocator", f"{what}: large requests go to the pool, small ones to it; 'glibc' in "
                             "comparisons means that allocator here"))
    if not any(f.level == BAD for f in found):
        found.insert(0, Finding(OK, "malloc", "dynamic, 64-bit, glibc: large requests will be served from the pool"))
    return found


def hints(path, program):
    found, name = [], os.path.basename(os.path.realpath(path))
    if program.native and program.interpreter and {"prctl", "seccomp_load", "seccomp_init"} & program.imported:
        found.append(Finding(NOTE, "seccomp", "may install a system call filter: the background task starts with the program "
                             "and its forked children have none, they give memory back on their own calls"))
    if DEEPBIND.match(name):
        found.append(Finding(NOTE, "DEEPBIND", "loads extensions with RTLD_DEEPBIND, whose own allocations go to the C library's malloc past "
                             "every preload; they may free the pool's blocks all the same"))
        found.append(zend_heap())
    for pattern, words in OWN_HEAPS:
        if pattern.match(name):
            found.append(Finding(WARN, "own heap", words))
    if is_go(path):
        found.append(Finding(WARN, "own heap", "a Go program: its heap is mapped by the Go runtime; only C code in it uses malloc"))
    if path.startswith(("/snap/", "/var/lib/flatpak/")):
        found.append(Finding(WARN, "container", "runs inside a snap or flatpak, which drops LD_PRELOAD or does not see the library"))
    return found


def zend_heap():
    """PHP maps chunks of 2 MiB and larger blocks by itself, unless a variable says otherwise."""
    value = os.environ.get("USE_ZEND_ALLOC")
    number = re.match(r"\s*([-+]?[0-9]+)?", "1" if value is None else value)[1]  # as atol(3) takes it
    if not int(number or 0):
        return Finding(OK, "own heap", "USE_ZEND_ALLOC=0 is set: memory of PHP scripts comes from malloc")
    return Finding(WARN, "own heap", "PHP maps the memory of its scripts itself; only libraries and extensions use malloc; with "
                   "USE_ZEND_ALLOC=0 in its environment all of it comes from malloc")


def is_go(path):
    try:
        with open(path, "rb") as file:
            return b"Go build ID: " in file.read(1 << 16)
    except OSError:
        return False
