-- SPDX-License-Identifier: MIT
-- Sorts, hashes, aggregates and large values; prints checksums only.
CREATE TABLE item AS
    SELECT i AS id, md5(i::text) AS key, (i * 7919::bigint) % 10007 AS weight FROM generate_series(1, 200000) i;
ANALYZE item;
SELECT count(*), sum(weight), md5(string_agg(key, '' ORDER BY key)) FROM item;
SELECT md5(string_agg(key, '' ORDER BY weight DESC, key)) FROM item;
SELECT count(*), max(n) FROM (SELECT weight, count(*) AS n FROM item GROUP BY weight) g;
SELECT count(*) FROM item a JOIN item b ON a.weight = b.weight AND a.id < 2000;
SET max_parallel_workers_per_gather = 2;
SELECT md5(string_agg(k, '')) FROM (SELECT key AS k FROM item ORDER BY key DESC LIMIT 1000) t;
SELECT sum(weight), count(DISTINCT key) FROM item;
CREATE INDEX item_key ON item (key);
SELECT weight FROM item WHERE key = md5('77777');
SELECT length(v), md5(v) FROM (SELECT string_agg(key, ',') AS v FROM (SELECT key FROM item ORDER BY id) t) u;
CREATE TABLE large AS SELECT i, repeat(md5(i::text), 100000) AS value FROM generate_series(1, 12) i;
SELECT sum(length(value)), md5(string_agg(md5(value), '' ORDER BY i)) FROM large;
SELECT cardinality(array_agg(id ORDER BY key)) FROM item;
SELECT md5(jsonb_agg(jsonb_build_object('k', key) ORDER BY id)::text) FROM item WHERE id <= 50000;
UPDATE item SET key = key || weight WHERE id % 2 = 0;
VACUUM FULL item;
SELECT md5(string_agg(key, '' ORDER BY id)) FROM item;
