// A recurrent layer in JavaScript, checked by `rnn-harness check "exec:node rnn.js"`; docs/other-languages.md explains
// the protocol. It has one layer and one direction.
const fs = require("node:fs");

let read = Buffer.alloc(0); // what has come and was not yet used

// The next `count` bytes of standard input, or the next line; the program ends with its input.
function next(count) {
  const chunk = Buffer.alloc(65536);
  const end = () => (count === undefined ? read.indexOf("\n") + 1 : read.length >= count ? count : 0);
  while (!end()) {
    const size = fs.readSync(0, chunk);
    if (size === 0) process.exit();
    read = Buffer.concat([read, chunk.subarray(0, size)]);
  }
  const taken = read.subarray(0, end());
  read = read.subarray(taken.length);
  return taken;
}

function say(header, ...arrays) {
  const parts = arrays.map((array) => Buffer.from(array.buffer));
  const message = Buffer.concat([Buffer.from(JSON.stringify(header) + "\n"), ...parts]);
  for (let at = 0; at < message.length; ) at += fs.writeSync(1, message, at);
}

say({ protocol: 1, software: `rnn.js on node ${process.version}` });
for (;;) {
  const config = JSON.parse(next().toString());
  const raw = next(config.bytes);
  const Numbers = config.dtype === "float64" ? Float64Array : Float32Array;
  const arrays = {};
  let start = 0;
  for (const [name, shape] of Object.entries(config.arrays)) {
    const bytes = shape.reduce((a, b) => a * b, 1) * Numbers.BYTES_PER_ELEMENT;
    arrays[name] = new Numbers(raw.buffer.slice(raw.byteOffset + start, raw.byteOffset + start + bytes));
    start += bytes;
  }
  if (config.num_layers > 1 || config.bidirectional) {
    say({ unsupported: "one layer, one direction" });
    continue;
  }
  const { T, N, input_size: I, hidden_size: H, bias, batch_first: first } = config;
  const { x, h0, weight_ih_l0: W, weight_hh_l0: U, bias_ih_l0: b, bias_hh_l0: c } = arrays;
  const phi = config.nonlinearity === "tanh" ? Math.tanh : (s) => Math.max(s, 0);
  const output = new Numbers(T * N * H);
  let h = h0;
  for (let t = 0; t < T; t++) {
    const state = new Numbers(N * H);
    for (let n = 0; n < N; n++) {
      const at = first ? n * T + t : t * N + n;
      for (let j = 0; j < H; j++) {
        let sum = bias ? b[j] + c[j] : 0;
        for (let i = 0; i < I; i++) sum += W[j * I + i] * x[at * I + i];
        for (let k = 0; k < H; k++) sum += U[j * H + k] * h[n * H + k];
        state[n * H + j] = phi(sum);
        output[at * H + j] = state[n * H + j];
      }
    }
    h = state;
  }
  say({ arrays: { output: first ? [N, T, H] : [T, N, H], h_n: [1, N, H] } }, output, h);
}
