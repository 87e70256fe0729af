//! Pages of reservations and regions. Tests that change or count something of the whole process (limits, locks, the
//! number of its mappings) do so in processes of their own.

#[path = "../common/mod.rs"]
mod common;

mod a_refused_copy_is_exact;
mod access_rights_are_in_force;
mod against_a_reference;
mod bad_input;
mod decommitted_memory_goes_back;
mod every_engine_keeps_the_contract;
mod fault_events_are_exact;
mod faults_race_with_everything;
mod huge_pages_where_runs_are_long;
mod memory_describes_itself;
mod operations_reach_the_system;
mod page_maps_are_exact;
mod reading_commits_nothing;
mod reservations;
mod scattered_touches;
mod system_calls_need_committed_memory;
mod threads;
