//! What the containers promise: one program, since none of these tests changes anything of the whole process.
//! (A few of theirs stand in files of their own: they replace the panic hook or the allocator, or end.)

mod arena_allocations;
mod concurrent_pushes_are_seen_in_order;
mod containers_describe_themselves;
mod demand_arrays;
mod elements_are_dropped_once;
mod elements_never_move;
mod features_serde_and_rayon;
mod limits_hand_the_value_back;
mod memory_follows_the_length;
mod taking_out_and_flattening;
mod types_can_go_where_they_should;
