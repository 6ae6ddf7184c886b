#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Includes and uses go down only, floor by floor as in core/README.md; the files of a library in shim/ make no circle;
only core/os talks to the kernel.

usage: check_layers.py REPOSITORY      exit status 0 good, 1 bad
"""
import os
import re
import sys

# Lowest first. A file, .c or .h, includes its own floor and lower ones; core/README.md lists them in this order.
FLOORS = ["base", "os", "sync", "extent", "heap", "cache", "learn", "pool", "observe", "process", "api"]
# Folder -> what it may include besides its own.
MAY = {f"core/{floor}": {f"core/{lower}" for lower in FLOORS[:i]} for i, floor in enumerate(FLOORS)}
MAY["core/api"].add("core/include")
MAY["core/hardened"] = {"core/base", "core/os", "core/sync"}
MAY["shim"] = {f"core/{floor}" for floor in FLOORS if floor != "api"} | {"core/hardened", "core/include"}
# Exceptions, each with its reason.
ALLOWED = {
    ("core/observe/stats.c", "core/include/zeropool.h"): "fills the public statistics structure",
}
# Calls that enter the kernel; everywhere but in core/os they go through os.h.
KERNEL_CALLS = re.compile(
    r"\b(mmap|munmap|mremap|madvise|mprotect|mlock|munlock|mincore|membarrier|syscall|clone|sched_yield|clock_gettime|"
    r"sysinfo|sched_getaffinity|prctl|fork|pthread_create)\s*\(")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
# At the beginning of a line, as clang-format leaves them.
OTHERS = r"^(?!EXPORT\b|REPLACEABLE\b|typedef\b|extern\b|#|[^\n;={]*\bstatic\b)"
FUNCTION = re.compile(OTHERS + r"[A-Za-z_][\w\s*()]*?[\s*)](\w+)\([^;{]*\)\s*\{", re.M)
VARIABLE = re.compile(OTHERS + r"(?:OS_SEALED |__thread |__attribute__\(\(.*?\)\)+ )?(?:const )?(?:struct \w+|_Atomic \w+|bool|size_t|unsigned|uint32_t \*?|int) "
                      r"(\w[\w, ]*?)(?:\s*=|;|\[| __attribute__)", re.M)
USE = re.compile(r"(?<!struct )(?<![.>])\b[a-zA-Z]\w+\b")  # no tag, no field
HARDENED = ("shim/hardened.c", "shim/hardened_family.c")  # in libzeropool-hardened.so only,
SHARED = ("shim/bypass.c", "shim/symbols.c")  # with these
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:[^\"\\\n]|\\.)*\"", re.S)


def sources(root):
    for top in MAY:
        for name in sorted(os.listdir(os.path.join(root, top))):
            if name.endswith((".c", ".h")):
                yield top, f"{top}/{name}"


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def resolve(root, top, name):
    """The included file as a path from the root, the way the compiler looks it up."""
    for base in (top, "core", "core/include", "shim"):
        if os.path.exists(os.path.join(root, base, name)):
            return os.path.normpath(f"{base}/{name}")
    return None


def check_file(root, top, path):
    text = read(root, path)
    for name in INCLUDE.findall(text):
        target = resolve(root, top, name)
        if target is None:
            yield f'{path}: "{name}" is not found'
            continue
        folder = os.path.dirname(target)
        if folder != top and not {folder, target} & MAY[top] and (path, target) not in ALLOWED:
            yield f"{path} includes {target}, which does not lie below it"
    if top.startswith("core/") and top != "core/os":
        for call in sorted(set(KERNEL_CALLS.findall(COMMENT.sub("", text)))):
            yield f"{path} calls {call}(): kernel calls belong into core/os"


def circles(graph):
    """A line for each circle in {name: names that it leads to}."""
    done = set()

    def visit(name, trail):
        if name in trail:
            yield "circle: " + " -> ".join(trail[trail.index(name):] + [name])
        elif name not in done:
            for other in graph.get(name, []):
                yield from visit(other, trail + [name])
            done.add(name)

    for name in sorted(graph):
        yield from visit(name, [])


def check_headers(root):
    yield from circles({path: [resolve(root, top, name) for name in INCLUDE.findall(read(root, path))]
                        for top, path in sources(root) if path.endswith(".h")})


def definitions(text):
    """The functions and variables that a .c file defines for others; not those that stand in front of the C library's."""
    found = set(FUNCTION.findall(text))
    for declarators in VARIABLE.findall(text):
        found |= {re.match(r"\W*(\w+)", part).group(1) for part in declarators.split(",")}
    return found


