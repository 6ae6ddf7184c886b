<?php
// SPDX-License-Identifier: MIT
// Large strings, arrays, regular expressions, zlib, iconv and a spl array; prints checksums only.
ini_set('memory_limit', '-1');

function show(string $name, string $data): void
{
    printf("%s %d %s\n", $name, strlen($data), substr(hash('sha256', $data), 0, 32));
}

mt_srand(42);
$grown = '';
for ($i = 0; $i < 300000; $i++) {
    $grown .= dechex(mt_rand()) . ";$i\n";
}
show('grown', $grown);
show('repeat', str_repeat($grown, 6));

$lines = explode("\n", $grown);
sort($lines, SORT_STRING);
show('sorted', implode("\n", $lines));
show('replaced', preg_replace('/([0-9a-f]{4});(\d+)/', '$2:$1', $grown));
show('json', json_encode(array_slice($lines, 0, 100000)));
if (function_exists('gzcompress')) {
    show('zlib', gzuncompress(gzcompress($grown, 1)));
}
if (function_exists('iconv')) {
    show('iconv', iconv('UTF-8', 'UTF-16LE', $grown));
}
$fixed = new SplFixedArray(2000000);
for ($i = 0; $i < 2000000; $i++) {
    $fixed[$i] = ($i * 7919) % 1000003;
}
printf("fixed %d\n", array_sum(array_slice($fixed->toArray(), 0, 1000000)));
file_put_contents('php-output', $grown . $grown);
show('file', file_get_contents('php-output'));
