//! Refusals, their messages, and limits of the system. Tests that use up memory, mappings or lockable memory do so in
//! processes of their own.

#[path = "../common/mod.rs"]
mod common;

mod at_the_limits_of_the_system;
mod limits_can_be_changed;
mod refusals_on_request;
mod refusals_say_exact_numbers;
mod refused_decommits_leave_no_holes;
