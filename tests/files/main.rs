//! Files in memory.
#![cfg(not(pagewise_model))]

#[path = "../common/mod.rs"]
mod common;

mod a_file_is_read_and_written;
mod what_a_file_lost_is_an_error;
