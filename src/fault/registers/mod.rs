//! Where a signal's or an exception's context keeps the registers: one small file for each system and
//! processor, with
//!
//! - `Context`: what the system hands to a handler;
//! - `program_counter` and `set_program_counter`; `stack_pointer` and `set_stack_pointer`;
//! - `refusal`: the register in which a [guarded copy](super::guarded) keeps the address of its refusal (r8 on
//!   x86-64, x3 on AArch64);
//! - `is_write` (on Unix): whether the access was a write, `None` where the system does not tell.

#[cfg_attr(all(target_os = "linux", target_arch = "x86_64"), path = "linux_x86_64.rs")]
#[cfg_attr(all(target_os = "linux", target_arch = "aarch64"), path = "linux_aarch64.rs")]
#[cfg_attr(
    all(any(target_os = "macos", target_os = "ios"), target_arch = "x86_64"),
    path = "macos_x86_64.rs"
)]
#[cfg_attr(
    all(any(target_os = "macos", target_os = "ios"), target_arch = "aarch64"),
    path = "macos_aarch64.rs"
)]
#[cfg_attr(all(target_os = "freebsd", target_arch = "x86_64"), path = "freebsd_x86_64.rs")]
#[cfg_attr(all(target_os = "freebsd", target_arch = "aarch64"), path = "freebsd_aarch64.rs")]
#[cfg_attr(all(windows, target_arch = "x86_64"), path = "windows_x86_64.rs")]
#[cfg_attr(all(windows, target_arch = "aarch64"), path = "windows_aarch64.rs")]
mod this_platform;

pub(super) use this_platform::*;
