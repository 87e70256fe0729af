//! The states of all pages of a reservation at one moment.

use std::fmt;

use super::Reservation;
use crate::error::Error;
use crate::os::{self, Residency};
use crate::page::{PageRange, PageSize};

/// The state of a page. A system that does not tell about huge or swapped pages leaves those `false`.
///
/// ```
/// let memory = pagewise::Reservation::new(1 << 20)?;
/// memory.commit(..1)?;
/// memory.prefault(..1)?;
/// let map = memory.page_map()?;
/// assert!(map.page(0).committed && !map.page(1).committed);
/// println!("resident: {}, in a huge page: {}", map.page(0).resident, map.page(0).huge);
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageState {
    /// Charged and accessible; otherwise the page is only reserved.
    pub committed: bool,
    /// Backed by physical memory.
    pub resident: bool,
    /// Backed by a huge page.
    pub huge: bool,
    /// In swap space.
    pub swapped: bool,
}

impl PageState {
    /// Returns one letter for the state: `.` reserved, `c` committed, `r` resident, `H` huge, `s` swapped.
    ///
    /// ```
    /// let state = pagewise::PageState { committed: true, resident: true, ..Default::default() };
    /// assert_eq!(state.letter(), 'r'); // the most that can be said of it
    /// ```
    pub fn letter(self) -> char {
        match self {
            Self { huge: true, .. } => 'H',
            Self { resident: true, .. } => 'r',
            Self { swapped: true, .. } => 's',
            Self { committed: true, .. } => 'c',
            _ => '.',
        }
    }
}

/// A committed page of which nothing else is known.
const COMMITTED: PageState =
    PageState { committed: true, resident: false, huge: false, swapped: false };

/// Neighbouring pages in the same state.
///
/// ```
/// let memory = pagewise::Reservation::new(1 << 30)?;
/// memory.commit(..1 << 20)?;
/// for run in memory.page_map()?.runs() {
///     println!("{} pages from page {} on: {:?}", run.count, run.first, run.state);
/// }
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageRun {
    /// Index of the first page.
    pub first: usize,
    /// How many pages.
    pub count: usize,
    /// What they are.
    pub state: PageState,
}

/// The pages of a reservation at one moment, as runs of equal state.
///
/// Shown with `{}`, it is one letter a page (see [`PageState::letter`]).
///
/// ```
/// use pagewise::{Reservation, page_size};
///
/// let memory = Reservation::new(8 * page_size())?;
/// memory.commit(2 * page_size()..5 * page_size())?;
/// let map = memory.page_map()?;
/// assert_eq!(map.pages(), 8);
/// assert_eq!(map.committed(), 3);
/// assert!(!map.page(1).committed && map.page(2).committed);
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PageMap {
    page_size: usize,
    runs: Vec<PageRun>,
}

impl PageMap {
    pub(crate) fn of(reservation: &Reservation) -> Result<Self, Error> {
        let size = reservation.page();
        let all = size.pages(0, size.page_of(reservation.len()));
        let mut map = Self { page_size: size.bytes(), runs: Vec::new() };
        for part in reservation.states().written_parts(all) {
            map.reserved_up_to(part.first());
            map.add_part(reservation, part)?;
        }
        map.reserved_up_to(all.end());
        Ok(map)
    }

    /// The map of a container that needs no memory.
    pub(crate) fn of_nothing() -> Self {
        Self { page_size: crate::page::page_size(), runs: Vec::new() }
    }

    fn add_part(&mut self, reservation: &Reservation, mut part: PageRange) -> Result<(), Error> {
        while !part.is_empty() {
            let (run, is_committed) = reservation.states().run(part);
            if is_committed {
                self.add_committed(reservation, run)?;
            } else {
                self.reserved_up_to(run.end());
            }
            part = part.with(run.end(), part.end());
        }
        Ok(())
    }

    fn add_committed(&mut self, reservation: &Reservation, run: PageRange) -> Result<(), Error> {
        let result =
            os::residency(reservation.address(run), run.len(), &mut |offset, len, seen| {
                self.add_seen(run, offset, len, seen);
            });
        result.map_err(|error| Error::System { operation: "page map", source: error.into() })?;
        self.push(run.end() - self.pages(), COMMITTED);
        Ok(())
    }

    /// Adds a part of a committed run that the system told of, and before it the pages that the system did not tell of.
    /// A page that lies partly inside takes the state of that part.
    fn add_seen(&mut self, run: PageRange, offset: usize, len: usize, seen: Residency) {
        let size = PageSize::of(self.page_size);
        let Residency { resident, huge, swapped } = seen;
        let state = PageState { committed: true, resident, huge, swapped };
        for (end, state) in [(offset, COMMITTED), (offset + len + self.page_size - 1, state)] {
            let end = run.first() + size.page_of(end);
            // The system's pages may be smaller than the reservation's: then the page may be in the map already.
            self.push(end.saturating_sub(self.pages()), state);
        }
    }

    fn reserved_up_to(&mut self, page: usize) {
        self.push(page - self.pages(), PageState::default());
    }

    fn push(&mut self, count: usize, state: PageState) {
        let first = self.pages();
        match self.runs.last_mut() {
            _ if count == 0 => {}
            Some(last) if last.state == state => last.count += count,
            _ => self.runs.push(PageRun { first, count, state }),
        }
    }

