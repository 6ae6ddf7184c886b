# SPDX-License-Identifier: MIT
"""Recording a command under one allocator or several: what zeropool record and its --workloads have in common."""
import hashlib
import os

from . import perf, record_store
from .errors import OK, say
from .folded import fold
from .record_probes import Probes, weigh
from .session import check_input
from .words import plural

UNITS = {"cpu": "us", "faults": "faults", "alloc": "bytes"}
FEW_SAMPLES = 200


class Plan:
    """How to record: perf, its options, its remarks. Checks everything that can be checked beforehand."""

    def __init__(self, values, chosen):
        self.event, self.stack = values["event"], values["stack"]
        # Requests differ in size by orders of magnitude, so their sum needs more of them than time needs samples.
        self.frequency = values["frequency"] or (4999 if self.event == "alloc" else 499)
        self.stack -= self.stack % 8  # perf takes multiples of 8
        self.stdin = values["input"]
        if self.stdin:
            check_input(self.stdin)
        self.remarks = perf.check_rights(self.event)
        self.perf = perf.find()
        self.names = [v.name for v in chosen]

    def options(self, probes):
        words = ["-F", str(self.frequency), "--call-graph", f"dwarf,{self.stack}"]
        if self.event == "cpu":
            # Not cycles: the weight of a sample is then time, also where the clock of the processor changes.
            return [*words, "-e", "cpu-clock"]
        return [*words, "-e", "page-faults"] if self.event == "faults" else [*words, *probes.options()]


def record_all(plan, chosen, argv, folder, several):
    """(result, exit status)."""
    result = record_store.blank(argv, plan)
    status, outputs = OK, set()
    for variant in chosen:
        if several:
            say(f"recording under {variant.name}")
        place = os.path.join(folder, record_store.folder_name(variant.name)) if several else folder
        os.makedirs(place, exist_ok=True)
        entry, profile, output = record_one(plan, variant, argv, place, several)
        entry["folder"] = os.path.relpath(place, folder) if several else ""
        result["variants"].append(entry)
        outputs.add(output)
        record_store.store_profile(place, plan, entry, profile, argv)
        result["notes"] += [f"{variant.name}: {n}" if several else n for n in remarks(plan, entry)]
        status = status or (128 + entry["interrupted"] if entry["interrupted"] else entry["status"])
        if entry["interrupted"]:
            result["notes"].append("interrupted; what was recorded until then is kept")
            break
    if several and len(result["variants"]) > 1:
        record_store.store_pictures(folder, result)
        if len(outputs) > 1:
            result["notes"].append("the command printed something else under another allocator (times, perhaps): see output.txt of each")
    return result, status


def record_one(plan, variant, argv, place, several):
    """(entry of the result, Profile, digest of the output)."""
    data = os.path.join(place, "perf.data")
    stdin = open(plan.stdin or os.devnull, "rb") if plan.stdin or several else None
    stdout = open(os.path.join(place, "output.txt"), "wb+") if several else None
    try:
        if plan.event == "alloc":
            with Probes(variant) as probes:
                done = perf.record(plan.perf, plan.options(probes), variant, argv, data, stdin, stdout)
                # The probes must exist while their samples are read, or perf cannot name their arguments.
                profile = fold(perf.script(plan.perf, data, perf.FIELDS + ",trace"), "bytes", weigh)
        else:
            done = perf.record(plan.perf, plan.options(None), variant, argv, data, stdin, stdout)
            profile = fold(perf.script(plan.perf, data), UNITS[plan.event])
        digest = None
        if stdout:
            stdout.seek(0)
            digest = hashlib.file_digest(stdout, "sha256").hexdigest()
    finally:
        for file in (stdin, stdout):
            if file:
                file.close()
    entry = record_store.entry(variant, done, profile)
    return entry, profile, digest


def remarks(plan, entry):
    """What limits this recording, each with what mends it."""
    found = list(entry.pop("remarks"))
    n = entry["samples"]
    if not n:
        found.append("not one sample: the program took too little time" if plan.event == "cpu" else "not one sample: nothing of the kind happened")
        return found
    if plan.event == "cpu" and n < FEW_SAMPLES:
        found.append(f"only {plural(n, 'sample')}; for a finer picture: zeropool record -F {min(50000, plan.frequency * 10 + 9)} ...")
    if entry["lost"] > n / 50:
        found.append(f"lost, as the machine is busy: {plural(entry['lost'], 'sample')}; -F {max(1, plan.frequency // 5)} loses fewer")
    if entry["truncated"] > n / 20:
        found.append(f"{100 * entry['truncated'] // n} % of the stacks are deeper than {plan.stack} bytes; --stack 65528 sees more")
    if entry["unknown"] > n / 20:
        found.append(f"{100 * entry['unknown'] // n} % of the samples belong to no known code (made at run time?)")
    for module, weight in sorted(entry["modules"].items(), key=lambda m: -m[1])[:3]:
        if entry["total"] and weight / entry["total"] > 0.05:
            found.append(f"{100 * weight // entry['total']} % in {module}, which has no debug symbols; {perf.symbols_advice(module)}")
    return found
