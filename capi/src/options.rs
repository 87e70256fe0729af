//! The options of reservations, regions and arenas: one structure, which may grow.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;

use pagewise::{Budget, Engine, HugePages};

use crate::constants::*;
use crate::filter::Filter;
use crate::status::{Status, bad_argument, fail};

/// `pagewise_options`. A copy of what the program handed over: see `Options::read`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Options {
    /// `sizeof(pagewise_options)` of the program.
    pub size: usize,
    /// Bytes that may be committed at most.
    pub limit: usize,
    /// Bytes that may be reserved in place of the length, where addresses are scarce; 0: the length.
    pub at_least: usize,
    /// Alignment of the first byte; 0: a page.
    pub align: usize,
    /// Inaccessible pages on each side.
    pub guard_pages: usize,
    /// Bytes that a fault commits; 0: as pagewise thinks best.
    pub step: usize,
    /// Fault events to remember.
    pub events: usize,
    /// A budget to share, or null.
    pub budget: *const Budget,
    /// A name for `/proc/self/maps`, or null.
    pub name: *const c_char,
    /// A filter, or null.
    pub filter: Option<Filter>,
    /// What the filter gets.
    pub filter_context: *mut c_void,
    /// `pagewise_engine`.
    pub engine: c_int,
    /// `pagewise_huge_pages`.
    pub huge_pages: c_int,
    /// Whether core dumps leave the memory out.
    pub no_dump: c_int,
    /// Zero.
    pub reserved: c_int,
}

impl Options {
    const DEFAULT: Self = Self {
        size: size_of::<Self>(),
        limit: usize::MAX,
        at_least: 0,
        align: 0,
        guard_pages: 0,
        step: 0,
        events: 0,
        budget: std::ptr::null(),
        name: std::ptr::null(),
        filter: None,
        filter_context: std::ptr::null_mut(),
        engine: 0,
        huge_pages: 0,
        no_dump: 0,
        reserved: 0,
    };

    /// What the program asks for. It may have been compiled with a shorter structure: what is missing is as by
    /// default. Of a longer one, the rest must be zero, since nobody here knows what it asks for.
    ///
    /// # Safety
    /// The pointer is null, or to as many bytes as their first field says.
    pub(crate) unsafe fn read(options: *const Self) -> Result<Self, Status> {
        if options.is_null() {
            return Ok(Self::DEFAULT);
        }
        // SAFETY: the caller's promise, the first field being there.
        let size = unsafe { (&raw const (*options).size).read() };
        let least = std::mem::offset_of!(Self, at_least);
        if size < least || !size.is_multiple_of(size_of::<c_int>()) {
            return bad_argument("the options' size is not sizeof(pagewise_options)");
        }
        let known = size.min(size_of::<Self>());
        let mut read = MaybeUninit::new(Self::DEFAULT);
        // SAFETY: the caller's promise. Fields are numbers and pointers, for which any bytes are valid; a part of one
        // keeps the rest of its default, which only a size that no compiler gives leads to.
        let (read, rest) = unsafe {
            std::ptr::copy_nonoverlapping(options.cast::<u8>(), read.as_mut_ptr().cast(), known);
            let rest = std::slice::from_raw_parts(options.cast::<u8>().add(known), size - known);
            (read.assume_init(), rest)
        };
        if rest.iter().any(|&byte| byte != 0) || read.reserved != 0 {
            let why = "the options ask for what this version of pagewise does not know";
            return Err(fail(Status::Unsupported, &why));
        }
        Ok(read)
    }

    /// # Safety
    /// The budget is null or alive.
    pub(crate) unsafe fn budget(&self) -> Option<Budget> {
        // SAFETY: the caller's promise.
        unsafe { self.budget.as_ref() }.cloned()
    }

    /// # Safety
    /// The name is null or a string.
    pub(crate) unsafe fn name(&self) -> Option<String> {
        // SAFETY: the caller's promise.
        let name = (!self.name.is_null()).then(|| unsafe { CStr::from_ptr(self.name) })?;
        Some(name.to_string_lossy().into_owned())
    }

    pub(crate) fn huge_pages(&self) -> Result<HugePages, Status> {
        match self.huge_pages {
            HUGE_PAGES_SYSTEM => Ok(HugePages::System),
            HUGE_PAGES_TRANSPARENT => Ok(HugePages::Transparent),
            HUGE_PAGES_EXPLICIT => Ok(HugePages::Explicit),
            _ => bad_argument("the options' huge_pages is no pagewise_huge_pages"),
        }
    }

    pub(crate) fn engine(&self) -> Result<Engine, Status> {
        match self.engine {
            ENGINE_AUTO => Ok(Engine::Auto),
            ENGINE_PROTECT => Ok(Engine::Protect),
            ENGINE_GUARD => Ok(Engine::Guard),
            ENGINE_USERFAULT => Ok(Engine::UserFault),
            _ => bad_argument("the options' engine is no pagewise_engine"),
        }
    }

    /// An error where the program asks for what only regions have.
    pub(crate) fn without_faults(&self) -> Result<(), Status> {
        let is_default =
            self.step == 0 && self.events == 0 && self.engine == 0 && self.filter.is_none();
        if is_default {
            return Ok(());
        }
        bad_argument("step, events, engine and filter are options of regions only")
    }
}

/// Applies the options that all builders have. (Inside of a block that is unsafe: see `budget` and `name`.)
macro_rules! common_options {
    ($builder:expr, $options:expr) => {{
        let options = &$options;
        let mut builder = $builder
            .limit(options.limit)
            .guard_pages(options.guard_pages)
            .huge_pages(options.huge_pages()?)
            .dump(options.no_dump == 0);
        if options.at_least != 0 {
            builder = builder.at_least(options.at_least);
        }
        if let Some(budget) = options.budget() {
            builder = builder.budget(budget);
        }
        if let Some(name) = options.name() {
            builder = builder.name(name);
        }
        builder
    }};
}
pub(crate) use common_options;

/// Fills in the options that a program gets without any.
///
/// # Safety
/// The place is null, or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_options_default(options: *mut Options, size: usize) -> Status {
    crate::status::status(|| {
        let known = size.min(size_of::<Options>());
        let default = Options { size: known, ..Options::DEFAULT };
        // SAFETY: the caller's promise.
        unsafe { crate::status::store_part(options, known, default) }
    })
}
