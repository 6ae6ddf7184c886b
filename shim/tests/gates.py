#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The preload library exports the malloc family, C++'s operators, the calls that change mappings, those of process.c, those in which programs
rest and little else, and its thread-local storage is small and static. Given further names, that of the hardened mode exports these instead of the
calls, and has nothing of the pool in it.

usage: gates.py LIBRARY MAP [NAME...]
"""
import re
import subprocess
import sys

# The names by which programs reach an allocator; the map must not forget one of them.
FAMILY = set("""malloc calloc realloc reallocarray free aligned_alloc posix_memalign memalign valloc pvalloc malloc_usable_size
free_sized free_aligned_sized cfree malloc_trim mallinfo mallinfo2 malloc_stats malloc_info mallopt
__libc_malloc __libc_free __libc_calloc __libc_realloc __libc_memalign __libc_valloc __libc_pvalloc __posix_memalign""".split())

# The calls by which a program can change what the pool's blocks are made of.
MAPPINGS = set("""mmap mmap64 munmap mremap remap_file_pages shmat mlockall munlockall mprotect pkey_mprotect madvise posix_madvise mlock mlock2
mbind""".split())

# The calls by which a program sets limits that count what the pool holds.
LIMITS = set("setrlimit setrlimit64 prlimit prlimit64".split())
# The calls around which the background thread is out of the way, and those that install filters (process.c).
PROCESS = set("fork _Fork unshare setns pthread_create tgkill prctl syscall".split())
# The calls in which programs rest, and those that change what must be known about a rest: handlers of signals.
RESTS = set("""sleep usleep nanosleep __nanosleep clock_nanosleep pause sigsuspend __sigsuspend
poll __poll ppoll __poll_chk __ppoll_chk select __select pselect epoll_wait epoll_pwait epoll_pwait2
wait __wait waitpid __waitpid wait3 wait4 waitid system sigwait sigwaitinfo sigtimedwait
read __read __read_chk readv recv __recv_chk recvfrom __recvfrom_chk recvmsg accept accept4
sigaction __sigaction signal bsd_signal ssignal sysv_signal __sysv_signal sigset sigignore siginterrupt""".split())
# C++'s operators: new and delete, scalar and array, with and without alignment, nothrow, and with the size in delete.
OPERATORS = {f"_Zn{kind}m{end}" for kind in "wa" for end in ("", "RKSt9nothrow_t", "St11align_val_t", "St11align_val_tRKSt9nothrow_t")} | \
            {f"_Zd{kind}Pv{end}" for kind in "la" for end in ("", "m", "RKSt9nothrow_t", "St11align_val_t", "mSt11align_val_t",
                                                              "St11align_val_tRKSt9nothrow_t")}
# Asked by AddressSanitizer's runtime (shim/passive.c).
OTHERS = {"__asan_default_options"}
KNOWN = FAMILY | MAPPINGS | LIMITS | PROCESS | RESTS | OPERATORS | OTHERS


def read(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main(library, version_map, *names):
    others = set(names) or KNOWN - FAMILY
    with open(version_map, encoding="utf-8") as file:
        wanted = set(re.findall(r"(\w+);", file.read().split("global:")[1].split("local:")[0]))
    exported = {line.split()[-1] for line in read("nm", "-D", "--defined-only", library).splitlines()}
    wrong = [f"exported but not in the map: {name}" for name in sorted(exported - wanted)]
    wrong += [f"in the map but not exported: {name}" for name in sorted(wanted - exported)]
    wrong += [f"missing: {name}" for name in sorted((FAMILY | others) - exported)]
    wrong += [f"neither of the malloc family nor among {sorted(others)}: {name}" for name in sorted(exported - FAMILY - others)]
    if names:
        inside = {line.split()[-1] for line in read("nm", library).splitlines()}
        wrong += [f"part of the pool: {name}" for name in sorted(inside) if re.match("(pool|heap|space|tcache|shard|helper|recycle)_", name)]
    imported = {line.split()[-1].split("@")[0] for line in read("nm", "-D", "--undefined-only", library).splitlines()}
    # A dynamic TLS model would call back into the loader, and from there into malloc.
    wrong += [f"imports {name}" for name in ("__tls_get_addr", "pthread_atfork", "__register_atfork") if name in imported]
    tls = [line.split() for line in read("readelf", "-lW", library).splitlines() if line.split()[:1] == ["TLS"]]
    size = int(tls[0][5], 16) if tls else 0
    if size > 64:
        wrong.append(f"{size} bytes of thread-local storage, 64 are allowed")
    relocations = read("readelf", "-rW", library)
    wrong += [f"dynamic TLS: relocation {kind}" for kind in ("DTPMOD64", "DTPOFF64", "TLSDESC") if kind in relocations]
    if size and "TPOFF64" not in relocations:
        wrong.append("no TPOFF64 relocation: where is the initial-exec access?")
    flags = read("readelf", "-dW", library)
    wrong += [f"not linked with -z {flag.lower()}" for flag in ("NODELETE", "NOW") if not re.search(rf"\b{flag}\b", flags)]
    print("\n".join(wrong) or f"{len(exported)} symbols, {size} bytes of thread-local storage")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
