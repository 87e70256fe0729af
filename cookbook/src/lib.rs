//! The programs in the documents of the project: each is compiled and run as a test of this package.

#[doc = include_str!("../../README.md")]
pub mod readme {}

#[doc = include_str!("../../docs/cookbook.md")]
pub mod cookbook {}
