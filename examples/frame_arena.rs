//! A game loop that allocates freely during a frame, and frees everything at its end.

use pagewise::Arena;

struct Particle<'frame> {
    position: [f32; 3],
    label: &'frame str,
}

fn main() -> Result<(), pagewise::Error> {
    let mut arena = Arena::builder(1 << 30).limit(16 << 20).name("frame").build()?;
    let mut committed_after_first = 0;
    for frame in 0..1000 {
        draw(&arena, frame);
        if frame == 0 {
            committed_after_first = arena.committed();
            println!("first frame: {} bytes used, {committed_after_first} committed", arena.used());
        }
        arena.reset(); // everything of this frame is gone; its memory is there for the next
    }
    assert_eq!(arena.committed(), committed_after_first, "later frames committed nothing");

    // A part of a frame can be taken back, too.
    arena.alloc(1u64);
    let before = arena.checkpoint();
    arena.alloc_slice_fill_with(100_000, |n| n);
    arena.rewind(before);
    assert_eq!(arena.used(), size_of::<u64>());

    arena.reset_and_release()?;
    assert_eq!(arena.committed(), 0);
    Ok(())
}

fn draw(arena: &Arena, frame: usize) {
    let particles: &mut [Particle] = arena.alloc_iter((0..1000).map(|n| Particle {
        position: [n as f32, frame as f32, 0.0],
        label: arena.alloc_str(if n % 2 == 0 { "spark" } else { "smoke" }),
    }));
    for particle in particles.iter_mut() {
        particle.position[2] += 1.0;
    }
    let visible = arena.alloc_iter(particles.iter().filter(|particle| particle.label == "spark"));
    assert_eq!(visible.len(), 500);
    assert_eq!(visible[499].position, [998.0, frame as f32, 1.0]);
}
