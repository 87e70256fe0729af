//! Which page is in which frame, and the order in which frames give up their pages.
//!
//! A **frame** is room for one page. A page that is in no frame is only in the store. No system calls here: these are
//! the numbers, and `moves.rs` does what they say.
//!
//! The order is that of [SIEVE](https://www.usenix.org/conference/nsdi24/presentation/zhang-yazhuo): a hand goes from the page
//! that came first to the one that came last, and takes pages out that nobody touches. Those that are touched stay where
//! they are, behind the hand, until it begins again: so a scan, whose pages are touched once, drives out none that is in
//! use. Here, behind the hand is a queue of its own. Touches are not visible, so the hand takes each page's access away
//! (the page *cools*), and the page leaves when it is the oldest of those that cool; one that is touched before comes
//! back, behind the hand.
//!
//! A **mark** is a page that was read ahead, and is left out of the region until it is touched: its first touch faults, and so
//! tells that the program has come as far as this page. It waits among the pages that are in the region, and not among
//! those that cool, since otherwise it would leave before it is used.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};

/// Where the bytes of a frame's page are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Place {
    /// The frame has no page.
    Nowhere = 0,
    /// In the region, where they can be read.
    Region,
    /// At the frame's own address: a touch of the page faults.
    Frame,
}

/// The queue that a frame is in. One that a thread holds, or that is pinned, is in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Queue {
    None = 0,
    Free,
    /// In the region, or a mark. The hand goes through one of these two; what is behind it is in the other one.
    Even,
    Odd,
    /// Cooling; its page is as the store has it.
    CoolClean,
    /// Cooling; its page must be written back before it is given up.
    CoolDirty,
}

const QUEUES: usize = 6;

/// The number of a frame, or of a page.
pub(super) type Number = u32;

/// All zero: a frame that was never used.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// The page's number, plus one; zero for none.
    page: Number,
    /// The next and the previous frame of the queue, plus one; zero for none.
    next: Number,
    before: Number,
    /// How many holders forbid that the page leaves the region.
    pub(super) pins: u32,
    /// How often the page faulted although it was accessible.
    pub(super) again: u32,
    pub(super) place: Place,
    queue: Queue,
    /// Its queue when it is in the region.
    home: Queue,
    /// It was [said](Cache::expect_no_more) that nobody needs the page.
    unwanted: bool,
    /// A thread is changing what is written here, or the page's bytes.
    pub(super) busy: bool,
    /// The page differs from the store.
    pub(super) dirty: bool,
    /// The program can write to the page without a fault.
    pub(super) writable: bool,
    /// The page was read ahead and not touched since, and is in its frame so that the first touch faults. Such a page is
    /// never dirty.
    pub(super) mark: bool,
    /// The frame's memory is taken from the limit.
    counted: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    first: Number,
    last: Number,
    len: usize,
}

#[derive(Debug)]
pub(super) struct Cache {
    /// For each page, the number of its frame, plus one; or [`DROPPED`] and when that was; or zero.
    pages: Box<[Number]>,
    frames: Box<[Frame]>,
    /// Frames that were used before; those behind never were.
    used: Number,
    queues: [Ends; QUEUES],
    /// The queue that the hand goes through: its first frame is the next to cool.
    hand: Queue,
    /// How many pages were dropped.
    drops: Number,
    /// See [`in_reach`](Self::in_reach).
    is_used_up: bool,
    /// Frames with a page that a thread holds.
    pub(super) busy: usize,
    /// Frames whose page is pinned.
    pub(super) pinned: usize,
    pub(super) dirty: usize,
    /// Frames whose memory is taken from the limit.
    pub(super) counted: usize,
}

/// One of so many frames cools, so that pages that are in use have the time to come back.
pub(super) const COOL_SHARE: usize = 8;
/// Of a page's number: it was dropped, as one of so many.
const DROPPED: Number = 1 << (Number::BITS - 1);
/// The most frames, so that their numbers differ from those of drops.
pub(super) const MOST_FRAMES: usize = DROPPED as usize - 2;

