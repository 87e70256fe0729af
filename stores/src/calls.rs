//! Requests that run on a runtime, again where they fail, until their time is over.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{Error, Operation};

/// Why an attempt failed.
pub(crate) enum Failure {
    /// Another attempt may do better.
    Again(Error),
    /// Every attempt would end so.
    Final(Error),
}

/// How long requests may take, and when they are tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// From the call to its end.
    pub(crate) deadline: Duration,
    /// For a single attempt.
    pub(crate) attempt: Duration,
    /// The first pause between attempts; each later one is twice as long.
    pub(crate) first_pause: Duration,
    /// The longest pause.
    pub(crate) longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            attempt: Duration::from_secs(10),
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(1),
        }
    }
}

/// On what requests run.
#[derive(Clone, Debug, Default)]
pub(crate) enum RunsOn {
    #[default]
    Nothing,
    OwnThreads(usize),
    Of(Handle),
}

/// Runs requests for a store.
#[derive(Debug)]
pub(crate) struct Calls {
    handle: Handle,
    /// Where the store has threads of its own. Always there until it is dropped.
    own: Option<Runtime>,
    pub(crate) patience: Patience,
}

impl Calls {
    pub(crate) fn new(runs_on: RunsOn, patience: Patience) -> Result<Self, Error> {
        let (handle, own) = match runs_on {
            RunsOn::Nothing | RunsOn::OwnThreads(0) => {
                return Err(Error::Setting(
                    "a store's requests run on threads: name a number of `threads`, or a `runtime`",
                ));
            }
            RunsOn::OwnThreads(threads) => {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(threads)
                    .thread_name("pagewise-store")
                    .enable_all()
                    .build()
                    .map_err(Error::NoThread)?;
                (runtime.handle().clone(), Some(runtime))
            }
            RunsOn::Of(handle) => (handle, None),
        };
        Ok(Self { handle, own, patience })
    }

    /// Runs an operation on the runtime, and waits for it until the deadline. The calling thread may be one of any
    /// runtime: it only waits.
    pub(crate) fn run<T, F>(
        &self,
        operation: Operation,
        work: impl FnOnce(Attempts) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let attempts = Attempts {
            operation,
            patience: self.patience,
            ends: Instant::now() + self.patience.deadline,
            last: Arc::default(),
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        let work = work(attempts.clone());
        let ends = attempts.ends;
        let late = attempts.clone();
        let task = self.handle.spawn(async move {
            let result = timeout_at(ends, work).await.unwrap_or_else(|_| Err(late.too_late()));
            let _ = sender.send(result);
        });
        // The runtime itself may stand still: its threads blocked, or gone since a fork.
        let grace = Duration::from_millis(100);
        match receiver.recv_timeout(self.patience.deadline + grace) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                task.abort();
                Err(attempts.too_late())
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::RuntimeEnded),
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some(runtime) = self.own.take() {
            // Waits for nothing, so that a store may be dropped on a thread of a runtime.
            runtime.shutdown_background();
        }
    }
}

/// The attempts of one operation.
#[derive(Clone)]
pub(crate) struct Attempts {
    operation: Operation,
    patience: Patience,
    ends: Instant,
    /// Why the last attempt failed.
    last: Arc<Mutex<Option<Error>>>,
}

impl Attempts {
    /// Makes attempts until one succeeds, or fails for good, or the time is over.
    pub(crate) async fn of<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut pause = self.patience.first_pause;
        loop {
            let ends = self.ends.min(Instant::now() + self.patience.attempt);
            match timeout_at(ends, attempt()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(Failure::Final(error))) => return Err(error),
                Ok(Err(Failure::Again(error))) => self.note(error),
                // What the attempt before failed of says more than that this one got no answer.
                Err(_) => {}
            }
            if Instant::now() >= self.ends {
                return Err(self.too_late());
            }
            // Half of the pause is left to chance, so that many who failed together do not come back together.
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(self.patience.longest_pause);
        }
    }

    fn note(&self, error: Error) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn too_late(&self) -> Error {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        Error::Deadline {
            operation: self.operation,
            deadline: self.patience.deadline,
            source: last.map(Box::new),
        }
    }
}

/// The methods by which both builders say on what their stores run, and how long.
macro_rules! settings {
    ($builder:ident) => {
        impl $builder {
            /// Runs requests on this many threads of the store's own, named `pagewise-store`. They end with the
            /// store. One is enough for most servers: it only moves bytes.
            pub fn threads(mut self, threads: usize) -> Self {
                self.runs_on = $crate::calls::RunsOn::OwnThreads(threads);
                self
            }

            /// Runs requests on a runtime of the program, with its timers and input and output enabled. It must go on
            /// running while a thread waits for the store: it must not be one whose only thread touches the region.
            pub fn runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
                self.runs_on = $crate::calls::RunsOn::Of(runtime);
                self
            }

            /// After this time, each call returns, whether it succeeded or not. 30 seconds, unless told otherwise.
            pub fn deadline(mut self, deadline: std::time::Duration) -> Self {
                self.patience.deadline = deadline;
                self
            }

            /// After this time, a request is given up and made again: 10 seconds, unless told otherwise.
            pub fn attempt(mut self, attempt: std::time::Duration) -> Self {
                self.patience.attempt = attempt;
                self
            }

            /// Pauses before a request is made again: `first`, then twice as long each time, up to `longest`. Up to half
            /// of each is left out by chance. 20 ms to one second, unless told otherwise.
            pub fn back_off(
                mut self,
                first: std::time::Duration,
                longest: std::time::Duration,
            ) -> Self {
                self.patience.first_pause = first;
                self.patience.longest_pause = longest;
                self
            }

            /// Bytes of an extent in a new store: a power of two from 4 KiB to 64 MiB. A store that is opened has the
            /// extents that it was created with.
            pub fn extent_bytes(mut self, bytes: usize) -> Self {
                self.extent = bytes;
                self
            }
        }
    };
}

pub(crate) use settings;
