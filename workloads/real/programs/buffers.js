// SPDX-License-Identifier: MIT
// Buffers of many sizes, worker threads with transferred and shared memory, zlib, crypto and files.
'use strict';
const { createHash, createCipheriv } = require('crypto');
const fs = require('fs');
const zlib = require('zlib');
const { Worker, isMainThread, parentPort } = require('worker_threads');

function digest(data) {
  return createHash('sha256').update(data).digest('hex').slice(0, 32);
}

function noise(bytes, seed) {
  const key = Buffer.alloc(16, seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(bytes));
}

function work() {
  parentPort.on('message', ({ number, block, shared }) => {
    const bytes = Buffer.from(block);
    const copies = [];
    for (let i = 0; i < 8; i++) {
      copies.push(Buffer.concat([bytes, Buffer.alloc(100000 * (i + 1), i)]));
    }
    Atomics.add(new Int32Array(shared), number, bytes.length);
    const result = digest(Buffer.concat(copies));
    parentPort.postMessage({ number, result, block }, [block]);
  });
}

function runWorkers() {
  const shared = new SharedArrayBuffer(4096);
  return Promise.all([0, 1, 2, 3].map((number) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename);
    let rounds = 0;
    const send = (block) => worker.postMessage({ number, block, shared }, [block]);
    worker.on('error', reject);
    worker.on('message', ({ result, block }) => {
      rounds += 1;
      if (rounds < 6) {
        send(block);
      } else {
        worker.terminate().then(() => resolve(`worker ${number} ${result} ${new Int32Array(shared)[number]}`));
      }
    });
    const data = noise(3000000 + number * 500000, number + 1);
    send(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
  })));
}

async function main() {
  const block = noise(8 << 20, 9);
  console.log('noise', digest(block));
  for (const size of [1000, 40000, 300000, 5000000, 70000000]) {
    const fill = Buffer.alloc(size, 'pattern');
    console.log('alloc', size, digest(fill), Buffer.compare(fill, Buffer.from(fill)));
  }
  let grown = Buffer.alloc(0);
  for (let i = 1; i <= 60; i++) {
    grown = Buffer.concat([grown, block.subarray(0, i * 5000)]);
  }
  console.log('grown', grown.length, digest(grown));
  const packed = zlib.deflateSync(Buffer.concat([grown, Buffer.alloc(20 << 20)]));
  console.log('deflate', digest(packed), digest(zlib.inflateSync(packed)));
  console.log('text', digest(block.toString('base64') + block.toString('latin1')));
  fs.writeFileSync('block', block);
  console.log('file', digest(fs.readFileSync('block')));
  const floats = new Float64Array(2000000).map((_, i) => Math.abs(((i * 7919) % 1000003) - 500000));
  floats.sort();
  console.log('floats', digest(Buffer.from(floats.buffer)));
  for (const line of await runWorkers()) {
    console.log(line);
  }
}

if (isMainThread) {
  main();
} else {
  work();
}
