//! The fault handler, the code that it interrupts, and other handlers. Tests that set a signal's action or end the
//! process do so in processes of their own.

#[path = "../common/mod.rs"]
mod common;

mod a_crate_with_its_own_handler;
mod any_instruction_resumes;
mod any_stack_will_do;
mod attempts_and_signals;
mod attempts_end_in_refusals;
mod cancellation_waits_for_the_program;
mod crashes_are_as_without_us;
mod debuggers_show_the_faulting_line;
mod filters_decide;
mod hosts_may_own_the_signal;
mod predecessors_get_what_is_not_ours;
mod sent_signals_are_no_faults;
mod the_interrupted_code_notices_nothing;
mod what_the_neighbours_test;
mod windows_handlers_see_nothing_of_served_faults;
