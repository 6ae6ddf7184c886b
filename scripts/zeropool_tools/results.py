# SPDX-License-Identifier: MIT
"""From a Session to the result that is stored and shown: summary per variant, ratios, remarks. Format: SCHEMA.md."""
import csv
import io
import json
import os
import platform
import shlex
import tempfile
import time

from . import VERSION, compare_commands, stats
from .errors import ToolError
from .words import plural

SCHEMA = "zeropool-compare-1"
# name in JSON: (attribute of Result, heading)
METRICS = {"wall_s": ("wall_s", "wall"), "user_s": ("user_s", "user"), "sys_s": ("sys_s", "sys"),
           "cpu_s": ("cpu_s", "user + sys"), "faults": ("faults", "faults"),
           "peak_rss_bytes": ("peak_rss_bytes", "peak RSS")}
RATE = {"requests_per_s": ("requests_per_s", "requests per second, as the client counts")}  # of servers, where it does
LATENCY = {f"latency_p{n}_s": (f"latency_p{n}_s", f"latency of {n} % of the requests, as the client counts") for n in (50, 95, 99)}
NOISY_SPREAD = 0.05


def build(session):
    plan = session.plan
    base_name = plan.variants[plan.baseline].name
    result = {
        "schema": SCHEMA, "zeropool": VERSION, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": list(plan.argv), "machine": machine(), "baseline": base_name, "rounds": session.n_rounds,
        "settings": {"rounds": plan.rounds or "auto", "warmups": plan.warmups, "max_time_s": plan.max_time_s,
                     "sample_s": plan.sample_s, "ignore_output": plan.ignore_output, "seed": plan.seed, "prepare": plan.prepare,
                     "cleanup": plan.cleanup},
        "interrupted": bool(session.stopped_by), "seconds": round(session.seconds, 3),
        "output": describe_output(session), "variants": [],
        "server": {"command": list(plan.server), "port": plan.port or "auto"} if plan.server else None,
    }
    if plan.given:
        result |= {"given": plan.commands, "scan": plan.scan,
                   "commands": [{"name": each.name, "command": each.argv, "settings": each.settings} for each in plan.given]}
    measured = metrics(session)
    base = columns(session, base_name, measured)
    for variant in plan.variants:
        values = columns(session, variant.name, measured)
        result["variants"].append({
            "name": variant.name, "preload": list(variant.preload), "tunables": variant.tunables,
            "runs": [{"round": i + 1, **{m: values[m][i] for m in measured}} for i in range(session.n_rounds)],
            "median": {m: stats.median(values[m]) for m in measured} if session.n_rounds else None,
            "spread": {m: round(stats.spread(values[m]), 5) for m in measured} if session.n_rounds else None,
            "ratio": ratios(values, base) if session.n_rounds and variant.name != base_name else None,
            "memory": session.memory.get(variant.name),
        })
    result["notes"] = session.notes + quality(result)
    return result


def metrics(session):
    """METRICS, with what the clients of servers print where every run has it."""
    runs = [run for variant in session.plan.variants for run in session.complete_rounds(variant.name)]
    return METRICS | {key: value for key, value in (RATE | LATENCY).items() if runs and all(getattr(run, value[0]) for run in runs)}


def columns(session, name, measured):
    runs = session.complete_rounds(name)
    return {metric: [getattr(run, attribute) for run in runs] for metric, (attribute, _) in measured.items()}


def ratios(mine, base):
    found = {}
    for metric in mine:
        ratio = stats.compare(mine[metric], base[metric])
        found[metric] = {"value": finite(ratio.value), "low": finite(ratio.low), "high": finite(ratio.high),
                         "p": round(ratio.p, 6), "n": ratio.n, "significant": ratio.significant}
    return found


def title(result):
    """The command, or client and server, as one would type them."""
    text = "; ".join(shlex.join(argv) for argv in result["given"]) if result.get("given") else typed(result["command"])
    return f"{text}, against {typed(result['server']['command'])}" if result.get("server") else text


def typed(words):
    """As shlex.join, but {port} needs no quotes where the tools split a command."""
    return shlex.join(words).replace("'{port}'", "{port}")


def again(result):
    """The command that measures the same once more."""
    if result.get("given"):
        return f"zeropool compare {compare_commands.again(result)}"
    if not result.get("server"):
        return f"zeropool compare -- {shlex.join(result['command'])}"
    server = result["server"]
    return (f"zeropool compare --ready TCP:{server['port']} --server {shlex.quote(typed(server['command']))} "
            f"--client {shlex.quote(typed(result['command']))}")


def finite(value):
    """JSON has no infinity; a ratio to zero is null."""
    return round(value, 5) if value != float("inf") else None


def ratio_of(stored):
    """The stats.Ratio behind a stored ratio."""
    values = [float("inf") if stored[k] is None else stored[k] for k in ("value", "low", "high")]
    return stats.Ratio(*values, stored["p"], stored["n"])


def describe_output(session):
    if session.reference is None:
        return None
    return {"compared": not session.plan.ignore_output, "equal": not session.mismatches,
            "sha256": session.reference.stdout_sha256, "bytes": session.reference.stdout_bytes,
            "status": session.reference.status, "mismatches": list(session.mismatches)}


def machine():
    return {"system": platform.system(), "kernel": platform.release(), "cpus": os.cpu_count(),
            "usable_cpus": len(os.sched_getaffinity(0)), "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            "cpu": cpu_model(), "load": [round(x, 2) for x in os.getloadavg()]}


def cpu_model():
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "unknown"


def quality(result):
    """Remarks on how far the numbers can be trusted."""
    notes, noisy = [], []
    for variant in result["variants"]:
        if not variant["runs"]:
            continue
        walls = [run["wall_s"] for run in variant["runs"]]
        far = stats.outliers(walls)
        if variant["spread"]["wall_s"] > NOISY_SPREAD:
            noisy.append(f"{variant['name']} {variant['spread']['wall_s'] * 100:.0f} %")
        elif far:
            notes.append(f"{variant['name']}: {far} of {plural(len(walls), 'run')} far slower than the rest; "
                         "the median leaves them out")
    if noisy:
        notes.append(f"noisy: wall times spread by {', '.join(noisy)}; close other programs or take more rounds (-n)")
    if result["rounds"] and min(v["median"]["wall_s"] for v in result["variants"]) < 0.01:
        notes.append("runs of less than 10 ms measure the start of the program more than its work")
    return notes


def check_writable(path):
    """Before minutes are spent on measuring: can the result be stored?"""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ToolError(f"cannot write {path}: no folder {folder}")
    if os.path.isdir(path):
        raise ToolError(f"cannot write {path}: is a folder")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise ToolError(f"cannot write {path}: permission denied")


def store(path, content):
    """Text or bytes, whole or not at all: a reader never sees half a file. A device or pipe is written as it is."""
    if isinstance(content, str):
        content = content.encode()
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as file:
                file.write(content)
            return
        real = os.path.realpath(path)
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(real), prefix=".zeropool-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, real)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ToolError(f"cannot write {path}: {error.strerror}") from error


def to_csv(result):
    """One line per run, of all allocators."""
    measured = [m for m in (*METRICS, *RATE, *LATENCY) if all(m in run for v in result["variants"] for run in v["runs"])]
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["allocator", "round", *measured])
    for variant in result["variants"]:
        for run in variant["runs"]:
            lines.writerow([variant["name"], run["round"], *(run[m] for m in measured)])
    return text.getvalue()


def to_json(result):
    return json.dumps(result, indent=1) + "\n"
