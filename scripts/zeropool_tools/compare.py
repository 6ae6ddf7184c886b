# SPDX-License-Identifier: MIT
"""zeropool compare: the same command under several allocators, side by side."""
import os
import shlex

from . import compare_commands, elf, html, results, server, session, stats, table, variants
from .errors import MISMATCH, OK, OWN_FAILURE, UsageError, say
from .options import Command, Option, decimal_number, non_empty, whole_number
from .progress import Progress
from .words import plural


def allocator_list(text):
    entries = [e for e in (part.strip() for part in text.split(",")) if e]
    if not entries:
        raise ValueError("a list such as glibc,jemalloc,zeropool")
    return entries


COMMAND = Command(
    "compare", "[options] -- CMD...\n       zeropool compare [options] -- CMD A... --- CMD B...\n       zeropool compare [options] --server CMD --client CMD --ready TCP:PORT",
    "Runs CMD under several allocators in interleaved, shuffled rounds and shows time beside memory: medians, ratios to\n"
    "glibc with their 95 % interval, and in words whether there is a difference. Output and exit status of CMD must be\n"
    "the same under all of them. Its standard input is empty unless --input is given; its output is not shown. Several commands,\n"
    "parted by ---, are compared with each other, as they are (-a: each under each allocator); the first is the baseline.",
    (Option("--rounds", "rounds that count (default: 15 to 40, until the intervals are within 1 %)", "-n", "N",
            whole_number(1, 10000)),
     Option("--warmups", "rounds before that which do not count (default 1)", "-w", "W", whole_number(0, 1000), 1),
     Option("--allocators", "some of glibc, glibc-retain, jemalloc, mimalloc, tcmalloc, zeropool, zeropool+NAME,\n"
            "/path/to/lib.so, LABEL=any of these (default: the first six, as far as installed);\n"
            "ratios are to glibc, or to the first where glibc is not in the list", "-a", "LIST", allocator_list),
     Option("--scan", "compare CMD with each value in place of {NAME}, or where it has none, with the environment variable NAME set\n"
            "to it (ZEROPOOL_...: under the pool); A..B are whole numbers", None, "NAME=V,..", compare_commands.scan),
     Option("--json", "store everything, every run included, as JSON", None, "FILE", non_empty),
     Option("--csv", "store every run as a line of comma-separated values", None, "FILE", non_empty),
     Option("--markdown", "store the table as Markdown", None, "FILE", non_empty),
     Option("--html", "store one self-contained page with plots", None, "FILE", non_empty),
     Option("--rss-every", "after the rounds, run once more each to sample memory of the process tree, with PSS (default: RSS every\n20 ms of the last round)", None, "MS",
            whole_number(1, 60000)),
     Option("--input", "standard input of CMD", None, "FILE", non_empty),
     Option("--server", "start this under the allocators instead, once per run, and stop it after its client; words are\n"
            "split as in a shell, but no shell runs", None, "CMD", server.command_line),
     Option("--client", "what the server then has to serve; runs without the allocator, and its time is the wall time", None, "CMD",
            server.command_line),
     Option("--ready", "TCP:PORT: the server is ready when that port of this machine answers; TCP:auto: a free port.\n"
            "{port} in both commands stands for it", None, "TCP:PORT", server.ready_address),
     Option("--ready-timeout", "give up when the server is not ready after this long (default 30)", None, "S",
            decimal_number(0.1, 3600), 30.0),
     Option("--max-time", "without -n: stop after about this many seconds (default 300)", None, "S",
            decimal_number(1, 1e6), 300.0),
     Option("--timeout", "end CMD, and the comparison, when one run takes longer", None, "S", decimal_number(0.1, 1e6)),
     Option("--prepare", "run this before each run, unmeasured and without the allocator: fill or drop a cache, make a file; words\n"
            "are split as in a shell, but no shell runs ('sh -c ...' is one)", None, "CMD", server.command_line),
     Option("--cleanup", "the same after each run, however that ended", None, "CMD", server.command_line),
     Option("--fail-above", "for CI: exit 1 where an allocator takes significantly more time than the baseline, by more than\n"
            "PCT percent; needs at least 6 rounds", None, "PCT", decimal_number(0, 1e6)),
     Option("--ignore-output", "do not compare output and exit status"),
     Option("--seed", "of the order of runs (default fixed)", None, "N", whole_number(0, 2 ** 31), 20240229),
     Option("--quiet", "no progress", "-q"),
     Option("--help", "this text", "-h")),
    """Exit status: 0 measured; 1 output or exit status differs between allocators, or --fail-above; that of CMD (128+n for signal n) where
it fails under glibc itself; 2 wrong usage; 125 zeropool itself failed; 126, 127 CMD cannot be executed or was not
found; 130 after Ctrl-C (what was measured until then is shown).

Example: zeropool compare -a glibc,jemalloc,zeropool --html result.html -- python3 job.py
zeropool compare --ready TCP:auto --server 'redis-server --port {port} --save ""' --client 'redis-benchmark -q -p {port} -t set -d 262144'""")


