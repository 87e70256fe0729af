//! The header's constants, but for statuses: see [`Status`](crate::Status). A test compares all of them with the header's.
#![allow(missing_docs)] // the header says what each of them means

macro_rules! constants {
    ($($name:ident: $kind:ty = $number:literal;)*) => {
        $(pub const $name: $kind = $number;)*

        /// Every one of them, by its name in the header.
        pub const CONSTANTS: &[(&str, i64)] =
            &[$((concat!("PAGEWISE_", stringify!($name)), $number)),*];
    };
}

use std::ffi::{c_int, c_uint};

constants! {
    ABI_VERSION: c_uint = 1;

    FILTER_COMMIT: c_int = 0;
    FILTER_REFUSE: c_int = 1;
    FILTER_NOT_MINE: c_int = 2;

    HANDLED_NOT_OURS: c_int = 0;
    HANDLED_SERVED: c_int = 1;
    HANDLED_REFUSED: c_int = 2;

    ENGINE_AUTO: c_int = 0;
    ENGINE_PROTECT: c_int = 1;
    ENGINE_GUARD: c_int = 2;
    ENGINE_USERFAULT: c_int = 3;

    HUGE_PAGES_SYSTEM: c_int = 0;
    HUGE_PAGES_TRANSPARENT: c_int = 1;
    HUGE_PAGES_EXPLICIT: c_int = 2;

    ACCESS_NONE: c_int = 0;
    ACCESS_READ: c_int = 1;
    ACCESS_READ_WRITE: c_int = 2;
    ACCESS_READ_EXECUTE: c_int = 3;

    PAGE_COMMITTED: c_uint = 1;
    PAGE_RESIDENT: c_uint = 2;
    PAGE_HUGE: c_uint = 4;
    PAGE_SWAPPED: c_uint = 8;
}
