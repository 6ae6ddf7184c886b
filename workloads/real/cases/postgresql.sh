#!/bin/sh
# SPDX-License-Identifier: MIT
# PostgreSQL: initdb, a server, sorts and aggregates with work_mem=32MB, parallel plans, large values, dump.
# needs: /usr/lib/postgresql/*/bin/postgres (postgresql)
# timeout: 90
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

for bin in /usr/lib/postgresql/*/bin; do :; done
unprivileged test -w "$TMPDIR" || skip "the unprivileged user cannot write below $TMPDIR"
cluster=$TMPDIR/cluster
cp "$SUITE_PROGRAMS/sort.sql" "$TMPDIR/sort.sql"
cd "$TMPDIR"

under_unprivileged "$bin/initdb" -D "$cluster" -N --locale=C.UTF-8 -A trust -U postgres >initdb.log
grep -c 'ok$' initdb.log
cat >>"$cluster/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$TMPDIR'
work_mem = 32MB
maintenance_work_mem = 64MB
fsync = off
jit = off
min_parallel_table_scan_size = 0
parallel_setup_cost = 0
parallel_tuple_cost = 0
CONF
unprivileged touch server.log
trap 'unprivileged "$bin/pg_ctl" -D "$cluster" -s -m immediate stop 2>/dev/null || true' EXIT
under_unprivileged "$bin/pg_ctl" -D "$cluster" -s -w -l "$TMPDIR/server.log" start
under_unprivileged "$bin/psql" -h "$TMPDIR" -U postgres -X -q -A -t -v ON_ERROR_STOP=1 -f sort.sql
# Newer versions wrap a dump in \restrict commands with a random word.
under_unprivileged "$bin/pg_dump" -h "$TMPDIR" -U postgres -t item | grep -v '^[\\]' | digest
under_unprivileged "$bin/pg_ctl" -D "$cluster" -s -m fast stop
trap - EXIT
grep -E 'PANIC|FATAL|ERROR|terminated by' server.log || true
