#!/bin/sh
# SPDX-License-Identifier: MIT
# PostgreSQL sorts and aggregates with work_mem=32MB, in one process (postgres --single) on a prepared cluster.
set -eu

usage() {
    echo "usage: postgres_sort.sh --prepare DIR | --dir DIR [--scale N]"
    echo "  --prepare DIR  make the cluster and its table in DIR (needs a few seconds; once)"
    echo "  --dir DIR      run the queries on a prepared DIR; one result line"
    echo "  --scale N      run them 3 N times (a whole number, at least 1)"
}

die() {
    echo "postgres_sort.sh: $*" >&2
    exit 2
}

prepare="" dir="" scale=1
while [ $# -gt 0 ]; do
    case $1 in
        --help) usage; exit 0 ;;
        --prepare) prepare=${2:?}; shift 2 ;;
        --dir) dir=${2:?}; shift 2 ;;
        # Tools pass 1.0 as well; below one there is nothing less than three rounds.
        --scale) scale=${2%.*}; shift 2 ;;
        *) usage >&2; exit 2 ;;
    esac
done
[ "${scale:-0}" -ge 1 ] 2>/dev/null || scale=1
[ -n "$prepare$dir" ] || { usage >&2; exit 2; }

for bin in /usr/lib/postgresql/*/bin; do :; done
[ -x "$bin/postgres" ] || die "Debian package postgresql is missing"

# PostgreSQL refuses to run as root. What is measured is PostgreSQL, so the change of user goes without the preload.
as_user() {
    if [ "$(id -u)" -eq 0 ]; then
        exec env -u LD_PRELOAD setpriv --reuid postgres --regid postgres --clear-groups \
            env ${LD_PRELOAD:+"LD_PRELOAD=$LD_PRELOAD"} "$@"
    else
        exec "$@"
    fi
}

single() {
    (cd "$1" && as_user "$bin/postgres" --single -D "$1/pg" -c work_mem=32MB -c max_parallel_workers_per_gather=0 \
        -c jit=off -j postgres)
}

if [ -n "$prepare" ]; then
    dir=$(cd "$prepare" && pwd)
    [ ! -e "$dir/pg" ] || die "$dir/pg exists already"
    mkdir "$dir/pg"
    [ "$(id -u)" -ne 0 ] || chown postgres: "$dir/pg"
    (cd "$dir/pg" && as_user "$bin/initdb" -D "$dir/pg" -N --locale=C -E UTF8 -A trust -U postgres) >/dev/null
    # Small shared buffers: the table is read from the page cache, and what is measured is the sort's own memory.
    cat >>"$dir/pg/postgresql.conf" <<'CONF'
shared_buffers = 8MB
fsync = off
autovacuum = off
log_checkpoints = off
logging_collector = off
CONF
    # A statement ends at an empty line (-j).
    single "$dir" >/dev/null <<'SQL'
CREATE TABLE item AS SELECT i AS id, md5(i::text) AS key, (i * 7919::bigint) % 100003 AS weight
    FROM generate_series(1, 160000) i;

VACUUM ANALYZE item;

SQL
    exit 0
fi

dir=$(cd "$dir" && pwd)
[ -d "$dir/pg" ] || die "$dir is not prepared: run postgres_sort.sh --prepare $dir"
queries() {
    round=0
    while [ "$round" -lt $((3 * scale)) ]; do
        cat <<'SQL'
SELECT 'sort ' || count(*) || ' ' || md5(min(k || n)) AS r FROM (SELECT key AS k, row_number() OVER (ORDER BY key) AS n FROM item) t;

SELECT 'hash ' || count(*) || ' ' || max(n) AS r FROM (SELECT key, count(*) AS n FROM item GROUP BY key) t;

SELECT 'join ' || count(*) AS r FROM item a JOIN item b ON a.weight = b.id;

SELECT 'text ' || length(string_agg(key, ',' ORDER BY weight)) AS r FROM item;

SQL
        round=$((round + 1))
    done
}
# Not in one pipeline with sed: the status of the server must become that of this script.
answers=$(queries | single "$dir")
echo "$answers" | sed -n 's/^.*r = "\([^"]*\)".*/\1/p' | tr '\n' ' ' | sed 's/^/postgres_sort /; s/ $//'
echo
