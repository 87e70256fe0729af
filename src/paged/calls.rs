//! Calls of the store, on the thread that needs the page or on a lent one.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use super::cache::Number;
use super::core::{Core, Trouble};
use super::moves::Caller;
use super::stats::add;
use crate::os;

impl Core {
    /// # Safety
    /// The bytes are the caller's.
    pub(super) unsafe fn read_store<C: Caller>(
        &self,
        page: Number,
        offset: u64,
        bytes: NonNull<u8>,
        len: usize,
    ) -> Result<(), Trouble> {
        let began = os::now_ns();
        // SAFETY: the caller's promise.
        let read = unsafe { self.call_store::<C>(false, offset, bytes, len) };
        if let Err(error) = read {
            add(&self.counters.io_errors, 1);
            return Err(Trouble::store("read", page, error));
        }
        self.counters.note_read(os::now_ns().saturating_sub(began));
        add(&self.counters.loads, 1);
        add(&self.counters.bytes_read, len as u64);
        Ok(())
    }

    /// # Safety
    /// The bytes are the caller's: for writing to the store, nobody changes them; for reading, nobody else uses them.
    pub(super) unsafe fn call_store<C: Caller>(
        &self,
        write: bool,
        offset: u64,
        bytes: NonNull<u8>,
        len: usize,
    ) -> io::Result<()> {
        if C::IS_HANDLER {
            // SAFETY: the caller's promise.
            return unsafe { self.call_in_handler(write, offset, bytes, len) };
        }
        // SAFETY: the caller's promise.
        let call = || unsafe { self.call_here(write, offset, bytes, len) };
        // A store that panics must not leave a frame held for ever.
        catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|_| Err(io::Error::other("the store panicked")))
    }

    /// By C's rules, so that a store that panics ends the process: nothing may unwind out of a handler.
    ///
    /// # Safety
    /// As [`call_store`](Self::call_store).
    #[allow(improper_ctypes_definitions)] // only called from here
    #[inline(never)]
    unsafe extern "C" fn call_in_handler(
        &self,
        write: bool,
        offset: u64,
        bytes: NonNull<u8>,
        len: usize,
    ) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe {
            if self.store_in_handler {
                self.call_here(write, offset, bytes, len)
            } else {
                self.jobs.call(write, offset, bytes, len)
            }
        }
    }

    /// # Safety
    /// As [`call_store`](Self::call_store).
    unsafe fn call_here(
        &self,
        write: bool,
        offset: u64,
        bytes: NonNull<u8>,
        len: usize,
    ) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe {
            if write {
                self.store.write(offset, std::slice::from_raw_parts(bytes.as_ptr(), len))
            } else {
                self.store.read(offset, std::slice::from_raw_parts_mut(bytes.as_ptr(), len))
            }
        }
    }

    /// # Safety
    /// As [`call_store`](Self::call_store).
    pub(super) unsafe fn write_store<C: Caller>(
        &self,
        page: Number,
        offset: u64,
        bytes: NonNull<u8>,
        len: usize,
    ) -> Result<(), Trouble> {
        // SAFETY: the caller's promise.
        match unsafe { self.call_store::<C>(true, offset, bytes, len) } {
            Ok(()) => {
                add(
                    &self.counters.write_backs,
                    self.ground.whole_pages(len + self.ground.page_bytes - 1) as u64,
                );
                add(&self.counters.bytes_written, len as u64);
                Ok(())
            }
            Err(error) => {
                add(&self.counters.io_errors, 1);
                Err(Trouble::store("write", page, error))
            }
        }
    }
}

impl Trouble {
    /// Frees what the store's error holds; not in the handler, where it holds nothing.
    pub(super) fn discard<C: Caller>(self) {
        if !C::IS_HANDLER {
            self.into_store_error();
        }
    }
}
