# SPDX-License-Identifier: MIT
"""From `perf script` to stacks with weights, and to folded text (`a;b;c 12`) that other flamegraph tools read as well.

Weights: microseconds of processor time for cpu, page faults for faults, bytes for alloc. Kernel frames carry the mark
`_[k]`; code of a module without symbols is named after the module, so `[unknown]` is only what belongs to nothing.
"""
import re
from collections import Counter
from dataclasses import dataclass, field

HEAD = re.compile(r"^(?P<comm>.*?)\s+(?P<pid>\d+)/(?P<tid>\d+)\s+(?P<time>[\d.]+):\s+(?P<period>\d+)\s+(?P<event>\S+):\s*(?P<rest>.*)$")
FRAME = re.compile(r"^\s+(?P<ip>[0-9a-f]+) (?P<name>.*) \((?P<module>[^()]*(?:\([^()]*\))?[^()]*)\)$")
OFFSET = re.compile(r"\+0x([0-9a-f]+)$")  # of an address in its function
KERNEL = "_[k]"
UNKNOWN = "[unknown]"
TRUNCATED = "[stack cut off]"
KINDS = ("program", "allocator", "page faults", "unmap", "other system")
FAULT = re.compile(r"^(asm_)?exc_page_fault$|^do_user_addr_fault$|^handle_mm_fault$|^do_anonymous_page$")
UNMAP = re.compile(r"munmap|unmap_(region|vmas|page_range)|^exit_mmap$|zap_page_range|_madvise|^madvise|do_brk|sys_brk|mremap")
ALLOCATOR = re.compile(
    r"^(_*(libc_)?(malloc|calloc|realloc|c?free|memalign|posix_memalign|aligned_alloc|reallocarray)(_\w+)?|_int_(malloc|free|realloc|memalign)\w*|"
    r"(un)?link_chunk.*|sys(malloc|trim)\w*|mem2chunk.*|tcache_\w+|malloc_consolidate|munmap_chunk|mremap_chunk|"
    r"zp_\w+|je_\w+|mi_\w+|_mi_\w+|tc_\w+|\[(libzeropool|libjemalloc|libmimalloc|libtcmalloc)[^]]*\])(\.\w+)*$")
ALLOCATOR_MODULES = ("libzeropool", "libjemalloc", "libmimalloc", "libtcmalloc")


@dataclass
class Profile:
    unit: str = "us"  # "us", "faults" or "bytes"
    stacks: Counter = field(default_factory=Counter)  # tuple of frames, outermost first -> weight
    kinds: Counter = field(default_factory=Counter)  # one of KINDS -> weight
    callers: Counter = field(default_factory=Counter)  # what caller_of() says -> weight
    modules: Counter = field(default_factory=Counter)  # module without symbols -> weight of samples in it
    samples: int = 0
    unknown: int = 0  # samples whose innermost frame belongs to no module
    nameless: int = 0  # samples whose innermost frame is in a module without symbols
    truncated: int = 0  # samples whose stack was deeper than what perf copied
    lost: int = 0

    @property
    def total(self):
        return sum(self.stacks.values())


def split_offset(name):
    """('f', 18) of 'f+0x12'; ('f', None) of 'f'."""
    match = OFFSET.search(name)
    return (name[:match.start()], int(match[1], 16)) if match else (name, None)


def clean(name):
    """The symbol as one reads it: no version, no glibc alias prefix, no character that folded text needs."""
    name = split_offset(name)[0]
    name = name.split("@", 1)[0]
    if name.startswith("__GI_"):
        name = name[5:]
    return name.replace(";", ":").strip() or UNKNOWN


def module_name(module):
    return module.rsplit("/", 1)[-1].strip("[]")


def is_kernel(module):
    return module.startswith("[kernel") or module.startswith("[guest.kernel") or (
        module.startswith("[") and not module.startswith(("[vdso", "[vsyscall", "[unknown", "[heap", "[stack", "[anon")))


def kind_of(names, modules):
    """Which of KINDS a sample is; names and modules innermost first."""
    kernel = [n for n, m in zip(names, modules) if is_kernel(m)]
    if kernel:
        # A fault within an unmapping call does not exist; an unmapping within a fault neither.
        if any(FAULT.search(n) for n in kernel):
            return "page faults"
        return "unmap" if any(UNMAP.search(n) for n in kernel) else "other system"
    if names and (ALLOCATOR.match(names[0]) or module_name(modules[0]).startswith(ALLOCATOR_MODULES)):
        return "allocator"
    return "program"


