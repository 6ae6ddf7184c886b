#!/bin/sh
# SPDX-License-Identifier: MIT
# Steps of scripts/test: each runs with a log of its own and leaves one line of counts for the summary.
#
# A step's command may close with 'N passed, N failed[, N skipped]' and name skips in lines 'SKIP: what: why' (or 'skip  what why'); one
# that does not counts as a single test, passed if it exits 0.
# shellcheck disable=SC2154

# start_steps FOLDER: logs and counts go there; what an earlier run left is removed.
start_steps() {
    logs=$1
    rm -rf "${logs:?}"
    mkdir -p "$logs" || die 1 "cannot write $logs"
    : >"$logs/counts"
    : >"$logs/skips"
}

# record NAME PASSED FAILED SKIPPED SECONDS
record() { printf '%s %s %s %s %s\n' "$@" >>"$logs/counts"; }

# skip_step NAME WHY
skip_step() {
    record "$1" 0 0 1 0
    printf '%s: %s\n' "$1" "$2" >>"$logs/skips"
    say "$1: skipped, $2"
}

# step NAME LABEL CMD...: never ends the script; a failure shows the end of its log.
step() {
    name=$1 title=$2
    shift 2
    from=$(now)
    status=0
    with_log "$title" "$logs/$name.log" "$@" || status=$?
    took=$(($(now) - from))
    closing=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$logs/$name.log" | tail -n 1)
    if [ -n "$closing" ]; then
        # shellcheck disable=SC2046 # three numbers
        set -- $(printf '%s\n' "$closing" | tr -dc '0-9\n ')
    elif [ "$status" -eq 0 ]; then
        set -- 1 0 0
    else
        set -- 0 1 0
    fi
    # A runner that dies after its count, or miscounts, must not pass.
    if [ "$status" -ne 0 ] && [ "$2" -eq 0 ]; then set -- "$1" 1 "${3:-0}"; fi
    record "$name" "$1" "$2" "${3:-0}" "$took"
    grep -E '^(SKIP|skip)[: ]' "$logs/$name.log" | sed "s/^[SKIPskip]*[: ]*/$name: /" >>"$logs/skips" || :
    if [ "$2" -eq 0 ] && [ "$1" -eq 0 ]; then
        say "$name: nothing was run, ${3:-0} skipped"
    elif [ "$2" -eq 0 ]; then
        say "$name: passed, $1 in $took s"
    else
        say "$name: FAILED, $2 of $(($1 + $2)) (exit status $status)"
        grep -E '^(FAIL|fail|ERROR)[: ]' "$logs/$name.log" | head -n 20 | sed 's/^/    | /' >&2 || :
        show_tail "$logs/$name.log" 25
    fi
}

# The table, the reasons of skips, and the closing line. Fails where a test failed.
summary() {
    {
        printf '\n%-12s %8s %8s %8s %9s\n' step passed failed skipped seconds
        awk '{ printf "%-12s %8d %8d %8d %9d\n", $1, $2, $3, $4, $5; p += $2; f += $3; s += $4; t += $5 }
            END { printf "%-12s %8d %8d %8d %9d\n", "all", p, f, s, t }' "$logs/counts"
        if [ -s "$logs/skips" ]; then
            printf '\nskipped:\n'
            sed 's/^/  /' "$logs/skips"
        fi
        printf '\nlogs: %s\n' "${logs#"$root/"}"
        awk '{ p += $2; f += $3; s += $4 } END { printf "%d passed, %d failed, %d skipped\n", p, f, s }' "$logs/counts"
    }
    awk '$3 > 0 { bad = 1 } END { exit bad }' "$logs/counts"
}
