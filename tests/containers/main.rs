//! The containers. A few of their tests are programs of their own, since they replace the panic hook or the
//! allocator, or run under Miri with other settings.

#[path = "../common/mod.rs"]
mod common;

/// Compares a container with what equals it, and with what does not, from both sides.
macro_rules! both_ways {
    ($container:ident => $($equal:expr, $other:expr;)*) => {$(
        assert!($container == $equal, "{}", stringify!($equal));
        assert!($equal == $container, "{}", stringify!($equal));
        assert!($container != $other, "{}", stringify!($other));
        assert!($other != $container, "{}", stringify!($other));
    )*};
}

mod arena_allocations;
mod arena_initialisers;
mod arena_scopes;
mod concurrent_appending;
mod concurrent_pushes_are_seen_in_order;
mod containers_describe_themselves;
mod converting_and_comparing;
mod demand_arrays;
mod dependencies_are_listed;
mod elements_are_dropped_once;
mod elements_never_move;
mod features_serde_and_rayon;
mod limits_hand_the_value_back;
mod memory_follows_the_length;
mod memory_views;
mod nothing_behind_the_end_is_touched;
mod small_methods_do_what_they_say;
mod taking_out_and_flattening;
mod types_can_go_where_they_should;
mod waiting_for_a_length;
