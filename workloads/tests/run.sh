#!/bin/sh
# SPDX-License-Identifier: MIT
# Check one program from outside: run.sh CHECK PROGRAM [ARGUMENT]...
#
#   determinism  same seed, same output, whatever the allocator does; another seed, another checksum
#   corruption   --inject-corruption is noticed: exit 1, one clear line, nothing on stdout
#   usage        mistakes on the command line: exit 2, one line on stderr that points to --help
#   interrupt    SIGINT and SIGTERM end it with that signal and leave nothing behind
#   failures     no memory, no directory, no room: exit 1 with a message
#   json         the report is one line of valid JSON with all fields (needs python3)
# shellcheck disable=SC2016  # the inner shells expand those
set -u
check=$1 program=$2
shift 2
name=${program##*/}
scratch=$(mktemp -d) || exit 99
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/tmp"
TMPDIR=$scratch/tmp
export TMPDIR

die() {
    echo "$name: $*" >&2
    sed 's/^/  stdout: /' "$scratch/out" >&2
    sed 's/^/  stderr: /' "$scratch/err" >&2
    exit 1
}

# run STATUS COMMAND...: it ends with that status and leaves no temporary files.
run() {
    expected=$1
    shift
    "$@" >"$scratch/out" 2>"$scratch/err"
    status=$?
    [ "$status" -eq "$expected" ] || die "exit status $status, not $expected, of: $*"
    [ -z "$(ls -A "$TMPDIR")" ] || die "left $(ls "$TMPDIR") behind: $*"
}

one_line() {
    [ "$(wc -l <"$scratch/err")" -eq 1 ] || die "not exactly one line on stderr: $*"
    grep -q "^$name: .*$1" "$scratch/err" || die "no line '$name: ...$1' on stderr"
}

case $check in
determinism)
    run 0 "$program" "$@" --checksum-only
    [ ! -s "$scratch/err" ] || die "something on stderr"
    cp "$scratch/out" "$scratch/first"
    # Other arenas, other thresholds, filled blocks: the output may not depend on any of it.
    run 0 env MALLOC_PERTURB_=165 MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=4096 "$program" "$@" --checksum-only
    cmp -s "$scratch/first" "$scratch/out" || die "differs from the first run: $(cat "$scratch/first")"
    run 0 "$program" "$@" --checksum-only --seed 2 --sample 0
    checksum='s/.*checksum //'
    [ "$(sed "$checksum" "$scratch/first")" != "$(sed "$checksum" "$scratch/out")" ] || die "the seed has no effect"
    ;;
corruption)
    run 0 "$program" "$@"
    run 1 "$program" "$@" --inject-corruption
    one_line corruption
    [ ! -s "$scratch/out" ] || die "a report in spite of corruption"
    ;;
usage)
    for bad in --nonsense --scale=0 --scale=nan --scale=1x --seed=-1 --seed=1.5 --seed= --json=1 --scale --full=yes \
        stray -x -- --sample=1e99; do
        run 2 "$program" "$bad"
        one_line "--help"
    done
    if [ "$name" = stress_test ]; then
        for bad in --phase=none '--seconds=1 --ops=5' '--seconds=1 --checksum-only' --budget=1T --largest=64k \
            --threads=0; do
            # shellcheck disable=SC2086  # two options
            run 2 "$program" $bad
            one_line "--help"
        done
    fi
    run 0 "$program" --help
    grep -q '^Usage:' "$scratch/out" || die "no usage"
    grep -q -- '--scale' "$scratch/out" || die "no options in --help"
    run 1 sh -c '"$1" --help >/dev/full' sh "$program"
    ;;
interrupt)
    run 130 timeout --preserve-status -s INT 0.7 "$program" "$@"
    run 143 timeout --preserve-status -s TERM 0.7 "$program" "$@"
    ;;
failures)
    run 1 sh -c 'exec "$0" "$@" >/dev/full' "$program" "$@"
    case $name in
    ml_checkpoint_loader | stress_test)
        run 1 sh -c 'ulimit -v 60000 && exec "$0"' "$program"
        grep -q -e 'out of memory' -e 'cannot start a thread' "$scratch/err" || die "no word about memory"
        ;;
    esac
    case $name in
    ml_checkpoint_loader | file_pipeline)
        run 1 env TMPDIR=/nonexistent "$program" "$@"
        one_line /nonexistent
        ;;
    esac
    if [ "$name" = ml_checkpoint_loader ]; then
        kept=$scratch/model.safetensors
        run 0 "$program" "$@" --checkpoint "$kept" --checksum-only
        cp "$scratch/out" "$scratch/first"
        run 0 "$program" "$@" --checkpoint "$kept" --checksum-only
        cmp -s "$scratch/first" "$scratch/out" || die "a kept checkpoint gives another checksum"
        run 1 "$program" "$@" --checkpoint "$kept" --seed 9
        one_line "wanted"
        printf x | dd of="$kept" bs=1 seek=100000 conv=notrunc 2>/dev/null
        run 1 "$program" "$@" --checkpoint "$kept"
        one_line corruption
        truncate -s 4000 "$kept"
        run 1 "$program" "$@" --checkpoint "$kept"
        one_line "bad checkpoint"
    fi
    ;;
json)
    run 0 "$program" "$@" --json
    python3 - "$scratch/out" "$name" <<'PYTHON' || die "the JSON report is not as documented"
import json, sys
text = open(sys.argv[1]).read()
assert text.count("\n") == 1 and text.endswith("\n"), "not one line"
report = json.loads(text)
assert report["program"] == sys.argv[2]
for name in ("operations", "bytes", "units", "peak_rss_kib", "minor_faults"):
    assert isinstance(report[name], int) and report[name] > 0, name
for name in ("operations_per_second", "units_per_second", "elapsed_seconds"):
    assert report[name] > 0, name
for call in ("malloc", "free"):
    latency = report[call + "_ns"]
    assert latency["count"] > 0, call
    assert 0 <= latency["p50"] <= latency["p99"] <= latency["max"], call
calls = sum(report[c + "_ns"]["count"] for c in ("malloc", "calloc", "realloc", "free"))
assert calls == report["operations"], "every call is timed by default"
# realloc takes one block and gives one: without leaks malloc and calloc balance free.
assert report["malloc_ns"]["count"] + report["calloc_ns"]["count"] == report["free_ns"]["count"], "leak"
assert isinstance(report["parameters"], dict) and int(report["checksum"], 16) > 0
PYTHON
    ;;
*)
    echo "run.sh: unknown check '$check'" >&2
    exit 99
    ;;
esac
