# SPDX-License-Identifier: MIT
"""What each allocator name of `-a` means: which libraries are preloaded, which variables are set.

Grammar of one entry:  [LABEL=]NAME, where NAME is a built-in name, /path/to/lib.so, or zeropool+NAME (zeropool for
large blocks, NAME behind it). The same entry may stand twice; the second is then called NAME-2.
"""
import os
import subprocess
from dataclasses import dataclass, field

from . import elf
from .errors import ToolError, UsageError
from .options import closest

SHIM = "libzeropool-preload.so"
RETAIN_TUNABLES = ("glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:"
                   "glibc.malloc.top_pad=67108864")
FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/local/lib", "/usr/lib64", "/usr/lib")
LIBRARIES = {  # name: (sonames, Debian package)
    "jemalloc": (("libjemalloc.so.2",), "libjemalloc2"),
    "mimalloc": (("libmimalloc.so.3", "libmimalloc.so.2"), "libmimalloc2.0"),
    "tcmalloc": (("libtcmalloc_minimal.so.4", "libtcmalloc.so.4"), "libtcmalloc-minimal4"),
}
NAMES = ("glibc", "glibc-retain", "jemalloc", "mimalloc", "tcmalloc", "zeropool")
# Settings of the user's environment that reach every variant; worth a remark, not worth removing.
TELLING_PREFIXES = ("MALLOC_", "ZEROPOOL_", "MIMALLOC_", "TCMALLOC_", "JE_MALLOC")


class Missing(ToolError):
    """An allocator that is not installed or not built."""


@dataclass(frozen=True)
class Variant:
    name: str
    preload: tuple = ()
    tunables: str = ""
    settings: dict = field(default_factory=dict, hash=False)
    argv: tuple = ()  # of a comparison of several commands: the one that is meant

    def environment(self, base):
        """The environment of a run: base, with this allocator in front of what was preloaded anyway."""
        env = dict(base)
        env.pop("MALLOC_PERTURB_", None)  # meson test sets it; filling every block would be what is measured
        libraries = list(self.preload) + [p for p in env.pop("LD_PRELOAD", "").replace(" ", ":").split(":") if p]
        if libraries:
            env["LD_PRELOAD"] = ":".join(libraries)
        if self.tunables:
            before = env.get("GLIBC_TUNABLES")
            env["GLIBC_TUNABLES"] = f"{before}:{self.tunables}" if before else self.tunables
        env.update(self.settings)
        return env


def find_shim():
    """libzeropool-preload.so: ZEROPOOL_LIB, else the build tree or prefix that these tools lie in."""
    override = os.environ.get("ZEROPOOL_LIB")
    if override:
        if not os.path.isfile(override):
            raise Missing(f"ZEROPOOL_LIB={override}: no such file")
        return os.path.abspath(override)
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    prefix = os.path.dirname(os.path.dirname(home))  # PREFIX/share/zeropool
    for folder in (os.path.join(os.path.dirname(home), "build", "shim"), f"{prefix}/lib/x86_64-linux-gnu",
                   f"{prefix}/lib64", f"{prefix}/lib", f"{prefix}/lib/zeropool"):
        path = os.path.join(folder, SHIM)
        if os.path.isfile(path):
            return path
    raise Missing(f"{SHIM} not found; build it with 'meson setup build && ninja -C build', or set ZEROPOOL_LIB")


def find_library(name):
    sonames, package = LIBRARIES[name]
    for folder in FOLDERS:
        for soname in sonames:
            path = os.path.join(folder, soname)
            if os.path.isfile(path):
                return path
    raise Missing(f"{name} is not installed; on Debian: apt-get install {package}")


def check_library(path):
    """path, absolute, if the loader of an x86-64 glibc program can take it."""
    if not os.path.isfile(path):
        raise ToolError(f"{path}: no such file")
    path = os.path.abspath(path)
    if " " in path or ":" in path:
        raise ToolError(f"LD_PRELOAD cannot hold a path with a blank or a colon: {path}")
    try:
        found = elf.read(path)
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from error
    if found is None:
        raise ToolError(f"{path}: not a shared library")
    if not found.native:
        raise ToolError(f"{path}: a library for {found.machine_name}, not for x86-64")
    return path


def resolve(entry, command="compare"):
    """The Variant that one entry of the command's -a means. Raises Missing, ToolError or UsageError."""
    label, equals, what = entry.partition("=")
    if not equals or "/" in label:
        label, what = entry, entry
    if not what or not label:
        raise UsageError(f"{command}: an allocator without a name in '{entry}'")
    if what == "glibc":
        return Variant(label)
    if what == "glibc-retain":
        return Variant(label, tunables=RETAIN_TUNABLES)
    if what == "zeropool":
        return Variant(label, (check_library(find_shim()),))
    if what.startswith("zeropool+"):
        behind = resolve(what.removeprefix("zeropool+"), command)
        return Variant(label, (check_library(find_shim()), *behind.preload), behind.tunables)
    if what in LIBRARIES:
        return Variant(label, (check_library(find_library(what)),))
    if "/" in what:
        short = os.path.basename(what).removesuffix(".so")
        return Variant(label if equals else short, (check_library(what),))
    raise UsageError(f"{command}: unknown allocator '{what}'{closest(what, NAMES)} "
                     f"(known: {', '.join(NAMES)}, zeropool+NAME, /path/to/lib.so)")


def resolve_all(entries, explicit, command="compare", least=2):
    """(variants, notes). What was asked for by name must be there; what was only meant by default may be missing."""
    variants, notes, seen = [], [], {}
    for entry in entries:
        try:
            variant = resolve(entry, command)
        except Missing as error:
            if explicit:
                raise
            notes.append(f"left out: {error}")
            continue
        seen[variant.name] = seen.get(variant.name, 0) + 1
        if seen[variant.name] > 1:
            variant = Variant(f"{variant.name}-{seen[variant.name]}", variant.preload, variant.tunables)
        variants.append(variant)
    if len(variants) < least:
        raise ToolError("fewer than two allocators to compare" + (f" ({'; '.join(notes)})" if notes else ""),
                        2 if explicit else 125)
    return variants, notes


def probe(variant, base):
    """Starts /bin/true under the variant: the loader only warns about a library it cannot take, and goes on."""
    try:
        result = subprocess.run(["/bin/true"], env=variant.environment(base), capture_output=True, timeout=20,
                                stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{variant.name}: even /bin/true does not run under it: {error}") from error
    text = result.stderr.decode(errors="replace")
    if variant.preload and "cannot be preloaded" in text:
        raise ToolError(f"{variant.name}: {text.strip().splitlines()[0]}")
    if result.returncode:
        raise ToolError(f"{variant.name}: even /bin/true fails under it, with status {result.returncode}")


def remarks(base):
    """What in the user's environment reaches all variants alike."""
    notes = []
    names = sorted(n for n in base if n.startswith(TELLING_PREFIXES) and n not in ("MALLOC_PERTURB_", "ZEROPOOL_LIB"))
    names += ["GLIBC_TUNABLES"] if base.get("GLIBC_TUNABLES") else []
    if names:
        notes.append(f"set in your environment, so valid for every allocator: {', '.join(names)}")
    if base.get("LD_PRELOAD"):
        notes.append(f"your LD_PRELOAD stays behind every allocator: {base['LD_PRELOAD']}")
    if base.get("MALLOC_PERTURB_"):
        notes.append("MALLOC_PERTURB_ was removed: glibc would fill every block")
    return notes