/// A slice of zeros, whose memory the system provides where it is first written.
///
/// # Safety
/// All bytes zero are a valid value.
unsafe fn zeros<T>(len: usize) -> Box<[T]> {
    let Ok(layout) = Layout::array::<T>(len) else { panic!("too many pages: {len}") };
    if layout.size() == 0 {
        return Box::new([]);
    }
    // SAFETY: the layout is not empty; the caller's promise. A box frees what the global allocator returned.
    unsafe {
        let start = alloc_zeroed(layout).cast::<T>();
        if start.is_null() {
            handle_alloc_error(layout);
        }
        Box::from_raw(std::ptr::slice_from_raw_parts_mut(start, len))
    }
}

impl Cache {
    pub(super) fn new(pages: Number, frames: Number) -> Self {
        // SAFETY: zero is a number, and a frame that was never used.
        let (pages, frames) = unsafe { (zeros(pages as usize), zeros(frames as usize)) };
        Self {
            pages,
            frames,
            used: 0,
            queues: [Ends::default(); QUEUES],
            hand: Queue::Even,
            drops: 0,
            is_used_up: false,
            busy: 0,
            pinned: 0,
            dirty: 0,
            counted: 0,
        }
    }

    /// The frame that holds a page.
    pub(super) fn frame_of(&self, page: Number) -> Option<Number> {
        self.pages.get(page as usize).filter(|&&word| word < DROPPED)?.checked_sub(1)
    }

    pub(super) fn frame(&self, frame: Number) -> Option<&Frame> {
        self.frames.get(frame as usize)
    }

    pub(super) fn frame_mut(&mut self, frame: Number) -> Option<&mut Frame> {
        self.frames.get_mut(frame as usize)
    }

    /// The page that a frame holds.
    pub(super) fn page_of(&self, frame: Number) -> Option<Number> {
        self.frame(frame)?.page.checked_sub(1)
    }

    /// Whether the memory of the next free frame is counted; `None` where none is free that was used before.
    pub(super) fn free_is_counted(&self) -> Option<bool> {
        Some(self.frame(self.first(Queue::Free)?)?.counted)
    }

    /// Notes whether a frame's memory is taken from the limit.
    pub(super) fn count(&mut self, number: Number, counted: bool) {
        let Some(frame) = self.frame_mut(number) else { return };
        match (std::mem::replace(&mut frame.counted, counted), counted) {
            (false, true) => self.counted += 1,
            (true, false) => self.counted -= 1,
            _ => {}
        }
    }

    /// How many frames were ever used; those of the numbers below.
    pub(super) fn used(&self) -> Number {
        self.used
    }

