# SPDX-License-Identifier: MIT
"""zeropool doctor, first part: what on this machine helps, hinders or changes what the pool and the tools do."""
import glob
import os
import platform
import resource
import shutil
import subprocess
from dataclasses import dataclass

from . import calibrate, variants
from .errors import ToolError
from .table import size

OK, NOTE, WARN, BAD = "ok", "note", "warn", "BAD"
RANK = {OK: 0, NOTE: 1, WARN: 2, BAD: 3}


@dataclass(frozen=True)
class Finding:
    level: str
    topic: str
    text: str


def read(path):
    """The first line of a small file; '' where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def examine():
    found = []
    for check in (library, kernel, proc, environment, page_faults, huge_pages, overcommit, limits, maps, cgroup, container,
                  perf, allocators):
        found += check()
    return found


def library():
    machine = platform.machine()
    if machine != "x86_64":
        return [Finding(BAD, "library", f"this machine is {machine}; the pool is for x86-64")]
    try:
        shim = variants.resolve("zeropool")
    except ToolError as error:
        return [Finding(BAD, "library", str(error))]
    try:
        variants.probe(shim, {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"})
    except ToolError as error:
        return [Finding(BAD, "library", str(error))]
    libc = os.confstr("CS_GNU_LIBC_VERSION") or "an unknown C library"
    return [Finding(OK, "library", f"{shim.preload[0]} loads, with {libc}")]


def kernel():
    release = platform.release()
    try:
        version = tuple(int(n) for n in release.split("-")[0].split(".")[:2])
    except ValueError:
        return [Finding(NOTE, "kernel", f"Linux {release}: version not understood")]
    for needed, what in (((4, 14), "idle memory of sleeping threads cannot be collected (no private membarrier)"),
                         ((5, 7), "realloc copies instead of moving pages (no MREMAP_DONTUNMAP)"),
                         ((5, 9), "no background task, memory decays only while the program allocates (no close_range)"),
                         ((5, 14), "zp_preallocate touches pages one by one (no MADV_POPULATE_WRITE)")):
        if version < needed:
            return [Finding(WARN, "kernel", f"Linux {release}: {what}; {needed[0]}.{needed[1]} has it")]
    return [Finding(OK, "kernel", f"Linux {release} has all that the pool uses")]


def proc():
    if os.path.exists("/proc/self/stat"):
        return []
    return [Finding(WARN, "/proc", "is not mounted: what is said of limits below is incomplete, 'record', 'stat PID' and 'top' do not "
                    "work, and 'compare' cannot tell memory below some 20 MiB")]


def environment():
    found = []
    preload = os.environ.get("LD_PRELOAD", "")
    if preload:
        found.append(Finding(NOTE, "LD_PRELOAD", f"already holds {preload}; it stays behind the pool"))
    everywhere = read("/etc/ld.so.preload")
    if everywhere:
        found.append(Finding(NOTE, "LD_PRELOAD", f"/etc/ld.so.preload puts {everywhere} into every program"))
    settings = sorted(n for n in os.environ if n.startswith(("ZEROPOOL_", "MALLOC_")) or n == "GLIBC_TUNABLES")
    if settings:
        found.append(Finding(NOTE, "variables", f"set in this shell, so valid for what it starts: {', '.join(settings)}"))
    return found


def page_faults():
    cost = calibrate.page_fault_ns()
    return [Finding(OK, "page faults", f"first use of memory costs {cost:.0f} ns per 4 KiB page here, "
                                       f"{cost * 262144 / 1e6:.0f} ms per GiB: what a warm block saves")]


def huge_pages():
    text = read("/sys/kernel/mm/transparent_hugepage/enabled")
    if "[" not in text:
        return [Finding(NOTE, "huge pages", "this kernel has no transparent huge pages")]
    mode = text[text.index("[") + 1:text.index("]")]
    meaning = {"always": (NOTE, "always: glibc gets huge pages for large blocks too, so it faults less than elsewhere, and "
                                "resident memory is larger under every allocator"),
               "madvise": (OK, "madvise: the pool asks for them where blocks of that size have been filled"),
               "never": (NOTE, "never: every page is 4 KiB, so warm blocks save the most")}
    level, words = meaning.get(mode, (NOTE, mode))
    return [Finding(level, "huge pages", words)]


def meminfo(key):
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def overcommit():
    mode = read("/proc/sys/vm/overcommit_memory")
    total, free = meminfo("MemTotal"), meminfo("MemAvailable")
    found = [Finding(OK if free * 10 > total else WARN, "memory", f"{size(total)}, {size(free)} of it available, "
                     f"swap {size(meminfo('SwapTotal'))}")] if total else []
    if mode == "2":
        limit, used = meminfo("CommitLimit"), meminfo("Committed_AS")
        found.append(Finding(NOTE, "overcommit", "strict (vm.overcommit_memory=2): idle memory counts against the limit of "
                             f"{size(limit)}, {size(used)} of which is taken; the pool maps only what it uses"))
    elif mode:
        words = {"0": "heuristic", "1": "always"}.get(mode, mode)
        found.append(Finding(OK, "overcommit", f"{words}: no restriction"))
    return found


def limits():
    found = []
    for what, name, meaning in (
            ("RLIMIT_AS", "-v", "address space: the pool maps as it grows and gives its idle part back before a request fails"),
            ("RLIMIT_DATA", "-d", "data: counts the pool's mapped memory, idle or not"),
            ("RLIMIT_RSS", "-m", "resident set: has no effect on Linux")):
        value = resource.getrlimit(getattr(resource, what))[0]
        if value != resource.RLIM_INFINITY:
            level = WARN if what != "RLIMIT_RSS" and value < 1 << 30 else NOTE
            found.append(Finding(level, "ulimit", f"ulimit {name} is {size(value)}; {meaning}"))
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if 0 <= processes < 64:
        found.append(Finding(WARN, "ulimit", f"ulimit -u is {processes}: the background task may be refused; memory then "
                             "decays only while the program allocates"))
    return found or [Finding(OK, "ulimit", "no limits on address space, data or processes that matter")]


def maps():
    count = read("/proc/sys/vm/max_map_count")
    if count.isdigit() and int(count) < 65530:
        return [Finding(WARN, "mappings", f"vm.max_map_count is {count}, the usual is 65530; realloc moves make mappings")]
    return []


def cgroup():
    found, smallest = [], None
    for line in lines("/proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        root, name = ("/sys/fs/cgroup", "memory.max") if not controllers else \
                     ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        if controllers and "memory" not in controllers.split(","):
            continue
        while True:
            text = read(f"{root}{group.rstrip('/')}/{name}")
            if text.isdigit() and int(text) < 1 << 60 and (smallest is None or int(text) < smallest[0]):
                smallest = (int(text), group or "/")
            if group in ("", "/"):
                break
            group = group.rpartition("/")[0]
    if smallest:
        found.append(Finding(NOTE, "cgroup", f"memory limit {size(smallest[0])} (group {smallest[1]}): idle memory is "
                             "given back before the limit is reached"))
    return found or [Finding(OK, "cgroup", "no memory limit")]


def lines(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in file if line.count(":") >= 2]
    except OSError:
        return []


def container():
    signs = [name for name, path in (("Docker", "/.dockerenv"), ("Podman", "/run/.containerenv")) if os.path.exists(path)]
    kind = os.environ.get("container") or (signs[0] if signs else "")
    if not kind:
        return []
    return [Finding(NOTE, "container", f"inside {kind}: the library must be in the image, perf usually needs "
                    "--cap-add PERFMON and a seccomp profile that allows it, and the limits above are the container's")]


def perf():
    if not shutil.which("perf"):
        return [Finding(WARN, "perf", "not installed: 'zeropool record' needs it; on Debian: apt-get install linux-perf")]
    paranoid = read("/proc/sys/kernel/perf_event_paranoid")
    if not paranoid:
        return [Finding(WARN, "perf", "cannot be used: this kernel offers no perf events, or /proc is not mounted")]
    found = []
    if os.geteuid() and paranoid.lstrip("-").isdigit() and int(paranoid) > 2:
        found.append(Finding(WARN, "perf", f"kernel.perf_event_paranoid is {paranoid}: refused to you; "
                             "sudo sysctl kernel.perf_event_paranoid=1"))
    elif os.geteuid() and paranoid == "2":
        found.append(Finding(NOTE, "perf", "kernel.perf_event_paranoid is 2: user code only, page faults in the kernel stay "
                             "hidden; sudo sysctl kernel.perf_event_paranoid=1"))
    try:
        trial = subprocess.run(["perf", "stat", "-x,", "-e", "cycles,page-faults", "true"], capture_output=True, text=True,
                               timeout=10, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return found + [Finding(WARN, "perf", f"does not run: {error}")]
    if trial.returncode:
        last = (trial.stderr.strip().splitlines() or ["no message"])[0]
        return found + [Finding(WARN, "perf", f"perf stat fails: {last}")]
    counters = "hardware counters" if "not supported" not in trial.stderr else \
               "no hardware counters (a virtual machine?): times come from the clock"
    found.append(Finding(OK, "perf", f"works; {counters}"))
    if os.geteuid() and read("/proc/sys/kernel/kptr_restrict") not in ("0", ""):
        found.append(Finding(NOTE, "perf", "kernel.kptr_restrict hides the names of kernel functions; "
                             "sudo sysctl kernel.kptr_restrict=0"))
    tracing = [p for p in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing") if os.path.isdir(p) and os.access(p, os.W_OK)]
    if not tracing or not glob.glob(tracing[0] + "/uprobe_events"):
        found.append(Finding(NOTE, "probes", "uprobes and USDT need root and tracefs: mount -t tracefs none /sys/kernel/tracing"))
    return found


def allocators():
    there, missing = [], []
    for name in variants.LIBRARIES:
        try:
            variants.find_library(name)
            there.append(name)
        except ToolError:
            missing.append(f"{name} ({variants.LIBRARIES[name][1]})")
    text = f"installed: {', '.join(there) or 'none'}" + (f"; Debian packages of the others: {', '.join(missing)}"
                                                          if missing else "")
    return [Finding(OK if there else NOTE, "rivals", f"{text}; 'zeropool compare' uses what is there")]
