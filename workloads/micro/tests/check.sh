#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks that the benchmark programs do what they are taken to do: check.sh FOLDER-OF-PROGRAMS COUNTING-LIBRARY
#
# Counted calls show that no malloc was optimized away, page faults that memory is really touched, equal
# figures for equal seeds that every allocator is given the same work.
set -eu

programs=$1 counter=$2
failures=0

fail() {
    printf 'failed: %s\n' "$*" >&2
    failures=$((failures + 1))
}

# field NAME LINE: the number (or quoted word) of that name in a line of JSON.
field() {
    printf '%s\n' "$2" | sed -n 's/.*"'"$1"'":"\{0,1\}\([^,"}]*\).*/\1/p'
}

# run PROGRAM OPTION...: sets $line, fails where it is no JSON object.
run() {
    program=$programs/$1
    shift
    line=$("$program" "$@") || { fail "$program $* ended with status $?"; line='{}'; return 0; }
    case $line in
        '{"program":"'*'}') ;;
        *) fail "$program $*: not one line of JSON: $line" ;;
    esac
}

# at_least WHAT VALUE LIMIT, at_most WHAT VALUE LIMIT; both take decimals.
at_least() { awk -v a="${2:-x}" -v b="$3" 'BEGIN { exit !(a + 0 == a && a >= b) }' || fail "$1 is ${2:-missing}, less than $3"; }
at_most() { awk -v a="${2:-x}" -v b="$3" 'BEGIN { exit !(a + 0 == a && a <= b) }' || fail "$1 is ${2:-missing}, more than $3"; }

# counted WORD PROGRAM OPTION...: how many calls of that kind the program made.
counted() {
    word=$1 program=$programs/$2
    shift 2
    LD_PRELOAD=$counter "$program" "$@" 2>&1 >/dev/null | sed -n 's/.*'"$word"' \([0-9]*\).*/\1/p'
}

# Calls are made.
run pair --size=64K --seconds=0.005
pairs=$(($(field batches "$line") * $(field pairs_per_batch "$line")))
at_least "pairs of pair" "$pairs" 5000
at_least "mallocs of pair" "$(counted taken pair --size=64K --seconds=0.005)" 5000
at_least "frees of pair" "$(counted freed pair --size=64K --seconds=0.005)" 5000
at_least "aligned_allocs of pair" "$(counted taken pair --size=64K --align=4096 --seconds=0.005)" 5000
at_least "mallocs of touch" "$(counted taken touch --size=64K --seconds=0.005)" 1000
at_least "callocs of zeroed" "$(counted taken zeroed --size=64K --seconds=0.005)" 1000
at_least "reallocs of grow" "$(counted resized grow --to=8M --repeat=2)" 80
at_least "mallocs of liveset" "$(counted taken liveset --live=20 --low=64K --high=128K --turnover=5)" 120
at_least "frees of handoff" "$(counted freed handoff --blocks=500 --low=64K --high=128K)" 500
for words in "requests --low=16K --high=64K --requests=200 --threads=3" "hop --steps=3000 --threads=3" \
    "batches --objects=6400 --threads=5 --batch=64"; do
    # shellcheck disable=SC2086 # a program and its options
    run $words
    operations=$(field operations "$line")
    at_least "operations of $words" "$operations" 1600
    # shellcheck disable=SC2086
    freed=$(counted freed $words)
    at_least "frees of $words" "$freed" "$((operations - 3 * 8 * 2))" # hop keeps the blocks of its tasks
    at_most "frees of $words" "$freed" "$((operations + 100))"
done
at_least "mallocs of requests" "$(counted taken requests --requests=200 --low=16K)" 1600
at_least "mallocs of hop" "$(counted taken hop --steps=3000)" 3000
at_least "large mallocs of batches" "$(counted taken batches --objects=6400)" 5600
at_least "hops" "$(run hop --steps=3000 --threads=8 --pin=one; field hops "$line")" 300
at_least "mallocs of churn" "$(counted taken churn --threads=10)" 160

