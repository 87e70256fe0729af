//! A log that many threads write and one reads live, as one slice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pagewise::ConcurrentVec;

#[derive(Clone, Copy)]
struct Event {
    writer: u16,
    number: u32,
}

const WRITERS: u16 = 4;
const EACH: u32 = 50_000;

fn main() -> Result<(), pagewise::Error> {
    let log = ConcurrentVec::<Event>::builder(1 << 24).name("event log").build()?;
    let writing = AtomicUsize::new(usize::from(WRITERS));

    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (log, writing) = (&log, &writing);
            scope.spawn(move || {
                (0..EACH).for_each(|number| {
                    log.push(Event { writer, number });
                });
                writing.fetch_sub(1, Ordering::Release);
            });
        }
        scope.spawn(|| {
            let (mut seen, mut next) = (0, [0; WRITERS as usize]);
            loop {
                let is_last = writing.load(Ordering::Acquire) == 0;
                let all = log.as_slice(); // a plain slice, good for as long as the log lives
                for event in &all[seen..] {
                    let expected = &mut next[usize::from(event.writer)];
                    assert_eq!(event.number, *expected, "each writer's events come in order");
                    *expected += 1;
                }
                seen = all.len();
                if is_last {
                    break;
                }
                thread::yield_now();
            }
            assert_eq!(next, [EACH; WRITERS as usize], "the reader saw every event");
        });
    });

    let payload = log.len() * size_of::<Event>();
    println!("{} events, {payload} bytes, {} committed", log.len(), log.committed());
    Ok(())
}