    /// Returns the bytes of a page.
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1 << 30)?;
    /// memory.commit(..1 << 20)?;
    /// let map = memory.page_map()?;
    /// assert_eq!(map.committed() * map.page_size(), memory.committed());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// Returns how many pages there are.
    ///
    /// ```
    /// let sparse = pagewise::Reservation::new(1 << 40)?;
    /// let map = sparse.page_map()?; // one run, however many pages
    /// assert_eq!(map.pages(), (1 << 40) / map.page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn pages(&self) -> usize {
        self.runs.last().map_or(0, |run| run.first + run.count)
    }

    /// Returns how many pages are committed.
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1 << 30)?;
    /// memory.commit(0..1)?;
    /// memory.commit(1 << 29..=1 << 29)?;
    /// assert_eq!(memory.page_map()?.committed(), 2); // pages, not bytes
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn committed(&self) -> usize {
        self.count(|state| state.committed)
    }

    /// Returns how many pages are resident.
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1 << 30)?;
    /// memory.commit(..64 << 10)?;
    /// assert_eq!(memory.page_map()?.resident(), 0);
    /// // SAFETY: the page is committed.
    /// unsafe { memory.as_ptr().write(1) }; // the touch makes it resident
    /// assert!(memory.page_map()?.resident() >= 1);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn resident(&self) -> usize {
        self.count(|state| state.resident)
    }

    /// Returns how many pages have a state that `wanted` accepts.
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1 << 30)?;
    /// memory.commit(..1 << 20)?;
    /// let map = memory.page_map()?;
    /// let untouched = map.count(|state| state.committed && !state.resident && !state.swapped);
    /// assert_eq!(untouched * map.page_size(), 1 << 20); // charged, but using no memory yet
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn count(&self, wanted: impl Fn(PageState) -> bool) -> usize {
        self.runs.iter().filter(|run| wanted(run.state)).map(|run| run.count).sum()
    }

    /// Returns the state of one page.
    ///
    /// # Panics
    /// If there is no page of that index.
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1 << 30)?;
    /// memory.commit(5 << 20..6 << 20)?;
    /// let map = memory.page_map()?;
    /// let at = |offset: usize| map.page(offset / map.page_size());
    /// assert!(!at((5 << 20) - 1).committed && at(5 << 20).committed);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn page(&self, index: usize) -> PageState {
        assert!(index < self.pages(), "page {index} of {}", self.pages());
        self.runs[self.runs.partition_point(|run| run.first + run.count <= index)].state
    }

    /// Returns neighbouring pages of equal state, in order.
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1 << 30)?;
    /// memory.commit(1 << 20..2 << 20)?;
    /// let map = memory.page_map()?;
    /// let run = map.runs().iter().find(|run| run.state.committed).unwrap();
    /// assert_eq!(run.first * map.page_size(), 1 << 20);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn runs(&self) -> &[PageRun] {
        &self.runs
    }
}

impl fmt::Debug for PageMap {
    /// Prints totals instead of the runs, of which there may be many: see [`runs`](PageMap::runs).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageMap")
            .field("page_size", &self.page_size)
            .field("pages", &self.pages())
            .field("committed", &self.committed())
            .field("resident", &self.resident())
            .field("runs", &self.runs.len())
            .finish()
    }
}

impl fmt::Display for PageMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            for _ in 0..run.count {
                write!(f, "{}", run.state.letter())?;
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const RESIDENT: Residency = Residency { resident: true, huge: false, swapped: false };
    const HUGE: Residency = Residency { resident: true, huge: true, swapped: false };
    const SWAPPED: Residency = Residency { resident: false, huge: false, swapped: true };

    /// The map of eight committed pages between reserved ones, where the system tells `seen` of the committed run.
    fn map(page_size: usize, seen: &[(usize, usize, Residency)]) -> PageMap {
        let run = PageSize::of(page_size).pages(2, 10);
        let mut map = PageMap { page_size, runs: Vec::new() };
        map.reserved_up_to(run.first());
        for &(offset, len, residency) in seen {
            map.add_seen(run, offset, len, residency);
        }
        map.push(run.end() - map.pages(), COMMITTED);
        map.reserved_up_to(11);
        map
    }

    #[test]
    fn what_the_system_says_nothing_of_is_committed_and_no_more() {
        assert_eq!(map(4096, &[]).to_string(), "..cccccccc.");
        let seen = [
            (0, 4096, SWAPPED),
            (4096, 4096, RESIDENT),
            (3 * 4096, 2 * 4096, SWAPPED),
            (6 * 4096, 4096, HUGE),
        ];
        let map = map(4096, &seen);
        assert_eq!(map.to_string(), "..srcsscHc.");
        assert_eq!((map.committed(), map.resident()), (8, 2));
        assert_eq!((map.count(|s| s.swapped), map.count(|s| s.huge)), (3, 1));
        assert_eq!(map.page(5), PageState { swapped: true, ..COMMITTED });
        assert_eq!(map.page(4), COMMITTED);
    }

    /// Some systems tell of each page separately.
    #[test]
    fn neighbouring_pages_in_the_same_state_are_one_run() {
        let seen: Vec<_> = (0..6).map(|page| (page * 4096, 4096, RESIDENT)).collect();
        let map = map(4096, &seen);
        let runs: Vec<_> = map.runs().iter().map(|run| (run.first, run.count)).collect();
        assert_eq!(
            (map.to_string().as_str(), runs),
            ("..rrrrrrcc.", vec![(0, 2), (2, 6), (8, 2), (10, 1)])
        );
    }

    /// The system's pages may be smaller than those of the reservation.
    #[test]
    fn a_large_page_that_is_there_in_part_is_there() {
        let (large, small) = (2 << 20, 4096);
        let seen = [
            (large, small, RESIDENT),
            (large + small, large - small, RESIDENT),
            (4 * large + small, small, RESIDENT),
            (6 * large, 2 * large, SWAPPED),
        ];
        assert_eq!(map(large, &seen[..2]).to_string(), "..crcccccc.");
        assert_eq!(map(large, &seen[2..]).to_string(), "..ccccrcss.");
    }
}
