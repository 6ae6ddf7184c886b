# SPDX-License-Identifier: MIT
"""Compare what two runs of a case left: exit status, standard output and error, files."""
import difflib
import fnmatch
import hashlib
import os
import stat

# Of a long difference the first lines tell enough.
EXCERPT_LINES = 12
EXCERPT_COLUMNS = 160
TEXT_LIMIT_BYTES = 2 << 20
FILES_NAMED = 5


def compare(case, plain, preloaded):
    """Reasons why the run with the library differs from the one without: [(reason, [detail line])]."""
    reasons = []
    if plain.outcome.status != preloaded.outcome.status:
        reasons.append((f"{preloaded.outcome.describe()}, without the library {plain.outcome.describe()}",
                        tail(preloaded.stderr_path)))
    before, after = (sorted_lines(run.statuses_path) for run in (plain, preloaded))
    if before != after:
        reasons.append(("programs end with another status", text_diff(before, after)))
    streams = [("stdout", plain.stdout_path, preloaded.stdout_path)]
    if case.compare_stderr:
        streams.append(("stderr", plain.stderr_path, preloaded.stderr_path))
    for name, before_path, after_path in streams:
        lines = differences(before_path, after_path, plain.folder, preloaded.folder)
        if lines:
            reasons.append((f"{name} differs", lines))
    reasons += compare_trees(case, plain, preloaded)
    return reasons


def sorted_lines(path):
    """The lines of a file to which the programs of a pipeline append in any order."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        return sorted(stream.read().splitlines())


def compare_trees(case, plain, preloaded):
    """Differences between the files of the two working directories."""
    before = manifest(plain.work, case.volatile)
    after = manifest(preloaded.work, case.volatile)
    changed = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    if not changed:
        return []
    details = []
    for path in changed[:FILES_NAMED]:
        details.append(f"{path}: {before.get(path, 'absent')} | {after.get(path, 'absent')}")
        if path in before and path in after:
            details += differences(os.path.join(plain.work, path), os.path.join(preloaded.work, path),
                                   plain.folder, preloaded.folder)
    if len(changed) > FILES_NAMED:
        details.append(f"... and {len(changed) - FILES_NAMED} more")
    return [(f"{len(changed)} of {len(before.keys() | after.keys())} files differ", details)]


def manifest(folder, volatile):
    """{relative path: kind, permissions, size and hash} of all below a folder that must not vary."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in sorted(folders + files):
            path = os.path.join(root, name)
            relative = os.path.relpath(path, folder)
            if not any(fnmatch.fnmatch(relative, pattern) for pattern in volatile):
                found[relative] = describe(path)
        folders[:] = [name for name in folders if not any(
            fnmatch.fnmatch(os.path.relpath(os.path.join(root, name), folder), pattern)
            for pattern in volatile)]
    return found


def describe(path):
    """One file in a few words that change when it changes."""
    info = os.lstat(path)
    mode = f"{stat.S_IMODE(info.st_mode):04o}"
    if stat.S_ISLNK(info.st_mode):
        return f"link to {os.readlink(path)}"
    if stat.S_ISDIR(info.st_mode):
        return f"directory {mode}"
    if not stat.S_ISREG(info.st_mode):
        return f"special {stat.S_IFMT(info.st_mode):o} {mode}"
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return f"file {mode} {info.st_size} bytes sha256 {digest.hexdigest()[:16]}"


def read_text(path, folder):
    """A file as lines, with the run's own directory written the same for both runs."""
    with open(path, "rb") as stream:
        data = stream.read()
    return data.replace(folder.encode(), b"@RUN@")


def differences(before_path, after_path, before_folder, after_folder):
    """A unified diff's first lines; empty when the two files are the same."""
    before = read_text(before_path, before_folder)
    after = read_text(after_path, after_folder)
    if before == after:
        return []
    if max(len(before), len(after)) > TEXT_LIMIT_BYTES or b"\0" in before + after:
        where = next((i for i, pair in enumerate(zip(before, after)) if pair[0] != pair[1]),
                     min(len(before), len(after)))
        return [f"first difference at byte {where} of {len(before)} | {len(after)}"]
    return text_diff(before.decode(errors="replace").splitlines(), after.decode(errors="replace").splitlines())


def text_diff(before, after):
    """The first lines of a unified diff of two lists of lines that are known to differ."""
    diff = difflib.unified_diff(before, after, "without", "with", lineterm="", n=1)
    lines = [line[:EXCERPT_COLUMNS] for line in diff]
    if len(lines) > EXCERPT_LINES:
        lines = lines[:EXCERPT_LINES] + [f"... {len(lines) - EXCERPT_LINES} more lines"]
    return lines or ["the same lines, different line ends"]


def tail(path):
    """The last lines of a file, for a failure's detail."""
    with open(path, "rb") as stream:
        stream.seek(max(0, os.path.getsize(path) - 4096))
        lines = stream.read().decode(errors="replace").splitlines()
    return [line[:EXCERPT_COLUMNS] for line in lines[-EXCERPT_LINES:]]
