#!/bin/sh
# SPDX-License-Identifier: MIT
# sort orders a big file in memory with two threads, and through temporary files; uniq and join follow.
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

gen text 16000000 11 >text.in
gen numbers 9000000 12 >numbers.in
under sort --parallel=2 -S 256M text.in | digest
under sort -S 4M -r -k 3 text.in | digest
under sort -n -u numbers.in >unique
under sort numbers.in | under uniq -c | under sort -rn | head -n 20
sort unique >left
tail -n 300000 numbers.in | sort -u >right
under join left right | digest
under tac text.in | under shuf --random-source=text.in | digest
under wc text.in numbers.in