def used(root, paths):
    """{file: {file whose function or variable it uses: one of them}}, and {name: the file that defines it}."""
    texts = {path: COMMENT.sub(" ", read(root, path)) for path in paths}
    owner = {}
    for path, text in texts.items():
        owner.update(dict.fromkeys(definitions(text), path))
    found = {}
    for path, text in texts.items():
        for word in set(USE.findall(text)) & set(owner):
            if owner[word] != path and not re.search(rf"^[^\n;={{]*\bstatic\b[^;={{]*\b{word}\b", text, re.M):
                found.setdefault(path, {})[owner[word]] = word
    return found, owner


def check_uses(root):
    """What includes do not show: a lower floor that declares what an upper one defines."""
    folders = [f"core/{floor}" for floor in FLOORS]
    floors, owner = used(root, [path for top, path in sources(root) if top in folders and path.endswith(".c")])
    if owner.get("pool_trim") != "core/pool/pool.c" or owner.get("upcalls") != "core/process/upcalls.c":
        yield "check_layers.py does not find the definitions any more"
    for path, others in sorted(floors.items()):
        yield from (f"{path} uses {word} of {other}, which does not lie below it" for other, word in sorted(others.items())
                    if folders.index(os.path.dirname(other)) > folders.index(os.path.dirname(path)))


def check_shim(root):
    """No file of a library there uses one that uses it, however many are between. What is interposed does not count: its
    name is the C library's, and the loader says whose function answers."""
    shim = [path for top, path in sources(root) if top == "shim" and path.endswith(".c")]
    preload, owner = used(root, [path for path in shim if path not in HARDENED])
    hardened, others = used(root, HARDENED + SHARED)
    if (owner.get("shim_pool"), owner.get("next_resolve"), others.get("bypass_close")) != ("shim/state.c", "shim/next.c", "shim/bypass.c"):
        yield "check_layers.py does not find the definitions in shim/ any more"
    yield from circles(preload)
    yield from circles(hardened)


def rows(text):
    """What core/README.md's tables list: {folder: [the modules of each row]}."""
    found, folder = {}, None
    for line in text.splitlines():
        heading = re.match(r"Inside `(\w+)/`", line)
        folder = heading.group(1) if heading else folder
        if folder and line.startswith("| `"):
            found.setdefault(folder, []).append([name.removesuffix(".h") for name in re.findall(r"`([\w.]+)`", line.split("|")[1])])
    return found


def check_readme(root):
    """Each file has its place there, and what is named there exists."""
    text = read(root, "core/README.md")
    listed = {folder: [name for row in table for name in row] for folder, table in rows(text).items()}
    there = {}
    for top, path in sources(root):
        if top.startswith("core/"):
            there.setdefault(top.split("/")[1], set()).add(os.path.splitext(os.path.basename(path))[0])
    for folder, table in listed.items():
        yield from (f"core/README.md lists {folder}/{name}, which does not exist" for name in table if name not in there.get(folder, ()))
        yield from (f"core/README.md does not list {folder}/{name}" for name in sorted(there.get(folder, ()))
                    if name not in table and name != folder)
    for folder in there:
        if f"`{folder}/`" not in text:
            yield f"core/README.md does not list core/{folder}"


def check_exceptions(root):
    """None outlives its reason."""
    there = {(path, resolve(root, top, name)) for top, path in sources(root) for name in INCLUDE.findall(read(root, path))}
    yield from (f"{path} no longer includes {target}: take the exception out" for path, target in ALLOWED if (path, target) not in there)


def main(root):
    bad = [problem for top, path in sources(root) for problem in check_file(root, top, path)]
    for check in (check_headers, check_uses, check_shim, check_readme, check_exceptions):
        bad += sorted(set(check(root)))
    print("\n".join(bad) if bad else "includes go down only")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
