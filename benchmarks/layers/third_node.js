// A recurrent layer in plain JavaScript. Reads one request a line, JSON, from standard input; answers likewise.
// Numbers travel as base64 of little-endian doubles.

const readline = require("node:readline");

const decode = (text) => {
  const bytes = Buffer.from(text, "base64");
  return new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
};

const encode = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");

const relu = (s) => (s < 0 ? 0 : s);

// x is (T, N, I), h is (N, H), both flat. A new state is made of the whole old one.
function fresh(x, h0, w, u, b, { T, N, I, H, nonlinearity }) {
  const phi = nonlinearity === "tanh" ? Math.tanh : relu;
  const out = new Float64Array(T * N * H);
  let h = Float64Array.from(h0);
  for (let t = 0; t < T; t++) {
    const next = new Float64Array(N * H);
    for (let n = 0; n < N; n++) {
      for (let j = 0; j < H; j++) {
        let s = b[j];
        for (let i = 0; i < I; i++) s += w[j * I + i] * x[(t * N + n) * I + i];
        for (let k = 0; k < H; k++) s += u[j * H + k] * h[n * H + k];
        next[n * H + j] = phi(s);
      }
    }
    h = next;
    out.set(h, t * N * H);
  }
  return [out, h];
}

// The same without an allocation in the loop.
function inPlace(x, h0, w, u, b, { T, N, I, H, nonlinearity }) {
  const phi = nonlinearity === "tanh" ? Math.tanh : relu;
  const out = new Float64Array(T * N * H);
  const h = Float64Array.from(h0);
  for (let t = 0; t < T; t++) {
    for (let n = 0; n < N; n++) {
      for (let j = 0; j < H; j++) {
        let s = b[j];
        for (let i = 0; i < I; i++) s += w[j * I + i] * x[(t * N + n) * I + i];
        for (let k = 0; k < H; k++) s += u[j * H + k] * h[n * H + k];
        h[n * H + j] = phi(s);
      }
    }
    out.set(h, t * N * H);
  }
  return [out, h];
}

const layers = { fresh, inPlace };

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { layer, sizes, x, h, w, u, b } = JSON.parse(line);
  const [out, last] = layers[layer](decode(x), decode(h), decode(w), decode(u), decode(b), sizes);
  process.stdout.write(JSON.stringify({ out: encode(out), last: encode(last) }) + "\n");
});
