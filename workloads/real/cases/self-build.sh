#!/bin/sh
# SPDX-License-Identifier: MIT
# This project is configured and built by meson, ninja and gcc; the libraries come out byte for byte the same.
# needs: /usr/bin/meson (meson)
# needs: /usr/bin/ninja (ninja-build)
# needs: /usr/bin/gcc (gcc)
# long: a build of the whole project
# timeout: 600
# volatile: source/scripts/*/__pycache__/* compiled Python holds the times of its sources
# volatile: build/* logs, dependency files and times
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

# Both runs build the same snapshot, whatever happens to the tree between them.
if [ ! -e "$SUITE_SHARED/source.tar" ]; then
    root=$(cd "$SUITE_PROGRAMS/../../.." && pwd)
    if git -C "$root" rev-parse HEAD >/dev/null 2>&1; then
        git -C "$root" archive HEAD core shim workloads scripts docs LICENSE README.md meson.build meson_options.txt >"$SUITE_SHARED/source.tar"
    else
        tar -C "$root" -cf "$SUITE_SHARED/source.tar" core shim workloads scripts docs LICENSE README.md meson.build meson_options.txt
    fi
fi
mkdir source
tar -xf "$SUITE_SHARED/source.tar" -C source
under meson setup -Dtests=disabled build source >"$TMPDIR/log" 2>&1 || { cat "$TMPDIR/log" >&2; exit 1; }
under ninja -C build >>"$TMPDIR/log" 2>&1 || { tail -n 40 "$TMPDIR/log" >&2; exit 1; }
find build -name '*.so*' -type f | LC_ALL=C sort | while read -r library; do
    echo "$library $(digest "$library")"
done
