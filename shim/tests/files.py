#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The files the library makes are for their owner only, are never reached through a symbolic link, and are not made at all by a
program with raised rights.

usage: files.py CASE LIBRARY PLANT SECURE      the cases: see the functions case_*
"""
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time

SKIP = 77


def run(command, library, **settings):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ZEROPOOL_")} | settings
    if library:
        environment["LD_PRELOAD"] = library
    return subprocess.run(command, capture_output=True, text=True, env=environment, umask=0, timeout=30, check=False)


def private(path):
    """What is wrong with the file at path, or nothing."""
    if not os.path.lexists(path):
        return ["no file is made"]
    status = os.lstat(path)
    found = [] if stat.S_ISREG(status.st_mode) else ["not a regular file"]
    if stat.S_IMODE(status.st_mode) != 0o600:
        found.append(f"mode {stat.S_IMODE(status.st_mode):o}")
    return found


def case_stats_mode(place, library, _plant, _secure):
    path = os.path.join(place, "stats")
    run(["/bin/true"], library, ZEROPOOL_STATS=path)
    return private(path)


def case_stats_link(place, library, _plant, secure):
    target, link = os.path.join(place, "target"), os.path.join(place, "link")
    os.symlink(target, link)
    wrong = []
    for before in (None, "precious\n"):
        if before:
            with open(target, "w", encoding="ascii") as file:
                file.write(before)
        result = run([secure], library, ZEROPOOL_STATS=link)
        if result.returncode or not result.stdout.startswith("0 "):
            wrong.append(f"the program is disturbed: {result}")
        if not result.stderr.startswith("zeropool: cannot write statistics to ") or result.stderr.count("\n") != 1:
            wrong.append(f"said {result.stderr!r}")
        if before is None and os.path.exists(target):
            wrong.append("a file is made through the link")
        elif before and open(target, encoding="ascii").read() != before:
            wrong.append("written through the link")
    return wrong


def live_files(place):
    return [os.path.join(place, name) for name in os.listdir(place) if name.startswith("zeropool-live.")]


def case_live_mode(place, library, _plant, _secure):
    environment = dict(os.environ, LD_PRELOAD=library, ZEROPOOL_LIVE="on", XDG_RUNTIME_DIR=place)
    with subprocess.Popen(["/bin/sleep", "20"], env=environment, umask=0) as process:
        for _ in range(200):
            if live_files(place):
                break
            time.sleep(0.05)
        wrong = [fault for path in live_files(place) for fault in private(path)] if live_files(place) else ["no page is made"]
        process.terminate()
    return wrong


def case_live_link(place, library, plant, _secure):
    target = os.path.join(place, "target")
    result = run(["/bin/echo", "text"], f"{plant}:{library}", ZEROPOOL_LIVE="on", XDG_RUNTIME_DIR=place,
                 PLANT_AT="zeropool-live.", PLANT_TARGET=target)
    wrong = [] if live_files(place) else ["no link was put in the way"]
    if os.path.exists(target):
        wrong.append("a file is made through the link")
    if result.stdout != "text\n" or not result.stderr.startswith("zeropool: ZEROPOOL_LIVE: cannot make "):
        wrong.append(f"said {result.stdout!r} {result.stderr!r}")
    return wrong


def raise_rights(path):
    """Give the program another group's rights; False where that cannot be done."""
    for group in [*os.getgroups(), 65534]:
        if group == os.getegid():
            continue
        try:
            os.chown(path, -1, group)
            os.chmod(path, 0o2755)
            return True
        except OSError:
            continue
    return False


def case_raised_rights(place, _library, _plant, secure):
    program = os.path.join(place, "secure")
    shutil.copy(secure, program)
    stats = os.path.join(place, "stats")
    settings = {"ZEROPOOL_STATS": stats, "ZEROPOOL_THRESHOLD": "nonsense", "ZEROPOOL_HARDENED": "1", "ZEROPOOL_LIVE": "on",
                "XDG_RUNTIME_DIR": place}
    wrong = []
    plain = run([program], None, **settings)
    if plain.stdout != "0 100001\n" or "ZEROPOOL_THRESHOLD" not in plain.stderr or not os.path.exists(stats):
        wrong.append(f"with ordinary rights the environment is not heard: {plain}")
    if os.path.exists(stats):
        os.unlink(stats)
    if not raise_rights(program):
        return None
    raised = run([program], None, **settings)
    if raised.stdout.startswith("0 "):
        return None # a file system that gives no rights
    if raised.stdout != "1 102400\n" or raised.stderr or os.path.exists(stats) or live_files(place):
        wrong.append(f"with raised rights the environment is heard: {raised} {os.listdir(place)}")
    return wrong


def main(case, library, plant, secure):
    # Beside the program under test: /tmp may be mounted without set-group-id.
    place = tempfile.mkdtemp(prefix="files-", dir=os.path.dirname(os.path.abspath(secure)))
    try:
        wrong = globals()["case_" + case.replace("-", "_")](place, library, plant, secure)
    finally:
        shutil.rmtree(place)
    if wrong is None:
        print("no way to raise a program's rights here")
        return SKIP
    print("\n".join(wrong) or "good")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
