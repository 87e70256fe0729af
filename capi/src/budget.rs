//! Budgets: commit limits that any number of reservations, regions and arenas share.

use pagewise::{Budget, BudgetGuard};

use crate::status::*;

/// Makes a budget.
///
/// # Safety
/// The place is null, or has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_budget_new(bytes: usize, budget: *mut *mut Budget) -> Status {
    // SAFETY: the caller's promise.
    unsafe { make(budget, || Ok(Budget::new(bytes))) }
}

/// Bytes that may be committed in all.
///
/// # Safety
/// The pointer is null, or to a living budget.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_budget_limit(budget: *const Budget) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(budget, 0, Budget::limit) }
}

/// Bytes that are committed now.
///
/// # Safety
/// The pointer is null, or to a living budget.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_budget_used(budget: *const Budget) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(budget, 0, Budget::used) }
}

/// The most bytes that were ever committed at once.
///
/// # Safety
/// The pointer is null, or to a living budget.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_budget_peak(budget: *const Budget) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(budget, 0, Budget::peak) }
}

/// Makes a budget whose bytes count against its parent, too.
///
/// # Safety
/// The parent is null or alive; the place is null, or has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_budget_child(
    parent: *const Budget,
    bytes: usize,
    budget: *mut *mut Budget,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { make(budget, || Ok(object(parent)?.child(bytes))) }
}

/// Changes the limit.
///
/// # Safety
/// The pointer is null, or to a living budget.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_budget_set_limit(budget: *const Budget, bytes: usize) -> Status {
    // SAFETY: the caller's promise.
    status(|| done(unsafe { object(budget)? }.set_limit(bytes)))
}

/// Bytes that can be taken now.
///
/// # Safety
/// The pointer is null, or to a living budget.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_budget_available(budget: *const Budget) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(budget, 0, Budget::available) }
}

/// Takes bytes for memory that is not pagewise's.
///
/// # Safety
/// The budget is null or alive; the place is null, or has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_budget_take(
    budget: *const Budget,
    bytes: usize,
    taken: *mut *mut BudgetGuard,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { make(taken, || done(object(budget)?.try_take(bytes))) }
}

/// Takes more, or gives some back.
///
/// # Safety
/// The pointer is null, or came from [`pagewise_budget_take`] and is used by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_taken_resize(taken: *mut BudgetGuard, bytes: usize) -> Status {
    // SAFETY: the caller's promise.
    status(|| done(unsafe { object_mut(taken)? }.try_resize(bytes)))
}

/// Gives the bytes back.
///
/// # Safety
/// The pointer is null, or came from [`pagewise_budget_take`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_taken_free(taken: *mut BudgetGuard) {
    // SAFETY: the caller's promise.
    unsafe { free(taken) }
}

/// Ends the program's own use of a budget.
///
/// # Safety
/// The pointer is null, or came from [`pagewise_budget_new`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_budget_free(budget: *mut Budget) {
    // SAFETY: the caller's promise.
    unsafe { free(budget) }
}
