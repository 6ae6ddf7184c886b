#!/bin/sh
# SPDX-License-Identifier: MIT
# sort orders a big file in memory with two threads, and through temporary files; uniq and join follow.
. "$SUITE_LIB"

gen text 24000000 11 >text
gen numbers 12000000 12 >numbers
under sort --parallel=2 -S 256M text | digest
under sort -S 4M -r -k 3 text | digest
under sort -n -u numbers >unique
under sort numbers | under uniq -c | under sort -rn | head -n 20
sort unique >left
tail -n 300000 numbers | sort -u >right
under join left right | digest
under tac text | under shuf --random-source=text | digest
under wc text numbers
