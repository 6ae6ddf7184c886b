#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the Debian packages that are missing, and only those; explains in one line why where it cannot.
# shellcheck disable=SC2034,SC2154

# Needed to build, and to compare with jemalloc and a real program.
quickstart_packages='gcc libc6-dev meson ninja-build pkgconf systemtap-sdt-dev libjemalloc2 python3 python3-numpy'
# Needed for all tests besides.
test_packages='libcriterion-dev g++ shellcheck pyflakes3 clang-format binutils git procps spin linux-perf libmimalloc2.0 libtcmalloc-minimal4 abigail-tools python3-prometheus-client'
# Needed for the fuzz target, which is skipped without them; not installed for --quick.
fuzz_packages='clang libclang-rt-14-dev'
# A machine for the tests that change theirs (scripts/test-vm, for --long only).
vm_packages='qemu-system-x86 debootstrap busybox-static cpio e2fsprogs'
# Opens the flamegraphs.
browser_packages='chromium chromium-driver'
# Open the profiles that `zeropool report` exports; from npm, where it is there.
viewer_packages='speedscope@1.25.0 @firefox-devtools/profiler-cli@0.10.0'

# missing_packages NAME...: those of them that are not installed.
missing_packages() {
    for package in "$@"; do
        case $(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null) in
            ii* | hi*) ;;
            *) printf '%s ' "$package" ;;
        esac
    done
}

# ensure_packages NAME...: installs what is missing. Nothing missing: nothing is asked of the network, and no
# rights are needed.
ensure_packages() {
    { command -v apt-get && command -v dpkg-query; } >/dev/null ||
        die 1 "no apt-get here: this script installs on Debian and its kin only; by hand: install $*, then run meson"
    wanted=$(missing_packages "$@")
    wanted=${wanted% }
    if [ -z "$wanted" ]; then
        say "packages: all there"
        return 0
    fi
    by_hand="apt-get update && apt-get install -y --no-install-recommends $wanted"
    if [ "$(id -u)" -eq 0 ]; then
        become=
    elif command -v sudo >/dev/null; then
        # Without a terminal a password cannot be asked for; then sudo must work without one.
        if [ -t 0 ] && [ -t 2 ]; then
            become='sudo'
            sudo true
        else
            become='sudo -n'
            sudo -n true 2>/dev/null
        fi || die 1 "sudo refuses; as root: $by_hand"
    else
        die 1 "no rights to install: not root, and no sudo; as root: $by_hand"
    fi
    say "installing: $wanted"
    apt_folder=$(mktemp -d "${TMPDIR:-/tmp}/zeropool-apt.XXXXXX") || die 1 "no folder for apt's log in ${TMPDIR:-/tmp}"
    apt_log=$apt_folder/log
    # Lists may be absent on a fresh machine. A failing update alone is no reason to stop: the old lists may do.
    with_log "apt-get update" "$apt_log" apt_get update || :
    # shellcheck disable=SC2086 # a list of names
    if ! with_log "apt-get install" "$apt_log.install" apt_get install -y --no-install-recommends $wanted; then
        cat "$apt_log.install" >>"$apt_log"
        show_tail "$apt_log" 8
        reason='apt-get failed'
        if grep -qiE 'could not (resolve|connect)|temporary failure|unable to (connect|locate)|failed to fetch|network is unreachable' \
            "$apt_log"; then
            reason='no network, or the package lists cannot be fetched'
        fi
        die 1 "$reason (whole log: $apt_log); by hand: $by_hand"
    fi
    rm -rf "$apt_folder"
}

# ensure_viewers FOLDER: puts viewer_packages there. Without npm, or where it cannot fetch them, their tests are skipped.
ensure_viewers() {
    command -v npm >/dev/null || return 0
    if [ "$(cat "$1/installed" 2>/dev/null)" = "$viewer_packages" ]; then
        say "viewers: all there"
        return 0
    fi
    mkdir -p "$1"
    # shellcheck disable=SC2086 # a list of names
    if with_log "npm install" "$1/log" timeout 120 npm install --prefix "$1" --no-audit --no-fund --ignore-scripts $viewer_packages; then
        printf '%s\n' "$viewer_packages" >"$1/installed"
    else
        say "npm cannot install $viewer_packages (whole log: $1/log); tests that open exported profiles in them are skipped"
    fi
}

# Ends in exec, so that the process that with_log knows is apt-get (or sudo, which passes signals on).
apt_get() {
    # The lock: another apt may be at work, e.g. unattended upgrades on a machine that has just started.
    # shellcheck disable=SC2086 # empty, or sudo with its option
    exec $become env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2 "$@"
}
