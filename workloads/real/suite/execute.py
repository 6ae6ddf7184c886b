# SPDX-License-Identifier: MIT
"""Run one case twice, without and with the library, each time in a fresh directory.

Layout of a run's directory: work/ is where the case starts and what is compared; tmp/ is its TMPDIR, home/
its HOME; stdout and stderr are what it printed; statuses lists the programs that did not end with status 0.
The two directories of a case have names of equal length, so that a program which measures its path sees no
difference. shared/ beside them is where the first run may leave something for the second.
"""
import os
import shutil

from . import compare, process

# Only Debian's own folders: a stand-in under /usr/local or a version manager is not the program meant.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SKIP_STATUS = 77

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Preload:
    """What goes into LD_PRELOAD in the two runs, and the ZEROPOOL_* variables of the second."""

    def __init__(self, library, following=None, threshold=None):
        self.before = following or ""
        self.after = f"{library}:{following}" if following else library
        self.settings = {name: value for name, value in os.environ.items() if name.startswith("ZEROPOOL_")}
        if threshold is not None:
            self.settings["ZEROPOOL_THRESHOLD"] = threshold


class Run:
    """One run's directory and how it ended."""

    def __init__(self, folder):
        self.folder = folder
        self.work = os.path.join(folder, "work")
        self.stdout_path = os.path.join(folder, "stdout")
        self.stderr_path = os.path.join(folder, "stderr")
        self.statuses_path = os.path.join(folder, "statuses")
        self.outcome = None


class Result:
    """The verdict on a case: pass, fail or skip."""

    def __init__(self, case, verdict, reason="", details=(), runs=()):
        self.case = case
        self.verdict = verdict
        self.reason = reason
        self.details = list(details)
        self.runs = list(runs)

    def as_json(self):
        """For the --json report."""
        record = {"name": self.case.name, "summary": self.case.summary, "verdict": self.verdict,
                  "reason": self.reason, "details": self.details}
        for label, run in zip(("without", "with"), self.runs):
            record[label] = run.outcome.figures()
        return record


def environment(folder, preload, settings):
    """A small, fixed environment: what the user has set must not decide the outcome."""
    env = {
        "PATH": PATH,
        "HOME": os.path.join(folder, "home"),
        "TMPDIR": os.path.join(folder, "tmp"),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TERM": "dumb",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PERL_HASH_SEED": "0",
        "SOURCE_DATE_EPOCH": "1700000000",
        "SUITE_LIB": os.path.join(HERE, "programs", "lib.sh"),
        "SUITE_PROGRAMS": os.path.join(HERE, "programs"),
        "SUITE_SHARED": os.path.join(os.path.dirname(folder), "shared"),
        "SUITE_STATUSES": os.path.join(folder, "statuses"),
        "SUITE_PRELOAD": preload,
    }
    env.update(settings)
    return env


def prepare(folder):
    """Make the directories of a run; readable for the unprivileged user some cases change to."""
    for name in ("", "work", "tmp", "home"):
        os.mkdir(os.path.join(folder, name))
        os.chmod(os.path.join(folder, name), 0o755)
    os.chmod(os.path.join(folder, "tmp"), 0o1777)


def run_once(case, folder, preload, settings, timeout_s):
    """One run of a case's script."""
    prepare(folder)
    run = Run(folder)
    with open(run.statuses_path, "w", encoding="utf-8"):
        pass
    run.outcome = process.run(["/bin/sh", case.path], environment(folder, preload, settings), run.work,
                              run.stdout_path, run.stderr_path, timeout_s)
    return run


def run_case(case, base, preload, timeout_s=None, keep=False):
    """Both runs of a case and the verdict."""
    missing = case.missing_packages()
    if missing:
        names = " ".join(missing)
        return Result(case, "skip", f"Debian package {names} is missing: apt-get install {names}")
    timeout_s = timeout_s or case.timeout_s
    folder = os.path.join(base, case.name)
    os.mkdir(folder)
    os.chmod(folder, 0o755)
    os.mkdir(os.path.join(folder, "shared"))
    try:
        plain = run_once(case, os.path.join(folder, "a"), preload.before, {}, timeout_s)
        verdict = judge_plain(case, plain, preload.before)
        if verdict:
            return verdict
        preloaded = run_once(case, os.path.join(folder, "b"), preload.after, preload.settings, timeout_s)
        return judge(case, plain, preloaded)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def judge_plain(case, plain, following):
    """A verdict when the run without the library decides already, else None."""
    outcome = plain.outcome
    if following and outcome.status != SKIP_STATUS and (outcome.timed_out or outcome.status or outcome.left_behind):
        # Several allocators break a program by themselves; that is no fault of the library before them.
        return Result(case, "skip", f"{os.path.basename(following)} alone breaks it: {outcome.describe()}",
                      runs=[plain])
    if outcome.status == SKIP_STATUS:
        lines = compare.tail(plain.stderr_path) or ["the case does not say why"]
        return Result(case, "skip", lines[-1], runs=[plain])
    if outcome.timed_out or outcome.status != 0:
        return Result(case, "fail", f"cannot judge, without the library already: {outcome.describe()}",
                      compare.tail(plain.stderr_path), [plain])
    if outcome.left_behind:
        names = ", ".join(outcome.left_behind)
        return Result(case, "fail", f"cannot judge, without the library already left running: {names}",
                      runs=[plain])
    return None


def judge(case, plain, preloaded):
    """The verdict from both runs."""
    runs = [plain, preloaded]
    if preloaded.outcome.timed_out:
        wall_s = plain.outcome.wall_s
        return Result(case, "fail", f"{preloaded.outcome.describe()}, without the library done in {wall_s:.1f} s",
                      compare.tail(preloaded.stderr_path), runs)
    reasons = compare.compare(case, plain, preloaded)
    if preloaded.outcome.left_behind:
        reasons.append(("left running: " + ", ".join(preloaded.outcome.left_behind), []))
    if not reasons:
        return Result(case, "pass", runs=runs)
    details = [line for _, lines in reasons for line in lines]
    return Result(case, "fail", "; ".join(reason for reason, _ in reasons), details, runs)
