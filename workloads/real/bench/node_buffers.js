// SPDX-License-Identifier: MIT
// Buffers of 1 to 40 MB in Node: concatenation, copies, conversion to text and back, as an upload handler does.
'use strict';
const { createHash } = require('crypto');

const ROUNDS = 36;

function handle(round) {
  const chunks = [];
  for (let i = 0; i < 10; i++) {
    chunks.push(Buffer.alloc(1000000 + i * 300000, round + i));
  }
  const body = Buffer.concat(chunks);
  const copy = Buffer.from(body);
  copy.writeUInt32LE(round, 1000);
  const back = Buffer.from(copy.toString('latin1'), 'latin1');
  return Buffer.concat([back.subarray(0, 20000000), body.subarray(10000000)]);
}

function main(args) {
  const scale = args.length === 2 && args[0] === '--scale' ? Number(args[1]) : 1;
  if (args.length !== 0 && args.length !== 2 || !(scale > 0)) {
    console.error('usage: node_buffers.js [--scale F]');
    return 2;
  }
  const rounds = Math.max(1, Math.round(ROUNDS * scale));
  const hash = createHash('sha1');
  for (let round = 0; round < rounds; round++) {
    const result = handle(round);
    hash.update(result.subarray(0, 65536)).update(result.subarray(-65536));
  }
  console.log('node_buffers', rounds, hash.digest('hex'));
  return 0;
}

process.exitCode = main(process.argv.slice(2));