def samples(lines):
    """(head, [(ip, name, module)] innermost first) of each sample; head of a lost-record line is None."""
    head, frames = None, []
    for line in lines:
        if not line.strip():
            continue
        if line[0] in " \t":
            match = FRAME.match(line)
            if match and head is not None:
                frames.append((match["ip"], match["name"], match["module"]))
                continue
        match = HEAD.match(line)
        if match is None:
            continue
        if head is not None:
            yield head, frames
        head, frames = match, []
        if match["event"].startswith("PERF_RECORD"):
            head = None
    if head is not None:
        yield head, frames


def fold(lines, unit, weigh=None):
    """The Profile of the text that `perf script` prints. weigh(head) gives a weight, or 0 to leave the sample out."""
    profile = Profile(unit)
    for head, frames in samples(lost_counted(lines, profile)):
        weight = weigh(head) if weigh else int(head["period"])
        if weight:
            add(profile, head["comm"].strip(), frames, weight)
    if unit == "us":
        for counter in (profile.stacks, profile.kinds, profile.modules, profile.callers):
            for key in counter:
                counter[key] = round(counter[key] / 1000)
    return profile


def lost_counted(lines, profile):
    for line in lines:
        if "PERF_RECORD_LOST" in line:
            found = re.search(r"lost (\d+)", line)
            profile.lost += int(found[1]) if found else 1
        else:
            yield line


def add(profile, comm, frames, weight):
    profile.samples += 1
    cut = len(frames) > 1 and frames[-1][2] == UNKNOWN and frames[-1][0].startswith("ffff")
    if cut:
        frames = frames[:-1]
        profile.truncated += 1
    caller = caller_of(frames)
    if caller:
        profile.callers[caller] += weight
    names, modules = [], []
    for _, raw, module in frames:
        name = clean(raw)
        if name == UNKNOWN and module != UNKNOWN:
            name = f"[{module_name(module)}]"
        # A run of nameless frames says no more than one of them.
        if names and name == names[-1] and name.startswith("["):
            continue
        names.append(name)
        modules.append(module)
    profile.kinds[kind_of(names, modules)] += weight
    if not names or names[0] == UNKNOWN:
        profile.unknown += 1
    elif names[0].startswith("[") and not is_kernel(modules[0]):
        profile.nameless += 1
        profile.modules[modules[0]] += weight
    shown = [n + KERNEL if is_kernel(m) else n for n, m in zip(names, modules)]
    shown += [TRUNCATED] if cut else []
    profile.stacks[(comm.replace(";", ":"), *reversed(shown or [UNKNOWN]))] += weight


def caller_of(frames):
    """(function, offset, module) that called the allocator; None where no frame is the allocator's. Frames are innermost first."""
    last = None
    for i, (_, raw, module) in enumerate(frames):
        if not is_kernel(module) and (ALLOCATOR.match(clean(raw)) or
                                             module_name(module).startswith(ALLOCATOR_MODULES)):
            last = i
    if last is None or last + 1 >= len(frames):
        return None
    _, raw, module = frames[last + 1]
    name, offset = split_offset(raw)
    name = clean(name)
    return (f"[{module_name(module)}]" if name == UNKNOWN and module != UNKNOWN else name), offset, module


def to_text(stacks):
    return "".join(f"{';'.join(stack)} {weight}\n" for stack, weight in sorted(stacks.items()))


def from_text(text):
    """The stacks of folded text. ValueError with the number of the first line that is none."""
    stacks = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        stack, _, weight = line.rpartition(" ")
        if not stack or not weight.isascii() or not weight.isdigit():
            raise ValueError(f"line {number} is no folded stack")
        stacks[tuple(stack.split(";"))] += int(weight)
    return stacks


def by_function(stacks):
    """{function: (self, total)}: weight of stacks that end in it, and of those that pass through it."""
    own, total = Counter(), Counter()
    for stack, weight in stacks.items():
        own[stack[-1]] += weight
        for name in set(stack[1:]):
            total[name] += weight
    return {name: (own[name], total[name]) for name in total}
