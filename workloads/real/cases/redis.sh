#!/bin/sh
# SPDX-License-Identifier: MIT
# redis-server under redis-benchmark with 256 KiB values, then its content, saved by a forked child and loaded again.
# needs: /usr/bin/redis-server (redis-server)
# needs: /usr/bin/redis-benchmark (redis-tools)
# stderr: ignore redis-benchmark writes progress there
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

socket=$TMPDIR/s
cd "$TMPDIR"

start() {
    under redis-server --port 0 --unixsocket "$socket" --dir "$TMPDIR" --dbfilename dump.rdb --save '' \
        --enable-debug-command local --daemonize no --logfile "$TMPDIR/log" &
    wait_for 20 redis-cli -s "$socket" ping
}
cli() {
    redis-cli -s "$socket" "$@"
}
content() {
    cli dbsize
    cli debug digest
    cli get value:50 | digest
    under redis-cli -s "$socket" get value:50 | digest
}

start
# Rates vary; that all requests were answered does not.
under redis-benchmark -s "$socket" -d 262144 -n 2000 -r 20 -c 20 -t set,get --csv >benchmark.csv
under redis-benchmark -s "$socket" -d 262144 -n 600 -c 20 -t lpush,lpop --csv >>benchmark.csv
cut -d , -f 1 benchmark.csv
cli dbsize
for number in 0 7 19; do
    cli get "key:00000000000$number" | digest
    cli get "key:0000000000$number" | digest
done
cli debug digest
cli flushall

# Growing, shrinking and many sizes; clients with and without the library see the same.
for number in $(seq 1 60); do
    head -c $((number * 20000)) /dev/zero | tr '\0' "$(printf '\\%03o' $((number % 26 + 97)))" >value
    under redis-cli -s "$socket" -x set "value:$number" <value
done >answers
sort -u answers
cli append value:60 tail
cli setrange value:59 3000000 end
cli eval 'local s = redis.call("get", "value:50"); for i = 1, 20 do redis.call("rpush", "list", s .. i) end return #s' 0
cli del value:10 value:20 value:30
under redis-cli -s "$socket" get value:59 | digest
content

cli bgsave >/dev/null
wait_for 20 sh -c "redis-cli -s '$socket' info persistence | grep -q 'rdb_bgsave_in_progress:0'"
cli info persistence | grep rdb_last_bgsave_status
cli debug reload
content
cli shutdown nosave 2>/dev/null || true
wait
start
content
cli memory purge
cli shutdown nosave 2>/dev/null || true
wait
