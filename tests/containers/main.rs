//! What the containers promise. (A few of their tests are programs of their own: they replace the panic hook or the
//! allocator, or run under Miri in another way.)

#[path = "../common/mod.rs"]
mod common;

mod arena_allocations;
mod concurrent_pushes_are_seen_in_order;
mod containers_describe_themselves;
mod demand_arrays;
mod elements_are_dropped_once;
mod elements_never_move;
mod features_serde_and_rayon;
mod limits_hand_the_value_back;
mod memory_follows_the_length;
mod nothing_behind_the_end_is_touched;
mod small_methods_do_what_they_say;
mod taking_out_and_flattening;
mod types_can_go_where_they_should;