    /// How many frames have a page, or are about to.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.used as usize - self.queue(Queue::Free).len
    }

    pub(super) fn warm(&self) -> usize {
        self.queue(Queue::Even).len + self.queue(Queue::Odd).len
    }

    /// The queue behind the hand.
    fn behind(&self) -> Queue {
        if self.hand == Queue::Even { Queue::Odd } else { Queue::Even }
    }

    pub(super) fn cooling(&self) -> usize {
        self.queue(Queue::CoolClean).len + self.queue(Queue::CoolDirty).len
    }

    pub(super) fn capacity(&self) -> usize {
        self.frames.len()
    }

    /// Whether a page can have a frame at once; with more memory, or only with what is counted.
    pub(super) fn has_room(&self, more_memory: bool) -> bool {
        match self.free_is_counted() {
            Some(true) => true,
            Some(false) => more_memory,
            None => more_memory && self.has_new(),
        }
    }

    /// Whether nothing can be given up until a pin ends.
    pub(super) fn is_stuck(&self) -> bool {
        self.busy == 0 && self.warm() + self.cooling() == 0
    }

    /// The first frame to cool whose page needs no writing. Looks at all of them.
    pub(super) fn next_clean_to_cool(&self) -> Option<Number> {
        [self.hand, self.behind()].into_iter().find_map(|queue| {
            let mut at = self.first(queue);
            while let Some(frame) =
                at.and_then(|number| self.frame(number)).filter(|frame| frame.dirty)
            {
                at = frame.next.checked_sub(1);
            }
            at
        })
    }

    /// Gives a page a free frame that was used before, and holds it.
    pub(super) fn take_free(&mut self, page: Number) -> Option<Number> {
        let frame = self.first(Queue::Free)?;
        self.hold(frame);
        self.enter(page, frame);
        Some(frame)
    }

    /// Holds a free frame whose memory is counted, so that it goes back.
    pub(super) fn take_free_to_empty(&mut self) -> Option<Number> {
        let frame = self.first(Queue::Free).filter(|_| self.free_is_counted() == Some(true))?;
        self.hold(frame);
        Some(frame)
    }

    /// Gives a page a frame that was never used, and holds it.
    pub(super) fn take_new(&mut self, page: Number) -> Option<Number> {
        let frame = self.used;
        self.frames.get(frame as usize)?;
        self.used += 1;
        self.hold(frame);
        self.enter(page, frame);
        Some(frame)
    }

    /// Whether there is a frame that was never used.
    pub(super) fn has_new(&self) -> bool {
        (self.used as usize) < self.frames.len()
    }

    fn enter(&mut self, page: Number, frame: Number) {
        // One that comes back as soon as a cooling one would have was touched twice, as that.
        let soon = (self.frames.len() / COOL_SHARE).max(1);
        let (drops, mut is_back) = (self.drops, false);
        if let Some(word) = self.pages.get_mut(page as usize) {
            is_back =
                *word >= DROPPED && drops.wrapping_sub(*word) as usize & !(DROPPED as usize) < soon;
            *word = frame + 1;
        }
        let home = if is_back { self.behind() } else { self.hand };
        if let Some(frame) = self.frame_mut(frame) {
            (frame.page, frame.home, frame.unwanted) = (page + 1, home, false);
        }
    }

    /// The page of a frame that is held was touched again: it will be behind the hand.
    pub(super) fn is_wanted(&mut self, number: Number) {
        let behind = self.behind();
        if let Some(frame) = self.frame_mut(number) {
            (frame.home, frame.unwanted) = (behind, false);
        }
    }

    /// Takes a frame out of its queue, for a thread that changes it.
    pub(super) fn hold(&mut self, number: Number) {
        self.leave_queue(number);
        let Some(frame) = self.frame_mut(number) else { return };
        debug_assert!(!frame.busy, "a frame has one holder");
        frame.busy = true;
        self.busy += 1;
    }

    /// Holds a frame that has a page; returns the page, and whether it differs from the store.
    pub(super) fn hold_with_page(&mut self, number: Number) -> (Number, bool) {
        self.hold(number);
        let dirty = self.frame(number).is_some_and(|frame| frame.dirty);
        (self.page_of(number).unwrap_or_default(), dirty)
    }

    /// Ends [`hold`](Self::hold): the page is at `place`, and as the store has it or not.
    pub(super) fn settle(&mut self, number: Number, place: Place, dirty: bool, writable: bool) {
        self.settle_all(number, place, dirty, writable, false);
    }

    /// Ends [`hold`](Self::hold): the page was read ahead into its frame, and its first touch is to be noticed.
    pub(super) fn settle_as_mark(&mut self, number: Number) {
        self.settle_all(number, Place::Frame, false, false, true);
    }

    fn settle_all(
        &mut self,
        number: Number,
        place: Place,
        dirty: bool,
        writable: bool,
        mark: bool,
    ) {
        let Some(frame) = self.frame_mut(number) else { return };
        debug_assert!(frame.busy, "only a holder settles");
        let was_dirty = frame.dirty;
        (frame.busy, frame.place, frame.dirty, frame.writable) = (false, place, dirty, writable);
        (frame.again, frame.mark) = (0, mark);
        frame.unwanted &= !writable;
        self.busy -= 1;
        self.dirty = self.dirty + usize::from(dirty) - usize::from(was_dirty);
        self.queue_up(number);
    }

    /// Ends [`hold`](Self::hold): nothing changed.
    pub(super) fn settle_as_it_was(&mut self, number: Number) {
        let Some(&Frame { place, dirty, writable, mark, .. }) = self.frame(number) else { return };
        self.settle_all(number, place, dirty, writable, mark);
    }

    /// Ends [`hold`](Self::hold): the frame has no page any more.
    pub(super) fn free(&mut self, number: Number) {
        let page = self.page_of(number);
        if let Some(word) = page.and_then(|page| self.pages.get_mut(page as usize)) {
            *word = 0;
        }
        if let Some(frame) = self.frame_mut(number) {
            frame.page = 0;
        }
        self.settle(number, Place::Nowhere, false, false);
    }

    /// The same for a page that is dropped, which is remembered.
    pub(super) fn free_dropped(&mut self, number: Number) {
        let page = self.page_of(number);
        self.free(number);
        self.drops = (self.drops + 1) & !DROPPED;
        if let Some(word) = page.and_then(|page| self.pages.get_mut(page as usize)) {
            *word = DROPPED | self.drops;
        }
    }

    /// Keeps the page of a frame in the region. The frame is not held.
    pub(super) fn pin(&mut self, number: Number) {
        self.leave_queue(number);
        let Some(frame) = self.frame_mut(number) else { return };
        // (At the end of the numbers, a page stays pinned for ever.)
        frame.pins = frame.pins.saturating_add(1);
        if frame.pins == 1 {
            self.pinned += 1;
        }
    }

    /// Ends one [`pin`](Self::pin).
    pub(super) fn unpin(&mut self, number: Number) {
        let Some(frame) = self.frame_mut(number) else { return };
        debug_assert!(frame.pins > 0, "a pin ends once");
        if frame.pins == u32::MAX {
            return;
        }
        frame.pins -= 1;
        if frame.pins == 0 {
            self.pinned -= 1;
            if self.frame(number).is_some_and(|frame| !frame.busy) {
                self.queue_up(number);
            }
        }
    }

    /// The frame that is the next to cool.
    pub(super) fn next_to_cool(&self) -> Option<Number> {
        self.first(self.hand).or_else(|| self.first(self.behind()))
    }

    /// Has the hand begin again, where it has gone through its queue.
    pub(super) fn turn(&mut self) {
        if self.queue(self.hand).len == 0 {
            self.hand = self.behind();
        }
    }

    /// The budget has no memory for more frames than those that have some; or it has again.
    pub(super) fn note_budget(&mut self, is_used_up: bool) {
        self.is_used_up = is_used_up;
    }

    /// How many pages can be in memory at once: as many as there are frames, or less where the budget is used up.
    pub(super) fn in_reach(&self) -> usize {
        if self.is_used_up { self.counted } else { self.frames.len() }
    }

    /// Whether a quarter of many pages has not been before the hand yet.
    pub(super) fn has_to_spare(&mut self) -> bool {
        let before = self.before_hand();
        self.counted >= COOL_SHARE && before >= self.counted / 4
    }

    /// How many frames a page can have at once, and others whose pages have not been before the hand yet.
    pub(super) fn before_hand(&mut self) -> usize {
        self.turn();
        let without_memory = self.frames.len() - self.counted;
        let empty = self.frames.len() - self.used as usize + self.queue(Queue::Free).len;
        let out_of_reach = if self.is_used_up { without_memory } else { 0 };
        self.queue(self.hand).len + empty.saturating_sub(out_of_reach)
    }

    /// Holds the frames that are the next to cool, as far as their pages need no writing: each with its page. Returns how
    /// many there are, at most as many as there is room for.
    pub(super) fn hold_next_clean(&mut self, into: &mut [(Number, Number)]) -> usize {
        let mut count = 0;
        for place in into {
            if !self.next_to_cool_is_clean() {
                break;
            }
            let Some(frame) = self.next_to_cool() else { break };
            *place = (frame, self.hold_with_page(frame).0);
            count += 1;
        }
        count
    }

    /// Whether the page of the frame that is the next to cool can be dropped: it needs no writing, and is in the region.
    pub(super) fn next_to_cool_is_clean(&self) -> bool {
        let next = self.next_to_cool().and_then(|frame| self.frame(frame));
        next.is_some_and(|frame| !frame.dirty && !frame.mark)
    }

    /// Whether a page that cools can leave without being written.
    pub(super) fn has_cool_clean(&self) -> bool {
        self.queue(Queue::CoolClean).len > 0
    }

    /// The frame that is the next to give up its page: clean ones come first, since they need no writing.
    pub(super) fn next_to_leave(&self) -> Option<Number> {
        self.first(Queue::CoolClean).or_else(|| self.first(Queue::CoolDirty))
    }

    /// The cooling frame that is the next to be written back.
    pub(super) fn next_to_write(&self) -> Option<Number> {
        self.first(Queue::CoolDirty)
    }

    /// Whether a page is like those of a long row, and leaves the region when that has passed: it is clean, since what is
    /// written may well be read soon, nobody holds it, and it is not behind the hand, where those are that were touched again.
    pub(super) fn is_passing(&self, number: Number) -> bool {
        self.frame(number).is_some_and(|frame| {
            !frame.dirty && !frame.busy && frame.pins == 0 && frame.home == self.hand
        })
    }

    /// Has the page of a frame leave before all others.
    pub(super) fn expect_no_more(&mut self, number: Number) {
        let hand = self.hand;
        let Some(frame) = self.frame_mut(number) else { return };
        (frame.home, frame.unwanted) = (hand, true);
        let queue = match frame.queue {
            Queue::Even | Queue::Odd => hand,
            cool @ (Queue::CoolClean | Queue::CoolDirty) => cool,
            Queue::None | Queue::Free => return,
        };
        self.leave_queue(number);
        self.push_first(queue, number);
    }

    fn queue(&self, queue: Queue) -> Ends {
        self.queues.get(queue as usize).copied().unwrap_or_default()
    }

    fn first(&self, queue: Queue) -> Option<Number> {
        self.queue(queue).first.checked_sub(1)
    }

    fn queue_up(&mut self, number: Number) {
        let Some(frame) = self.frame_mut(number) else { return };
        let queue = match frame.place {
            Place::Nowhere => Queue::Free,
            _ if frame.pins > 0 => return,
            Place::Region => frame.home,
            Place::Frame if frame.mark => frame.home,
            Place::Frame if frame.dirty => Queue::CoolDirty,
            Place::Frame => Queue::CoolClean,
        };
        // (Once: the next try, where one fails, is for another.)
        let is_unwanted = std::mem::take(&mut frame.unwanted);
        // A free frame whose memory was used a moment ago is the next to be used again; one without memory is the last.
        let is_first = if queue == Queue::Free { frame.counted } else { is_unwanted };
        if is_first {
            self.push_first(queue, number);
        } else {
            self.push_last(queue, number);
        }
    }

    fn push_last(&mut self, queue: Queue, number: Number) {
        let last = self.queue(queue).last;
        self.link(queue, last, number + 1);
        self.link(queue, number + 1, 0);
        self.joined(queue, number);
    }

    fn push_first(&mut self, queue: Queue, number: Number) {
        let first = self.queue(queue).first;
        self.link(queue, number + 1, first);
        self.link(queue, 0, number + 1);
        self.joined(queue, number);
    }

    fn joined(&mut self, queue: Queue, number: Number) {
        if let Some(frame) = self.frame_mut(number) {
            frame.queue = queue;
        }
        if let Some(ends) = self.queues.get_mut(queue as usize) {
            ends.len += 1;
        }
    }

    /// Makes two frames neighbours in a queue; zero stands for its end.
    fn link(&mut self, queue: Queue, before: Number, after: Number) {
        let Some(ends) = self.queues.get_mut(queue as usize) else { return };
        match before.checked_sub(1).and_then(|before| self.frames.get_mut(before as usize)) {
            Some(frame) => frame.next = after,
            None => ends.first = after,
        }
        match after.checked_sub(1).and_then(|after| self.frames.get_mut(after as usize)) {
            Some(frame) => frame.before = before,
            None => ends.last = before,
        }
    }

    fn leave_queue(&mut self, number: Number) {
        let Some(frame) = self.frame_mut(number) else { return };
        let queue = std::mem::replace(&mut frame.queue, Queue::None);
        if queue == Queue::None {
            return;
        }
        let (before, after) = (frame.before, frame.next);
        self.link(queue, before, after);
        if let Some(ends) = self.queues.get_mut(queue as usize) {
            ends.len -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(cache: &mut Cache, page: Number) -> Number {
        let frame = cache.take_free(page).or_else(|| cache.take_new(page)).unwrap();
        cache.settle(frame, Place::Region, false, false);
        frame
    }

    fn rescue(cache: &mut Cache, frame: Number) {
        cache.hold(frame);
        cache.is_wanted(frame);
        cache.settle(frame, Place::Region, false, false);
    }

    fn cool(cache: &mut Cache) -> Number {
        cache.turn();
        let frame = cache.next_to_cool().unwrap();
        cache.hold(frame);
        let dirty = cache.frame(frame).unwrap().dirty;
        cache.settle(frame, Place::Frame, dirty, false);
        frame
    }

    #[test]
    fn a_page_that_is_touched_while_it_cools_is_behind_the_hand() {
        let mut cache = Cache::new(10, 4);
        let frames: Vec<_> = (0..3).map(|page| settled(&mut cache, page)).collect();
        assert_eq!([cool(&mut cache), cool(&mut cache)], frames[..2]);
        rescue(&mut cache, frames[0]);
        assert_eq!(cache.next_to_leave(), Some(frames[1]));
        // Pages that came later leave earlier, and then the hand begins again.
        let last = settled(&mut cache, 9);
        assert_eq!([(); 3].map(|()| cool(&mut cache)), [frames[2], last, frames[0]]);
    }

    /// A page that nobody needs leaves first, unless it is written meanwhile.
    #[test]
    fn what_is_written_is_needed() {
        for writable in [false, true] {
            let mut cache = Cache::new(10, 4);
            let frames: Vec<_> = (0..3).map(|page| settled(&mut cache, page)).collect();
            cache.hold(frames[1]);
            cache.expect_no_more(frames[1]);
            cache.settle(frames[1], Place::Region, writable, writable);
            let next = if writable { frames[0] } else { frames[1] };
            assert_eq!(cache.next_to_cool(), Some(next));
        }
    }

    #[test]
    fn clean_pages_leave_before_dirty_ones() {
        let mut cache = Cache::new(10, 3);
        let frames: Vec<_> = (0..3).map(|page| settled(&mut cache, page)).collect();
        cache.hold(frames[0]);
        cache.settle(frames[0], Place::Region, true, true);
        (0..3).for_each(|_| _ = cool(&mut cache));
        assert_eq!((cache.dirty, cache.next_to_write()), (1, Some(frames[0])));
        assert_eq!(cache.next_to_leave(), Some(frames[1]));
        for &frame in &frames[1..] {
            cache.hold(frame);
            cache.free(frame);
        }
        assert_eq!(cache.next_to_leave(), Some(frames[0]));
        assert_eq!(
            (cache.taken(), cache.frame_of(0), cache.frame_of(1)),
            (1, Some(frames[0]), None)
        );
    }

    #[test]
    fn clean_pages_are_held_up_to_the_first_dirty_one() {
        let mut cache = Cache::new(10, 5);
        let frames: Vec<_> = (0..5).map(|page| settled(&mut cache, page)).collect();
        let mut held = [(0, 0); 2];
        assert_eq!(cache.hold_next_clean(&mut held), 2);
        assert_eq!(held, [(frames[0], 0), (frames[1], 1)]);
        cache.hold(frames[3]);
        cache.settle(frames[3], Place::Region, true, true); // the youngest by now
        let mut held = [(0, 0); 5];
        assert_eq!((cache.hold_next_clean(&mut held), cache.busy), (2, 4));
        assert_eq!(held[..2], [(frames[2], 2), (frames[4], 4)]);
        assert_eq!((cache.hold_next_clean(&mut held), cache.next_to_cool()), (0, Some(frames[3])));
    }

    #[test]
    fn what_is_pinned_or_held_is_no_candidate_and_says_so() {
        let mut cache = Cache::new(10, 2);
        let frames: Vec<_> = (0..2).map(|page| settled(&mut cache, page)).collect();
        frames.iter().for_each(|&frame| cache.pin(frame));
        cache.pin(frames[0]);
        assert_eq!((cache.next_to_cool(), cache.pinned, cache.is_stuck()), (None, 2, true));
        cache.unpin(frames[0]);
        assert!(cache.is_stuck(), "one of two pins is left");
        cache.unpin(frames[0]);
        assert_eq!((cache.next_to_cool(), cache.pinned), (Some(frames[0]), 1));
        cache.hold(frames[0]);
        assert_eq!((cache.next_to_cool(), cache.is_stuck(), cache.busy), (None, false, 1));
        cache.free(frames[0]);
        assert_eq!(cache.take_free(7), Some(frames[0]));
    }

    #[test]
    fn what_is_expected_no_more_leaves_first() {
        let mut cache = Cache::new(10, 4);
        let frames: Vec<_> = (0..4).map(|page| settled(&mut cache, page)).collect();
        cache.expect_no_more(frames[2]);
        assert_eq!(
            [(); 4].map(|()| cool(&mut cache)),
            [frames[2], frames[0], frames[1], frames[3]]
        );
    }

    #[test]
    fn a_dropped_page_that_comes_back_soon_is_behind_the_hand() {
        let mut cache = Cache::new(100, 16);
        let drop_next = |cache: &mut Cache| {
            let mut held = [(0, 0)];
            cache.turn();
            assert_eq!(cache.hold_next_clean(&mut held), 1);
            cache.free_dropped(held[0].0);
            held[0].1
        };
        (0..16).for_each(|page| _ = settled(&mut cache, page));
        let gone = [(); 4].map(|()| drop_next(&mut cache));
        assert_eq!(gone, [0, 1, 2, 3]);
        assert!(gone.iter().all(|&page| cache.frame_of(page).is_none()));
        // Two of sixteen frames would cool: so two of the four come soon, and are behind the hand.
        (0..4).for_each(|page| _ = settled(&mut cache, page));
        let order = [(); 16].map(|()| drop_next(&mut cache));
        assert_eq!(order[..14], [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1]);
        assert_eq!(order[14..], [2, 3]);
    }

    #[test]
    fn a_mark_waits_among_the_warm_pages_and_cools_clean() {
        let mut cache = Cache::new(10, 3);
        let first = settled(&mut cache, 0);
        let mark = cache.take_new(1).unwrap();
        cache.settle_as_mark(mark);
        let last = settled(&mut cache, 2);
        assert_eq!((cache.warm(), cache.cooling(), cache.dirty), (3, 0, 0));
        assert_eq!(
            cache.frame(mark).map(|frame| (frame.place, frame.mark)),
            Some((Place::Frame, true))
        );
        // Whoever holds it and does nothing leaves it a mark.
        cache.hold(mark);
        cache.settle_as_it_was(mark);
        assert!(cache.frame(mark).unwrap().mark);
        assert_eq!([cool(&mut cache), cool(&mut cache), cool(&mut cache)], [first, last, mark]);
        assert!(!cache.frame(mark).unwrap().mark, "it cools as any other page");
        assert_eq!(cache.next_to_leave(), Some(first));
    }

    #[test]
    fn a_mark_is_in_its_frame_and_not_dropped() {
        let mut cache = Cache::new(10, 2);
        let mark = cache.take_new(1).unwrap();
        cache.settle_as_mark(mark);
        assert_eq!(cache.hold_next_clean(&mut [(0, 0)]), 0);
        assert_eq!(cache.next_to_cool(), Some(mark));
    }

    #[test]
    fn a_mark_that_is_touched_or_freed_is_none_any_more() {
        let mut cache = Cache::new(10, 2);
        let mark = cache.take_new(1).unwrap();
        cache.settle_as_mark(mark);
        cache.hold(mark);
        cache.settle(mark, Place::Region, false, false);
        assert_eq!(
            cache.frame(mark).map(|frame| (frame.place, frame.mark)),
            Some((Place::Region, false))
        );
        cache.hold(mark);
        cache.settle_as_mark(mark);
        cache.hold(mark);
        cache.free(mark);
        assert!(!cache.frame(mark).unwrap().mark);
        assert_eq!((cache.warm(), cache.frame_of(1)), (0, None));
    }

    /// Against lists that are plain vectors.
    #[test]
    fn queues_are_as_plain_lists_whatever_happens() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut cache = Cache::new(64, 8);
            let (mut warm, mut behind, mut cold) = (Vec::new(), Vec::new(), Vec::<Number>::new());
            for _ in 0..200 {
                if warm.is_empty() {
                    std::mem::swap(&mut warm, &mut behind);
                }
                cache.turn();
                match random.u8(0..6) {
                    0 => {
                        let page = random.u32(0..64);
                        let taken = warm.len() + behind.len() + cold.len();
                        if cache.frame_of(page).is_none() && taken < 8 {
                            warm.push(settled(&mut cache, page));
                        }
                    }
                    1 if !warm.is_empty() => {
                        let first = cache.frame(warm[0]).unwrap().unwanted;
                        assert_eq!(cool(&mut cache), warm[0]);
                        let place = if first { 0 } else { cold.len() };
                        cold.insert(place, warm.remove(0));
                    }
                    2 if !cold.is_empty() => {
                        let frame = cold.remove(random.usize(..cold.len()));
                        cache.hold(frame);
                        cache.free(frame);
                    }
                    3 if !warm.is_empty() => {
                        let frame = warm.remove(random.usize(..warm.len()));
                        let first = cache.frame(frame).unwrap().unwanted;
                        cache.pin(frame);
                        assert_eq!(cache.warm(), warm.len() + behind.len());
                        cache.unpin(frame);
                        warm.insert(if first { 0 } else { warm.len() }, frame);
                    }
                    4 if !cold.is_empty() => {
                        let frame = cold.remove(random.usize(..cold.len()));
                        rescue(&mut cache, frame);
                        behind.push(frame);
                    }
                    5 if !behind.is_empty() => {
                        let frame = behind.remove(random.usize(..behind.len()));
                        cache.expect_no_more(frame);
                        assert!(cache.frame(frame).unwrap().unwanted);
                        warm.insert(0, frame);
                    }
                    _ => {}
                }
                let next = warm.first().or(behind.first()).copied();
                assert_eq!((cache.next_to_cool(), cache.next_clean_to_cool()), (next, next));
                assert_eq!(cache.warm(), warm.len() + behind.len());
                assert_eq!(cache.cooling(), cold.len());
                assert_eq!(cache.next_to_leave(), cold.first().copied());
                assert_eq!(cache.taken(), warm.len() + behind.len() + cold.len());
            }
        }
    }
}
