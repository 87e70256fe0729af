//! Inputs that were interesting once are replayed every time.
#![cfg(not(pagewise_model))]

#[test]
fn the_corpus_agrees_with_the_model() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        pagewise_fuzz::run(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 8, "{count} inputs");
}

/// Short and odd inputs are inputs, too.
#[test]
fn every_short_input_is_fine() {
    for first in 0..=255u8 {
        pagewise_fuzz::run(&[first]);
        pagewise_fuzz::run(&[first, 0, 1, 1, 0, 0, 0, first, first, first, first]);
    }
    pagewise_fuzz::run(&[]);
}