# Memory is touched: glibc gives 64 MiB by mmap, so every block faults on each of its 16384 pages.
run touch --size=64M --seconds=0.01
at_least "faults per block of 64 MiB" "$(field faults_per_block "$line")" 16384
run zeroed --size=64M --use=dense --seconds=0.01
at_least "faults per dense calloc of 64 MiB" "$(field faults_per_block "$line")" 16384
run zeroed --size=64M --use=sparse --seconds=0.01
at_least "faults per sparse calloc of 64 MiB" "$(field faults_per_block "$line")" 2
at_most "faults per sparse calloc of 64 MiB" "$(field faults_per_block "$line")" 10
for use in habit turns; do
    at_least "callocs of zeroed --use=$use" "$(counted taken zeroed --size=64K --use=$use --phase=10 --cycles=4)" 100
    run zeroed --size=64M --use=$use --phase=3 --cycles=1
    at_least "faults per block of zeroed --use=$use" "$(field faults_per_block "$line")" 8193
    at_most "faults per block of zeroed --use=$use" "$(field faults_per_block "$line")" 8210
    at_least "ns_dense of zeroed --use=$use" "$(field ns_dense "$line")" "$(field ns_sparse "$line")"
done
run fresh --size=64M
at_least "growth of fresh" "$(field rss_grown_bytes "$line")" 67108864
run sparse --bytes=64M
at_most "growth of sparse" "$(field rss_grown_bytes "$line")" 1048576

# Threads are pinned where --pin says, and else left alone.
for words in "liveset --live=8 --turnover=2 --threads=4" "requests --requests=40 --threads=4" "hop --steps=400 --threads=4" \
    "batches --objects=512 --threads=4" "handoff --blocks=40 --pairs=2"; do
    # shellcheck disable=SC2086 # a program and its options
    {
        at_most "pinned threads of $words" "$(counted pinned $words)" 0
        at_least "pinned threads of $words --pin=one" "$(counted pinned $words --pin=one)" 4
        at_most "processors of $words --pin=one" "$(counted cpus $words --pin=one)" 1
        at_least "processors of $words --pin=spread" "$(counted cpus $words --pin=spread)" "$(nproc | awk '{ print $1 < 4 ? $1 : 4 }')"
    }
done

# Memory is measured: RSS cannot be below what is live and touched, nor the peak below the mean.
for fill in pages all; do
    run liveset --live=20 --low=1M --high=2M --turnover=10 --fill=$fill
    at_least "mean RSS of liveset --fill=$fill" "$(field mean_rss_bytes "$line")" "$(field mean_live_bytes "$line")"
    at_least "peak RSS of liveset --fill=$fill" "$(field peak_rss_bytes "$line")" "$(field mean_rss_bytes "$line")"
done
run liveset --live=20 --low=1M --high=2M --turnover=10 --fill=none
at_most "mean RSS of an untouched live set" "$(field mean_rss_bytes "$line")" 16000000
run idle --bytes=64M --high=1M --seconds=0.1
at_least "RSS of the burst" "$(field rss_burst_bytes "$line")" 67108864
at_most "RSS after the burst" "$(field rss_0.1_bytes "$line")" 33554432
run idle --bytes=64M --high=1M --keep=0.5 --seconds=0 --threads=2
at_least "RSS beside kept blocks" "$(field rss_0_bytes "$line")" "$(field live_bytes "$line")"
run shift --live=32M --cycles=2
at_least "overhead of shift" "$(field overhead "$line")" 1
run tree --operations=20000
run handoff --blocks=500 --pairs=2
run settle --bytes=4M

# The same work for everyone: what is allocated depends on the seed alone.
for words in "liveset --live=64 --threads=4 --turnover=3" "shift --live=32M --cycles=1" "tree --operations=20000"; do
    # shellcheck disable=SC2086 # a program and its options
    run $words
    first=$(field operations "$line")$(field live_most_bytes "$line")$(field mean_live_bytes "$line")$(field checksum "$line")
    # shellcheck disable=SC2086
    GLIBC_TUNABLES=glibc.malloc.mmap_max=0 run $words
    second=$(field operations "$line")$(field live_most_bytes "$line")$(field mean_live_bytes "$line")$(field checksum "$line")
    case $words in
        *threads*) ;; # what is live at the moment of a sample depends on the other threads
        *) [ "$first" = "$second" ] || fail "$words: $first, then $second" ;;
    esac
done

# Wrong usage is said and ends with 2.
for words in "pair --size=64X" "pair --nonsense=1" "pair --align=3" "settle --bytes=0" "liveset --low=2M --high=1M" "zeroed --use=half" "zeroed --use=habit --phase=0" "idle --keep=2" "grow --factor=1" "requests --threads=65" "hop --pin=two" "batches --makers=3 --threads=4" "batches --batch=2000"; do
    status=0
    # shellcheck disable=SC2086
    message=$("$programs/"$words 2>&1) || status=$?
    { [ $status -eq 2 ] && [ -n "$message" ]; } || fail "$words: status $status, message '$message'"
done

[ $failures -eq 0 ] || exit 1
echo "all checks passed"
