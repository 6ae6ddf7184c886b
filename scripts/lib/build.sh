#!/bin/sh
# SPDX-License-Identifier: MIT
# Configures and builds one build folder; a second call only rebuilds what changed.
# shellcheck disable=SC2154

# build_tree FOLDER [MESON OPTION...]; the log is build-logs/FOLDER.log. A configuration that fails leaves no half a
# folder, which the next call would take for a whole one. With built_only, a regular expression, only the programs and libraries whose
# names in that folder match.
build_tree() {
    folder=$1
    shift
    tree_log=$root/build-logs/$folder.log
    [ ! -e "$root/$folder" ] || [ -w "$root/$folder" ] ||
        die 1 "$folder belongs to another user (built through sudo?); remove it, or run as that user"
    # In a subshell, because a failing redirection would end the script before it can say anything.
    if ! mkdir -p "$root/build-logs" 2>/dev/null || ! (: >"$tree_log") 2>/dev/null; then
        die 1 "cannot write $tree_log (another user's? built through sudo?)"
    fi
    if [ ! -f "$root/$folder/build.ninja" ]; then
        rm -rf "${root:?}/$folder"
        with_log "configuring $folder" "$tree_log" meson setup "$root/$folder" "$root" "$@" || {
            show_tail "$tree_log"
            rm -rf "${root:?}/$folder"
            say "meson setup failed; by hand: meson setup $folder $*"
            return 1
        }
    elif [ $# -gt 0 ]; then
        with_log "configuring $folder" "$tree_log" meson configure "$root/$folder" "$@" || {
            show_tail "$tree_log"
            return 1
        }
    fi
    set --
    if [ -n "${built_only:-}" ]; then
        # shellcheck disable=SC2046 # a list of names
        set -- $(ninja -C "$root/$folder" -t targets rule c_LINKER | grep -E "$built_only")
        [ $# -gt 0 ] || {
            say "$folder has nothing that matches $built_only"
            return 1
        }
    fi
    with_log "building $folder" "$tree_log" ninja -C "$root/$folder" "$@" || {
        # ninja puts the failing command's output before its own closing lines.
        grep -n -m1 -A12 '^FAILED' "$tree_log" | sed 's/^/    | /' >&2 || show_tail "$tree_log"
        say "build failed (whole log: build-logs/$folder.log); by hand: ninja -C $folder"
        return 1
    }
}
