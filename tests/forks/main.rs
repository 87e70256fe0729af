//! Children of a fork.

#[path = "../common/mod.rs"]
mod common;

mod forked_children_go_on;
mod forks_keep_memory_and_limits;
