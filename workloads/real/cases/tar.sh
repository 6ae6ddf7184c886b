#!/bin/sh
# SPDX-License-Identifier: MIT
# tar packs, lists, extracts and compares a tree, plain and through gzip and xz.
# needs: /usr/bin/xz (xz-utils)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

mkdir tree
gen text 6000000 3 | (cd tree && split -b 20000 -a 3 - part)
gen random 12000000 4 >tree/large
ln -s large tree/link
ln tree/partaaa tree/hard

pack() {
    under tar --sort=name --mtime=@1700000000 --owner=0 --group=0 --numeric-owner "$@" tree
}
pack -cf plain.tar
pack -cf packed.tar.xz --use-compress-program='xz -0 -T2'
pack -c | under gzip -n1 >packed.tar.gz
under tar -tvf plain.tar | digest
mkdir out
under tar -xf packed.tar.xz -C out
under tar -cf "$TMPDIR/exact.tar" tree
under tar -df "$TMPDIR/exact.tar"
(cd out && find tree -type f -exec sha256sum {} + | LC_ALL=C sort | digest)
under tar -xzOf packed.tar.gz tree/large | digest
