#!/bin/sh
# SPDX-License-Identifier: MIT
# Helpers that every case sources: how to run the program under test, test data, users, checks.
set -eu
umask 022

PYTHON=/usr/bin/python3

# Run the program under test: with the library in the second run, without it in the first. Everything a case
# runs without this word is a helper and never sees the library.
under() {
    env ${SUITE_PRELOAD:+"LD_PRELOAD=$SUITE_PRELOAD"} "$@" || note_status $? "$1"
}

# Keep a status for the comparison: in a pipeline the shell drops it, and a crash at exit would go unseen.
# 141 is SIGPIPE, which depends on who is faster.
note_status() {
    [ "$1" -eq 141 ] || echo "$2: status $1" >>"$SUITE_STATUSES"
    return "$1"
}

# gen KIND BYTES [SEED]: deterministic test data on standard output; kinds: see programs/gen.py.
gen() {
    "$PYTHON" -I "$SUITE_PROGRAMS/gen.py" "$@"
}

# The SHA-256 of standard input or of the files named, with the names left out.
digest() {
    sha256sum "$@" | cut -d ' ' -f 1
}

# Run a helper as a user without rights when we are root (PostgreSQL refuses root); otherwise as ourselves.
unprivileged() {
    if [ "$(id -u)" -ne 0 ]; then
        "$@"
    else
        user=$(unprivileged_user)
        setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups "$@"
    fi
}

# The same for the program under test.
under_unprivileged() {
    unprivileged env ${SUITE_PRELOAD:+"LD_PRELOAD=$SUITE_PRELOAD"} "$@" || note_status $? "$1"
}

unprivileged_user() {
    if id postgres >/dev/null 2>&1; then
        echo postgres
    else
        echo nobody
    fi
}

# skip REASON: the case cannot run here.
skip() {
    echo "$*" >&2
    exit 77
}

# die REASON: a check inside the case failed.
die() {
    echo "case: $*" >&2
    exit 1
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
    tries=$(($1 * 20))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || die "gave up waiting for: $*"
        sleep 0.05
    done
}
