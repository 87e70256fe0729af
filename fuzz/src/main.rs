//! `pagewise-fuzz --seconds N [--seed S]`: random inputs, some new, some made of the corpus.
//!
//! The input that is being run is in `target/fuzz-input`, so that even a crash leaves it behind; run it
//! again with `pagewise-fuzz FILE...`, and keep it in `fuzz/corpus` once it is fixed.

use std::path::Path;
use std::time::{Duration, Instant};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

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
    let (mut random, start, mut runs) = (Random(seed | 1), Instant::now(), 0u64);
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
fn input(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let length = random.below(2000);
    let mut fresh = || (0..length).map(|_| random.next() as u8).collect::<Vec<u8>>();
    let mut bytes = fresh();
    if !corpus.is_empty() && random.below(3) == 0 {
        let known = &corpus[random.below(corpus.len())];
        let keep = random.below(known.len() + 1);
        bytes.splice(..0, known[..keep].iter().copied());
        for _ in 0..random.below(8) {
            let at = random.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
    }
    bytes
}