def main(words):
    values, argv = COMMAND.parse(words)
    if values["help"]:
        print(COMMAND.help(), end="")
        return OK
    argv = client_or_command(values, argv)
    try:
        commands = compare_commands.split(argv)
    except ValueError as error:
        COMMAND.fail(str(error))
    if values["fail_above"] is not None and 0 < (values["rounds"] or 0) < stats.MIN_ROUNDS_FOR_VERDICT:
        COMMAND.fail(f"--fail-above needs at least {stats.MIN_ROUNDS_FOR_VERDICT} rounds (-n)")
    plan, notes = make_plan(values, commands)
    outcome = session.execute(plan, Progress(quiet=values["quiet"]))
    outcome.notes[:0] = notes
    return report(outcome, values)


def client_or_command(values, argv):
    """What runs to its end in each round."""
    given = [name for name in ("server", "client", "ready") if values[name] is not None]
    if not given:
        if not argv:
            COMMAND.fail("no command given")
        return argv
    if len(given) < 3:
        COMMAND.fail(f"--server, --client and --ready belong together; {' and '.join('--' + g for g in given)} came alone")
    if argv:
        COMMAND.fail("either a command or --server and --client")
    if values["ready"] == 0 and not any("{port}" in word for word in values["server"]):
        COMMAND.fail("with --ready TCP:auto, --server needs {port} where it takes its port")
    return values["client"]


def make_plan(values, commands):
    scanned = values["scan"]
    several = len(commands) > 1 or scanned
    given = compare_commands.expand(commands, scanned) if several else None
    if values["server"] and several and (len(commands) > 1 or not given[0].settings):
        COMMAND.fail("with --server, --scan sets a variable of the environment, and there is one client")
    if given:
        given = [compare_commands.Given(each.name, session.check_command(each.argv), each.settings) for each in given]
    argv = given[0].argv if given else session.check_command(commands[0])
    served = session.check_command(values["server"]) if values["server"] else None
    for key in ("json", "csv", "markdown", "html"):
        if values[key]:
            results.check_writable(values[key])
    if values["input"]:
        session.check_input(values["input"])
    explicit = values["allocators"] is not None
    default = compare_commands.default_allocators(scanned) if several else variants.NAMES
    chosen, notes = variants.resolve_all(values["allocators"] or default, explicit, least=1 if several else 2)
    for variant in chosen:
        variants.probe(variant, os.environ)
    if given:
        chosen = compare_commands.combine(given, chosen)
    names = [v.name for v in chosen]
    plan = session.Plan(argv, chosen, names.index("glibc") if "glibc" in names else 0, values["rounds"] or 0,
                        values["warmups"], values["max_time"], values["timeout"], values["input"],
                        (values["rss_every"] or 0) / 1000, values["ignore_output"], values["seed"], server=served,
                        commands=commands if given else None, given=given, scan=scanned.text if scanned else None,
                        port=values["ready"] or 0, ready_timeout_s=values["ready_timeout"],
                        **{key: session.check_command(values[key]) if values[key] else None for key in ("prepare", "cleanup")})
    notes += variants.remarks(os.environ)
    programs = [served] if served else [each.argv for each in given] if given else [argv]
    for obstacle in dict.fromkeys(o for program in programs for o in elf.obstacles(program[0]) if any(v.preload for v in chosen)):
        say(f"warning: {obstacle}")
        notes.append(obstacle)
    return plan, notes


