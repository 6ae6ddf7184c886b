#!/bin/sh
# SPDX-License-Identifier: MIT
# sqlite3 sorts in memory, stores and reads back large blobs, builds indices, vacuums and dumps.
# needs: /usr/bin/sqlite3 (sqlite3)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

gen random 20000000 21 >blob
under sqlite3 test.db <<'SQL'
PRAGMA page_size = 8192;
PRAGMA cache_size = -65536;
PRAGMA temp_store = MEMORY;
CREATE TABLE item (id INTEGER PRIMARY KEY, key TEXT, weight INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250000)
    INSERT INTO item SELECT i, printf('%08x', (i * 2654435761) & 0xffffffff), (i * 7919) % 10007 FROM n;
CREATE INDEX item_key ON item (key);
SELECT count(*), sum(weight), min(key), max(key) FROM item;
SELECT group_concat(key, '') FROM (SELECT key FROM item ORDER BY weight, key LIMIT 5);
SELECT length(group_concat(key)) FROM (SELECT key FROM item ORDER BY key DESC);
CREATE TABLE file (name TEXT, data BLOB);
INSERT INTO file VALUES ('blob', readfile('blob')), ('zeros', zeroblob(50000000));
SELECT name, length(data), writefile(name || '.out', data) FROM file;
UPDATE item SET key = key || '-' || weight WHERE id % 3 = 0;
DELETE FROM item WHERE weight < 500;
VACUUM;
PRAGMA integrity_check;
SELECT count(*) FROM item a JOIN item b ON b.key = a.key;
SQL
cmp blob blob.out
rm blob zeros.out
under sqlite3 test.db .dump | digest
