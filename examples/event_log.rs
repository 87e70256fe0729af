//! A log that many threads write and one reads live, as one slice.

use std::thread;
use std::time::Duration;

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
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let log = &log;
            scope.spawn(move || {
                (0..EACH).for_each(|number| {
                    log.push(Event { writer, number });
                });
            });
        }
        scope.spawn(|| read_live(&log));
    });

    let payload = log.len() * size_of::<Event>();
    println!("{} events, {payload} bytes, {} committed", log.len(), log.committed());
    Ok(())
}

/// Reads what is there, and sleeps until there is more, up to the last event.
fn read_live(log: &ConcurrentVec<Event>) {
    let mut next = [0; WRITERS as usize];
    let mut events = log.follow();
    while next != [EACH; WRITERS as usize] {
        assert!(
            log.wait_for_len(events.position() + 1, Duration::MAX),
            "there is room for all of them"
        );
        for event in &mut events {
            let expected = &mut next[usize::from(event.writer)];
            assert_eq!(event.number, *expected, "each writer's events come in order");
            *expected += 1;
        }
    }
    assert_eq!(events.position(), log.len(), "the reader saw every event");
}
