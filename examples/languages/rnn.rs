// A recurrent layer in Rust, checked by `rnn-harness check exec:./rnn`; docs/other-languages.md explains the protocol.
//   rustc -O --edition 2021 rnn.rs
use std::io::{self, BufRead, Read, Write};

/// The text behind a field's name in the header, which is one line, with one space behind each colon.
fn field<'a>(header: &'a str, name: &str) -> &'a str {
    let key = format!("\"{name}\": ");
    header.find(&key).map_or("null", |at| header[at + key.len()..].split([',', '}']).next().unwrap())
}

fn number(header: &str, name: &str) -> usize {
    field(header, name).trim().parse().unwrap()
}

fn unsupported(header: &str) -> Option<&str> {
    if field(header, "bidirectional") == "true" {
        return Some("one direction only");
    }
    (field(header, "training") == "true" && field(header, "dropout") != "0.0").then_some("dropout in training")
}

fn main() -> io::Result<()> {
    let (mut input, mut out) = (io::stdin().lock(), io::stdout().lock());
    writeln!(out, r#"{{"protocol": 1, "offers": {{"dtype": ["float32"]}}, "software": "rnn.rs"}}"#)?;
    out.flush()?;
    let mut header = String::new();
    while input.read_line(&mut header)? > 0 {
        let mut bytes = vec![0; number(&header, "bytes")]; // the arrays, one behind the other
        input.read_exact(&mut bytes)?;
        if let Some(why) = unsupported(&header) {
            writeln!(out, r#"{{"unsupported": "{why}"}}"#)?;
        } else {
            let all: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            let (shapes, arrays) = run(&header, &all);
            writeln!(out, r#"{{"arrays": {shapes}}}"#)?;
            out.write_all(&arrays.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        out.flush()?;
        header.clear();
    }
    Ok(())
}

/// Returns the shapes of output and h_n, as JSON, and their numbers.
fn run(header: &str, all: &[f32]) -> (String, Vec<f32>) {
    let [t, n, features, h, layers] = ["T", "N", "input_size", "hidden_size", "num_layers"].map(|of| number(header, of));
    let [bias, first] = ["bias", "batch_first"].map(|of| field(header, of) == "true");
    let act: fn(f32) -> f32 = if field(header, "nonlinearity") == "\"tanh\"" { f32::tanh } else { |s| s.max(0.0) };
    let mut rest = all;
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at(count);
        rest = left;
        taken
    };
    let mut steps = take(t * n * features).to_vec(); // (T, N, features), or (N, T, features) with batch_first
    let mut h_n = take(layers * n * h).to_vec();
    for state in h_n.chunks_mut(n * h) {
        let size = steps.len() / (t * n);
        let (w_ih, w_hh) = (take(h * size), take(h * h));
        let (b_ih, b_hh) = if bias { (take(h), take(h)) } else { (&[][..], &[][..]) };
        let mut output = vec![0.0; t * n * h];
        for (step, row) in (0..t).flat_map(|step| (0..n).map(move |row| (step, row))) {
            let at = if first { row * t + step } else { step * n + row };
            let (x, before) = (&steps[at * size..][..size], state[row * h..][..h].to_vec());
            for j in 0..h {
                let dot = |w: &[f32], v: &[f32]| w[j * v.len()..].iter().zip(v).map(|(a, b)| a * b).sum::<f32>();
                let biases = if bias { b_ih[j] + b_hh[j] } else { 0.0 };
                state[row * h + j] = act(dot(w_ih, x) + dot(w_hh, &before) + biases);
                output[at * h + j] = state[row * h + j];
            }
        }
        steps = output;
    }
    let (rows, columns) = if first { (n, t) } else { (t, n) };
    let shapes = format!(r#"{{"output": [{rows}, {columns}, {h}], "h_n": [{layers}, {n}, {h}]}}"#);
    (shapes, [steps, h_n].concat())
}
