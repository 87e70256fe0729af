//! The classic of reserving and committing memory: 80 pages reserved, each committed by the fault of
//! its first write, up to a limit; past it, the "handler" part runs, and the program goes on.

use pagewise::{CommitStep, DemandRegion, page_size};

fn main() -> Result<(), pagewise::Error> {
    let (pages, page) = (80, page_size());
    let mut region =
        DemandRegion::builder(pages * page).limit(70 * page).step(CommitStep::page()).build()?;
    for number in 0..pages {
        match region.write(number * page, b"a") {
            Ok(()) => assert_eq!(region.committed(), (number + 1) * page),
            Err(stopped) => {
                println!("page {number}: {stopped}"); // the `__except` of the original
                assert_eq!(number, 70);
                break;
            }
        }
    }
    assert_eq!(region.as_slice()[69 * page], b'a');
    region.release()
}
