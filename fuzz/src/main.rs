//! `pagewise-fuzz --seconds N [--seed S]`: random inputs, some new, some made of the corpus.
//!
//! Each input is written to `target/fuzz-input` before it runs, so that it is there after a crash. Run it again
//! with `pagewise-fuzz FILE...`, and add it to `fuzz/corpus` once the error is fixed.

use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;

fn main() {
    let (mut seconds, mut seed, mut files) = (60, 0x9e37_79b9_7f4a_7c15, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse::<u64>().ok());
        match argument.as_str() {
            "--seconds" => seconds = number().unwrap_or_else(|| usage()),
            "--seed" => seed = number().unwrap_or_else(|| usage()),
            name if name.starts_with('-') => usage(),
            name => files.push(name.to_string()),
        }
    }
    if !files.is_empty() {
        for name in files {
            println!("{name}");
            pagewise_fuzz::run(&std::fs::read(&name).expect("an input"));
        }
        return;
    }
    let corpus = corpus();
    println!("seed {seed}, {} inputs in the corpus", corpus.len());
    let current = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz-input");
    let (mut random, start, mut runs) = (Rng::with_seed(seed), Instant::now(), 0u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        let input = input(&mut random, &corpus);
        if let Err(error) = std::fs::write(&current, &input) {
            eprintln!("{}: {error}", current.display());
        }
        pagewise_fuzz::run(&input);
        runs += 1;
    }
    println!("{runs} inputs in {} s: no difference from the model", start.elapsed().as_secs());
}

fn usage() -> ! {
    eprintln!("usage: pagewise-fuzz [--seconds N] [--seed S] [FILE...]");
    std::process::exit(2)
}

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut names: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()).collect();
    names.sort();
    names.iter().filter_map(|name| std::fs::read(name).ok()).collect()
}

/// A new input, or one of the corpus with some bytes changed, cut, or put behind another.
fn input(random: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let length = random.usize(..2000);
    let mut fresh = || (0..length).map(|_| random.u8(..)).collect::<Vec<u8>>();
    let mut bytes = fresh();
    if !corpus.is_empty() && random.usize(..3) == 0 {
        let known = &corpus[random.usize(..corpus.len())];
        let keep = random.usize(..known.len() + 1);
        bytes.splice(..0, known[..keep].iter().copied());
        for _ in 0..random.usize(..8) {
            let at = random.usize(..bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.u8(..);
            }
        }
    }
    bytes
}