def report(outcome, values):
    """Shows and stores what was measured; returns the exit status."""
    if outcome.failure:
        say(outcome.failure)
        return outcome.failure_status
    if not outcome.n_rounds:
        for mismatch in outcome.mismatches:
            say(mismatch)
        if outcome.mismatches:
            return MISMATCH
        say("interrupted before the first round was complete; nothing to report")
        return 128 + outcome.stopped_by
    result = results.build(outcome)
    print(headline(result))
    for line in compare_commands.legend(result):
        print(line)
    print(table.text(result))
    memory = table.memory_text(result)
    if memory:
        print("\n" + memory)
    print()
    for line in table.sentences(result):
        print(line)
    for note in result["notes"]:
        print(f"note: {note}")
    for key, make in (("json", results.to_json), ("csv", results.to_csv), ("markdown", table.markdown), ("html", html.page)):
        if values[key]:
            results.store(values[key], make(result))
            say(f"stored {values[key]}")
    for mismatch in outcome.mismatches:
        say(mismatch)
    if outcome.mismatches:
        return MISMATCH
    if outcome.stopped_by:
        say(f"interrupted; the table shows {plural(result['rounds'], 'complete round')}")
        return 128 + outcome.stopped_by
    status = OK if values["fail_above"] is None else judge(result, values["fail_above"])
    say(f"next: {advice(result)}")
    return status


def judge(result, limit):
    """The exit status of --fail-above."""
    if result["rounds"] < stats.MIN_ROUNDS_FOR_VERDICT:
        say(f"--fail-above: {stats.rounds_in_words(result['rounds'])} too few for a verdict (at least {stats.MIN_ROUNDS_FOR_VERDICT})")
        return OWN_FAILURE
    status = OK
    for variant in result["variants"]:
        ratio = results.ratio_of(variant["ratio"]["wall_s"]) if variant["ratio"] else None
        if ratio and 100 * (ratio.value - 1) > limit:
            what = f"{variant['name']} takes {100 * (ratio.value - 1):.1f} % more time than {result['baseline']}"
            say(f"{what}, --fail-above is {limit:g} %" if ratio.significant else f"{what}, but that may be chance")
            status = MISMATCH if ratio.significant else status
    return status


def headline(result):
    return f"{results.title(result)}: {plural(result['rounds'], 'round', 'interleaved rounds')}, medians, ratios to {result['baseline']}"


def advice(result):
    """The next useful command, from what was found."""
    command = shlex.join(result["command"])
    if result.get("given") and result["rounds"] >= stats.MIN_ROUNDS_FOR_VERDICT:
        return "zeropool compare --html FILE ...   (the runs one by one, as plots)"
    if result["rounds"] < stats.MIN_ROUNDS_FOR_VERDICT:
        return f"{results.again(result)}   (default rounds, enough for a verdict)"
    if result.get("server"):
        # {port} is a word of compare's; here a port must stand that can be had now.
        port = result["server"]["port"]
        words = server.with_port(result["server"]["command"], server.free_port() if port == "auto" else port)
        return f"zeropool run --stats -- {shlex.join(words)}   (what the pool does in it)"
    pools = [v for v in result["variants"] if v["ratio"] and v["name"].startswith("zeropool")]
    if any(v["ratio"]["wall_s"]["significant"] and v["ratio"]["wall_s"]["value"] < 1 for v in pools):
        return f"zeropool run -- {command}   (use the pool)"
    if not pools:
        return f"zeropool compare -a glibc,zeropool -- {command}"
    return "zeropool compare --html FILE ...   (the runs one by one, as plots)"


__all__ = ["COMMAND", "main", "UsageError"]
