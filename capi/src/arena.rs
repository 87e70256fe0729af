//! Arenas: memory that is allocated by moving a pointer, and freed all at once.

use std::alloc::Layout;
use std::ffi::c_void;
use std::ptr;

use pagewise::Checkpoint;

use crate::options::{Options, common_options};
use crate::status::*;

/// `pagewise_arena`: the library's, and the checkpoints that the program got. In C, a checkpoint is an index into them.
pub struct Arena {
    arena: pagewise::Arena,
    /// Invariant: in ascending order of the bytes that were used; all of them can be rewound to.
    checkpoints: Vec<(usize, Checkpoint)>,
}

impl Arena {
    /// Forgets the checkpoints of what is freed already.
    fn forget_above(&mut self, used: usize) {
        self.checkpoints.truncate(self.checkpoints.partition_point(|(at, _)| *at <= used));
    }
}

/// Makes an arena.
///
/// # Safety
/// The options are null or as the header says, and so is what they point to; the place has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_arena_new(
    max_bytes: usize,
    options: *const Options,
    arena: *mut *mut Arena,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        make(arena, || {
            let options = Options::read(options)?;
            options.without_faults()?;
            if options.align != 0 {
                return bad_argument("an arena has no align: its allocations have");
            }
            let builder = common_options!(pagewise::Arena::builder(max_bytes), options);
            Ok(Arena { arena: done(builder.build())?, checkpoints: Vec::new() })
        })
    }
}

/// Allocates.
///
/// # Safety
/// The arena is null, or alive and used by no other thread; the place has room for a pointer.
unsafe fn allocate(
    arena: *mut Arena,
    size: usize,
    align: usize,
    memory: *mut *mut c_void,
    by: impl FnOnce(&pagewise::Arena, Layout) -> Result<ptr::NonNull<u8>, pagewise::Error>,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        store(memory, ptr::null_mut())?;
        let arena = &object(arena)?.arena;
        // As `malloc`: good for every type.
        let align = if align == 0 { 16 } else { align };
        let Ok(layout) = Layout::from_size_align(size, align) else {
            return bad_argument("the alignment is no power of two, or the size is too large");
        };
        store(memory, done(by(arena, layout))?.as_ptr().cast())
    })
}

/// Allocates memory that holds anything.
///
/// # Safety
/// The arena is null, or alive and used by no other thread; the place has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_arena_alloc(
    arena: *mut Arena,
    size: usize,
    align: usize,
    memory: *mut *mut c_void,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { allocate(arena, size, align, memory, |arena, layout| arena.try_alloc_layout(layout)) }
}

/// Allocates memory that is zero.
///
/// # Safety
/// The arena is null, or alive and used by no other thread; the place has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_arena_alloc_zeroed(
    arena: *mut Arena,
    size: usize,
    align: usize,
    memory: *mut *mut c_void,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        allocate(arena, size, align, memory, |arena, layout| arena.try_alloc_layout_zeroed(layout))
    }
}

/// Commits memory for allocations to come.
///
/// # Safety
/// The arena is null, or alive and used by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_arena_reserve(arena: *mut Arena, bytes: usize) -> Status {
    // SAFETY: the caller's promise.
    status(|| done(unsafe { object(arena)? }.arena.try_reserve(bytes)))
}

/// Bytes that are allocated.
///
/// # Safety
/// The arena is null, or alive and used by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_arena_used(arena: *const Arena) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(arena, 0, |arena| arena.arena.used()) }
}

/// Bytes that are committed.
///
/// # Safety
/// The arena is null, or alive and used by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_arena_committed(arena: *const Arena) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(arena, 0, |arena| arena.arena.committed()) }
}

/// Bytes that the arena may have at most.
///
/// # Safety
/// The arena is null, or alive and used by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_arena_max_bytes(arena: *const Arena) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(arena, 0, |arena| arena.arena.max_bytes()) }
}

/// A place to rewind to.
///
/// # Safety
/// The arena is null, or alive and used by no other thread; the place has room for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_arena_checkpoint(
    arena: *mut Arena,
    checkpoint: *mut usize,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let arena = object_mut(arena)?;
        let used = arena.arena.used();
        store(checkpoint, 0)?;
        // The same place again: a loop that rewinds each time must not fill the list.
        if arena.checkpoints.last().is_none_or(|(at, _)| *at != used) {
            arena.checkpoints.push((used, arena.arena.checkpoint()));
        }
        store(checkpoint, arena.checkpoints.len() - 1)
    })
}

/// Frees what was allocated since a checkpoint.
///
/// # Safety
/// The arena is null, or alive and used by no other thread; nobody uses what is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_arena_rewind(arena: *mut Arena, checkpoint: usize) -> Status {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let arena = object_mut(arena)?;
        let Some(&(used, place)) = arena.checkpoints.get(checkpoint) else {
            return bad_argument("no checkpoint of this arena, or one of what was freed before");
        };
        arena.arena.rewind(place);
        arena.forget_above(used);
        Ok(())
    })
}

/// Frees everything. The memory stays committed.
///
/// # Safety
/// The arena is null, or alive and used by no other thread; nobody uses what is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_arena_reset(arena: *mut Arena) -> Status {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let arena = object_mut(arena)?;
        arena.arena.reset();
        arena.forget_above(0);
        Ok(())
    })
}

/// Gives back what is committed behind the last allocation.
///
/// # Safety
/// The arena is null, or alive and used by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_arena_shrink(arena: *mut Arena) -> Status {
    // SAFETY: the caller's promise.
    status(|| done(unsafe { object_mut(arena)? }.arena.shrink_to_fit()))
}

/// Ends an arena.
///
/// # Safety
/// The arena is null, or came from [`pagewise_arena_new`] and is not used again, nor what was allocated in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_arena_free(arena: *mut Arena) {
    // SAFETY: the caller's promise.
    unsafe { free(arena) }
}
