//! A store of bytes on top of one of extents.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::calls::{Attempts, Calls, Failure};
use crate::error::{Error, Operation};
use crate::layout::{Layout, Version};

/// What a server keeps: values by number, each of them an extent as `layout.rs` seals it.
pub(crate) trait Values: Send + Sync + 'static {
    /// The value of a number. `None` where there is none.
    fn get(&self, number: u64) -> impl Future<Output = Result<Option<Bytes>, Failure>> + Send;

    /// Puts a value in place of another. When this was tried before, it may have succeeded, or succeed yet.
    fn put(
        &self,
        number: u64,
        version: Version,
        value: Bytes,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The number of this writer: asked for before the first write.
    fn writer(&self) -> impl Future<Output = Result<u64, Failure>> + Send;
}

/// Writes of a part of an extent read it first. Whoever writes to an extent holds its lock, one of so many.
const LOCKS: usize = 64;

/// So many extents of one call are under way at once.
const AT_ONCE: usize = 8;

/// The bytes of a store.
#[derive(Debug)]
pub(crate) struct Extents<V> {
    pub(crate) calls: Calls,
    inner: Arc<Inner<V>>,
}

#[derive(Debug)]
struct Inner<V> {
    layout: Layout,
    values: V,
    locks: [Mutex<()>; LOCKS],
    sequence: AtomicU64,
}

/// A part of an extent, and where it is in a range of the store.
#[derive(Clone)]
struct Part {
    number: u64,
    inside: Range<usize>,
    at: Range<usize>,
}

impl<V: Values> Extents<V> {
    pub(crate) fn new(calls: Calls, layout: Layout, values: V) -> Self {
        let locks = std::array::from_fn(|_| Mutex::default());
        let inner = Inner { layout, values, locks, sequence: AtomicU64::new(1) };
        Self { calls, inner: Arc::new(inner) }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        for parts in self.parts(offset, buffer.len())?.chunks(AT_ONCE) {
            let (inner, wanted) = (self.inner.clone(), parts.to_vec());
            let found = self.calls.run(Operation::Read, |attempts| async move {
                all(wanted, move |part| {
                    let (inner, attempts) = (inner.clone(), attempts.clone());
                    async move { attempts.of(|| inner.values.get(part.number)).await }
                })
                .await
            })?;
            // On the calling thread, which holds no lock of the store. Callers are many, and check and copy at once; the
            // threads that move bytes may be one.
            for (part, sealed) in found {
                let buffer = &mut buffer[part.at];
                match sealed {
                    Some(sealed) => {
                        let (_, extent) = self.inner.layout.unseal(part.number, sealed)?;
                        buffer.copy_from_slice(&extent[part.inside]);
                    }
                    None => buffer.fill(0),
                }
            }
        }
        Ok(())
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        for parts in self.parts(offset, bytes.len())?.chunks(AT_ONCE) {
            // Copied on the calling thread, too.
            let start = parts.first().map_or(0, |part| part.at.start);
            let end = parts.last().map_or(0, |part| part.at.end);
            let bytes = Bytes::copy_from_slice(&bytes[start..end]);
            let (inner, wanted) = (self.inner.clone(), parts.to_vec());
            self.calls.run(Operation::Write, |attempts| async move {
                all(wanted, move |part| {
                    let (inner, attempts) = (inner.clone(), attempts.clone());
                    let bytes = bytes.slice(part.at.start - start..part.at.end - start);
                    async move { inner.write(part, bytes, &attempts).await }
                })
                .await
            })?;
        }
        Ok(())
    }

    /// Which extents a range touches, in order.
    fn parts(&self, offset: u64, len: usize) -> Result<Vec<Part>, Error> {
        let layout = &self.inner.layout;
        if len as u64 > layout.len.saturating_sub(offset) {
            return Err(Error::OutOfBounds { offset, len, store: layout.len });
        }
        let (mut parts, mut done) = (Vec::new(), 0);
        while done < len {
            let place = offset + done as u64;
            let number = place / layout.extent as u64;
            let from = (place % layout.extent as u64) as usize;
            let count = (layout.extent - from).min(len - done);
            parts.push(Part { number, inside: from..from + count, at: done..done + count });
            done += count;
        }
        Ok(parts)
    }
}

impl<V: Values> Inner<V> {
    async fn read(&self, number: u64, attempts: &Attempts) -> Result<Option<Bytes>, Error> {
        let sealed = attempts.of(|| self.values.get(number)).await?;
        let Some(sealed) = sealed else { return Ok(None) };
        Ok(Some(self.layout.unseal(number, sealed)?.1))
    }

    async fn write(&self, part: Part, bytes: Bytes, attempts: &Attempts) -> Result<(), Error> {
        let Part { number, inside, .. } = part;
        let writer = attempts.of(|| self.values.writer()).await?;
        let _lock = self.locks[number as usize % LOCKS].lock().await;
        let extent = if bytes.len() == self.layout.extent_len(number) {
            bytes
        } else {
            let mut extent = match self.read(number, attempts).await? {
                Some(extent) => extent.to_vec(),
                None => vec![0; self.layout.extent_len(number)],
            };
            extent[inside].copy_from_slice(&bytes);
            extent.into()
        };
        // While the lock is held: of two writes to an extent, the later one has the greater sequence.
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let version = Version { writer, sequence };
        let sealed = self.layout.seal(number, version, &extent);
        attempts.of(|| self.values.put(number, version, sealed.clone())).await
    }
}

/// Does something for all parts at once. Fails with the first that fails, and ends the others.
async fn all<T, F>(
    parts: Vec<Part>,
    mut work: impl FnMut(Part) -> F,
) -> Result<Vec<(Part, T)>, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    if let [part] = &parts[..] {
        return Ok(vec![(part.clone(), work(part.clone()).await?)]);
    }
    let mut tasks = JoinSet::new();
    for part in parts {
        let work = work(part.clone());
        tasks.spawn(async move { Ok((part, work.await?)) });
    }
    let mut done = Vec::with_capacity(tasks.len());
    while let Some(result) = tasks.join_next().await {
        done.push(result.unwrap_or(Err(Error::RuntimeEnded))?);
    }
    Ok(done)
}
