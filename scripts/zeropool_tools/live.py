# SPDX-License-Identifier: MIT
"""Reads the pages of running processes (ZEROPOOL_LIVE=on); shim/report_live.h describes them.

A page is another program's data: sizes are checked, links are not followed, and what does not parse is passed over.
Files of processes that are gone, or have become other programs, are removed where they are ours. That nobody holds a page is seen by a read
lease, which the kernel refuses while a process has the file mapped for writing: process ids tell nothing of processes in other namespaces,
which may share the folder.
"""
import fcntl
import glob
import json
import os
import stat
import struct
import time
from dataclasses import dataclass

MAGIC = b"ZPLIVE1\0"
HEADER = struct.Struct("<8sIIQQQQ")  # magic, pid, uid, start ticks, sequence, updated ns, length
FILE_BYTES = 32768
TRIES = 20


@dataclass(frozen=True)
class Page:
    path: str
    pid: int
    uid: int
    start_ticks: int
    updated_ns: int
    report: dict

    @property
    def age_s(self):
        return max(0.0, (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - self.updated_ns) / 1e9)


def folders():
    found = [os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"]
    if os.geteuid() == 0:
        found += sorted(glob.glob("/run/user/*"))
    return [f for i, f in enumerate(found) if f and f not in found[:i]]


def read(path):
    """The Page at path; None if it is no whole page (yet). Raises OSError where it cannot be opened."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size < FILE_BYTES:
            return None
        for _ in range(TRIES):
            data = os.pread(handle, FILE_BYTES, 0)
            if len(data) < FILE_BYTES:
                return None
            magic, pid, uid, ticks, sequence, updated, length = HEADER.unpack_from(data)
            if magic != MAGIC or length > FILE_BYTES - HEADER.size or uid != status.st_uid:
                return None
            again, = struct.unpack("<Q", os.pread(handle, 8, 24))
            if sequence % 2 == 0 and again == sequence:
                break
            time.sleep(0.001)
        else:
            return None
    finally:
        os.close(handle)
    try:
        report = tame(json.loads(data[HEADER.size:HEADER.size + length]))
    except (ValueError, RecursionError):
        return None
    if not isinstance(report, dict) or not isinstance(report.get("gets"), int):
        return None
    return Page(path, pid, uid, ticks, updated, report)


def tame(value):
    """What another user's program may have written, fit for arithmetic and for a terminal."""
    if isinstance(value, dict):
        return {tame(key): tame(each) for key, each in value.items()}
    if isinstance(value, list):
        return [tame(each) for each in value]
    if isinstance(value, str):
        return "".join(c if c.isprintable() else "?" for c in value)
    if isinstance(value, (int, float)) and not -2 ** 64 < value < 2 ** 64:
        raise ValueError("a number no program reports")
    return value


def start_ticks(pid):
    """When the process started, in ticks since boot; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def held(path):
    """Whether a process has the page mapped. True also where that cannot be told."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


def pages(clean=True):
    """The newest Page of every process that lives and that we see, by process id. Removes stale files of ours."""
    found, stale = {}, []
    for folder in folders():
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), "zeropool-live.*.*"))):
            try:
                page = read(path)
            except OSError:
                continue
            if page is None:
                if not half_made(path):
                    stale.append(path)
                continue
            if start_ticks(page.pid) != page.start_ticks:
                stale.append(path)
            elif page.pid not in found or page.updated_ns > found[page.pid].updated_ns:
                if page.pid in found:  # from before an exec
                    stale.append(found[page.pid].path)
                found[page.pid] = page
            else:
                stale.append(path)
    if clean:
        for path in stale:
            if not held(path):
                remove(path)
    return found


def half_made(path):
    """Whether a file without a page in it may be one that is being made right now, or not ours to judge."""
    try:
        status = os.lstat(path)
        pid = int(os.path.basename(path).split(".")[1])
    except (OSError, ValueError, IndexError):
        return True
    return status.st_uid != os.geteuid() or time.time() - status.st_mtime < 60 or start_ticks(pid) is not None


def remove(path):
    try:
        if os.lstat(path).st_uid == os.geteuid():
            os.unlink(path)
    except OSError:
        pass  # somebody else was faster
