#!/bin/sh
# SPDX-License-Identifier: MIT
# gcc compiles a generated file with -O2 and links it; the object is identical and the program prints the same.
# needs: /usr/bin/gcc (gcc)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

gen c 150000 >source.c
under gcc -O2 -frandom-seed=1 -c source.c -o source.o
under gcc source.o -o program
under ./program
under gcc -O0 -E source.c | digest
# An error must look the same too.
echo 'int main(void) { return undeclared; }' >wrong.c
! under gcc -c wrong.c -o wrong.o || die "gcc accepts a wrong program"
