//! Budgets: commit limits that any number of reservations, regions and arenas share.

use pagewise::Budget;

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

/// Ends the program's own use of a budget.
///
/// # Safety
/// The pointer is null, or came from [`pagewise_budget_new`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_budget_free(budget: *mut Budget) {
    // SAFETY: the caller's promise.
    unsafe { free(budget) }
}
