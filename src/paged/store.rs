//! Where the pages of a paged region come from, and where they go back to.

use std::io;
use std::sync::Arc;

/// Bytes by number, from a file, a server, or memory: where pages come from, and where changed ones go back to.
///
/// A [`PagedRegion`](crate::PagedRegion) calls a store from several threads at once, but never for a range that another call is writing. It asks
/// for ranges that begin at a multiple of its page size and end at another one, or at the end of the store.
///
/// A store must not touch the region that rests on it, nor wait for a lock that a thread may hold while it touches the
/// region: the thread that touched the page waits for the store.
///
/// ```
/// use std::io;
/// use std::sync::Mutex;
///
/// /// A store that keeps its bytes on the heap.
/// struct Heap(Mutex<Vec<u8>>);
///
/// impl pagewise::PageStore for Heap {
///     fn len(&self) -> u64 {
///         self.0.lock().unwrap().len() as u64
///     }
///     fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
///         let bytes = self.0.lock().unwrap();
///         buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
///         Ok(())
///     }
///     fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
///         self.0.lock().unwrap()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
///         Ok(())
///     }
///     fn sync(&self) -> io::Result<()> {
///         Ok(())
///     }
/// }
/// # let heap = Heap(Mutex::new(vec![1, 2, 3]));
/// # let mut byte = [0];
/// # pagewise::PageStore::read(&heap, 2, &mut byte)?;
/// # assert_eq!(byte, [3]);
/// # Ok::<(), io::Error>(())
/// ```
pub trait PageStore: Send + Sync {
    /// Bytes of the store. A region asks once, when it is built: it has as many.
    fn len(&self) -> u64;

    /// Whether the store has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` with the bytes from `offset` on. Bytes that nobody wrote read zero.
    ///
    /// An error where not all of them can be had: what `buffer` then holds does not matter: no part of it becomes a page.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Replaces the bytes from `offset` on.
    ///
    /// An error where not all of them are replaced: the region keeps the bytes, and writes them again later.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything that was written is where it survives a crash of this machine, as far as this store
    /// promises that.
    ///
    /// An error where that is not so.
    fn sync(&self) -> io::Result<()>;

    /// The smallest number of bytes, a power of two, that this store reads or writes without waste: the page size of a
    /// region where its builder was given none. `None` where any does.
    fn preferred_bytes(&self) -> Option<usize> {
        None
    }

    /// Whether [`read`](Self::read) and [`write`](Self::write) may be called in a fault handler, on the thread that
    /// touched the page. Where not, the region needs threads of its own for them
    /// ([`io_threads`](crate::PagedRegionBuilder::io_threads)).
    fn in_handler(&self) -> Option<InHandler> {
        None
    }
}

/// A store's promise that `read` and `write` may be called in a fault handler.
///
/// Making one is what is unsafe about implementing [`PageStore`].
#[derive(Clone, Copy, Debug)]
pub struct InHandler(());

impl InHandler {
    /// # Safety
    /// The store's `read` and `write` are async-signal-safe
    /// ([`signal-safety(7)`](https://man7.org/linux/man-pages/man7/signal-safety.7.html)): they allocate nothing, take
    /// no lock, use no thread-local storage, do not panic, and change nothing that the interrupted code may be
    /// changing.
    ///
    /// ```
    /// use pagewise::InHandler;
    ///
    /// /// Bytes that are their own offsets.
    /// struct Offsets;
    ///
    /// impl pagewise::PageStore for Offsets {
    ///     // SAFETY: `read` writes to its buffer only, `write` does nothing.
    ///     fn in_handler(&self) -> Option<InHandler> {
    ///         Some(unsafe { InHandler::promise() })
    ///     }
    ///     fn read(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
    ///         for (at, byte) in (offset..).zip(buffer) {
    ///             *byte = at as u8;
    ///         }
    ///         Ok(())
    ///     }
    /// #   fn len(&self) -> u64 { 1 << 20 }
    /// #   fn write(&self, _: u64, _: &[u8]) -> std::io::Result<()> { Ok(()) }
    /// #   fn sync(&self) -> std::io::Result<()> { Ok(()) }
    /// }
    /// # assert!(pagewise::PageStore::in_handler(&Offsets).is_some());
    /// ```
    pub const unsafe fn promise() -> Self {
        Self(())
    }
}

/// The methods of a store, by what points to it.
macro_rules! by_reference {
    ($($pointer:ty),*) => {$(
        impl<S: PageStore + ?Sized> PageStore for $pointer {
            fn len(&self) -> u64 {
                (**self).len()
            }
            fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
                (**self).read(offset, buffer)
            }
            fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
                (**self).write(offset, bytes)
            }
            fn sync(&self) -> io::Result<()> {
                (**self).sync()
            }
            fn preferred_bytes(&self) -> Option<usize> {
                (**self).preferred_bytes()
            }
            fn in_handler(&self) -> Option<InHandler> {
                (**self).in_handler()
            }
        }
    )*};
}

by_reference!(&S, Box<S>, Arc<S>);
