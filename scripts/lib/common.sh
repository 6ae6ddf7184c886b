#!/bin/sh
# SPDX-License-Identifier: MIT
# Shared by quickstart and test: messages, and running a long command with its output in a log and signs of life.
#
# Sourced after $me (the name in messages) and $root (the top of the source tree) are set.
# shellcheck disable=SC2154

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { code=$1; shift; say "$*"; exit "$code"; }

# A process group of its own cannot be had in POSIX sh without job control, so what runs is remembered and ended.
running_pid=
end_running() {
    [ -z "$running_pid" ] || kill "$running_pid" 2>/dev/null || :
    running_pid=
}
on_signal() {
    trap '' INT TERM HUP
    [ ! -t 2 ] || printf '\r\033[K' >&2
    say "interrupted"
    end_running
    exit "$1"
}
trap 'on_signal 130' INT
trap 'on_signal 143' TERM
trap 'on_signal 129' HUP

now() { date +%s; }

# with_log LABEL LOG CMD...: runs CMD with all its output in LOG; shows LABEL and the seconds gone by, on a terminal
# in place, elsewhere as a line every half minute. Returns CMD's status.
with_log() {
    label=$1 log=$2
    shift 2
    begun=$(now)
    "$@" >"$log" 2>&1 </dev/null &
    running_pid=$!
    last=0
    while kill -0 "$running_pid" 2>/dev/null; do
        gone=$(($(now) - begun))
        if [ -t 2 ]; then
            printf '\r\033[K%s: %s ... %d s' "$me" "$label" "$gone" >&2
        elif [ "$gone" -ge $((last + 30)) ]; then
            last=$gone
            say "$label ... $gone s"
        fi
        sleep 0.2 2>/dev/null || sleep 1
    done
    with_log_status=0
    wait "$running_pid" || with_log_status=$?
    running_pid=
    [ ! -t 2 ] || printf '\r\033[K' >&2
    return "$with_log_status"
}

# The end of a log, set off from our own lines.
show_tail() {
    tail -n "${2:-15}" "$1" 2>/dev/null | sed 's/^/    | /' >&2
}
