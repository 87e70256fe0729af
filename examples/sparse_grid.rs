//! A world of 2^40 cells, of which only the visited parts cost memory.

use pagewise::{DemandArray, RefusalReason};

const SIDE: usize = 1 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A terabyte of addresses, at most 32 MiB of memory.
    let mut world =
        DemandArray::<u8>::builder(SIDE * SIDE).limit(32 << 20).name("world").build()?;
    let cell = |x: usize, y: usize| y * SIDE + x;

    // Three towns, far apart.
    for (town, (x, y)) in [(10, 20), (700_000, 3), (1_000_000, 1_000_000)].into_iter().enumerate() {
        for dy in 0..30 {
            for dx in 0..30 {
                world[cell(x + dx, y + dy)] = town as u8 + 1;
            }
        }
    }
    assert_eq!(world[cell(1_000_029, 1_000_029)], 3);
    assert_eq!(world.try_get(cell(500_000, 500_000))?, 0);
    let stats = world.stats();
    println!(
        "{} cells, {} bytes committed by {} faults",
        world.len(),
        stats.committed,
        stats.faults
    );

    // A traveller who wants too much hears it as an error.
    let mut y = 0;
    let refused = loop {
        if let Err(refused) = world.try_set(cell(300_000, y), 9) {
            break refused;
        }
        y += 1;
    };
    println!("the road ends at row {y}: {refused}");
    assert!(matches!(refused.refusal.reason, RefusalReason::Limit { .. }));

    // The road goes, its memory goes, and the town in the same rows stays.
    let before = world.committed();
    for row in 40..y {
        world.decommit(cell(0, row)..cell(0, row + 1))?;
    }
    println!("{before} bytes committed with the road, {} without", world.committed());
    assert!(world.committed() < before);
    assert_eq!((world[cell(10, 20)], world.try_get(cell(300_000, 50))?), (1, 0));
    Ok(())
}
