//! A jobserver for all hooks of a supervisor, so that eight builds at once do
//! not start eight times as many compilers as there are processors.
//!
//! The protocol is that of GNU make ("POSIX Jobserver" in its manual): a fifo holds a
//! byte, the *token*, for each job that may be started. A client takes a token before
//! it starts a job, and puts it back when the job has ended. make 4.4 and newer, ninja
//! 1.13 and newer and cargo find the fifo by `MAKEFLAGS`. The older form of the
//! protocol, a pair of inherited descriptors, does not work here: Python's
//! `subprocess` closes them.
//!
//! The crate `jobserver` (0.1) cannot replace this module: it is for clients, and for
//! servers with inherited descriptors. It makes no fifo, replaces all of the user's
//! `MAKEFLAGS`, takes an address in the definition of a variable for a jobserver's,
//! and waits for tokens on a thread.
//!
//! # Tokens
//!
//! There are as many tokens as hooks may run at once, also when that number is changed
//! ([`Event::LimitsChanged`](hookpool_supervisor::Event::LimitsChanged)), and each running hook holds one:
//! for its own process, or for the one job that each client may always run without a
//! token. Clients can take the tokens that no hook holds.
//!
//! A hook never waits for its token. If none is free, it starts without one, and
//! *owes* a token, which is taken as soon as a client returns one. Waiting could last
//! forever, because tokens get lost: a client that is killed does not return its
//! tokens, and nobody knows how many they were while other clients hold some. So the
//! number of tokens is corrected when **no hook runs**: then no token should be in
//! use, and the fifo is emptied and refilled.
//!
//! That suffices, although a busy pool seldom has no running hook. Nothing ever waits
//! for a lost token, since hooks start without, and every client has its free job.
//! Clients lose tokens only by SIGKILL; at the SIGTERM before it, they end their jobs
//! and return their tokens. And while all job slots are taken, each token is held by a
//! hook anyway. What remains is that builds may use fewer processors than they could,
//! from a kill until no hook runs. *Rejected*: replacing tokens that seem lost. In a
//! busy pool they cannot be told from those that long builds hold, so the number of
//! tokens would grow with every kill.

mod account;
mod decision;
mod fifo;
mod make;
mod makeflags;
mod server;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookpool_supervisor::Builder;
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub use self::decision::{Decision, Mode};
pub use self::make::Unsuitable;

use self::decision::{Decided, variables};
use self::fifo::{CAPACITY, Fifo};
use self::server::{HookCounter, Server};

/// Why there is no jobserver.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the jobserver's fifo in {}: {source}", folder.display())]
pub struct JobserverError {
    folder: PathBuf,
    source: io::Error,
}

/// The jobserver of a [`Decision`]: ours, an outer one, or none. Must outlive the
/// supervisors that it is attached to; removes the fifo when it is dropped.
#[derive(Debug)]
pub struct Jobserver {
    variables: Vec<(&'static str, OsString)>,
    ours: Option<Ours>,
}

#[derive(Debug)]
struct Ours {
    server: Arc<Server>,
    collector: JoinHandle<io::Result<Infallible>>,
    fifo: PathBuf,
    tokens: usize,
    /// Removes the fifo.
    _folder: TempDir,
}

impl Jobserver {
    /// Starts what was decided. A jobserver of ours gets `jobs` tokens (4096 at most),
    /// and a fifo in a private folder in `parent`, or among the temporary files if
    /// clients would misread that path, for example because of a blank.
    ///
    /// # Errors
    /// [`JobserverError`]: the fifo cannot be made.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O.
    pub fn start(decision: Decision, jobs: NonZeroUsize, parent: &Path) -> Result<Self, JobserverError> {
        let is_set = |name: &str| std::env::var_os(name).is_some();
        match decision.0 {
            Decided::Outer { .. } => Ok(Self { variables: Vec::new(), ours: None }),
            Decided::None { makeflags, .. } => {
                let variables = makeflags.map(|flags| ("MAKEFLAGS", flags.into()));
                Ok(Self { variables: variables.into_iter().collect(), ours: None })
            }
            Decided::Ours { flags } => {
                let tokens = jobs.get().min(CAPACITY);
                let ours = Ours::start(tokens, parent)
                    .map_err(|source| JobserverError { folder: parent.to_owned(), source })?;
                let makeflags = flags.with_jobserver(tokens, &ours.fifo);
                Ok(Self { variables: variables(makeflags, is_set), ours: Some(ours) })
            }
        }
    }

    /// Gives the jobserver to the hooks of the supervisor that `builder` makes. May be
    /// called for several supervisors.
    ///
    /// # Panics
    /// Outside of a tokio runtime, if the jobserver is ours.
    #[must_use]
    pub fn attach(&self, builder: Builder) -> Builder {
        let mut builder = self.variables.iter().fold(builder, |builder, (name, value)| builder.variable(*name, value));
        if let Some(ours) = &self.ours {
            let events = builder.subscribe(HookCounter::wants);
            tokio::spawn(HookCounter::new(ours.server.clone()).run(events));
        }
        builder
    }

    /// The fifo and the number of tokens, if the jobserver is ours.
    #[must_use]
    pub fn ours(&self) -> Option<(&Path, usize)> {
        self.ours.as_ref().map(|ours| (ours.fifo.as_path(), ours.tokens))
    }
}

impl Ours {
    fn start(tokens: usize, parent: &Path) -> io::Result<Self> {
        let (fifo, folder, path) = Fifo::make(parent)?;
        let receiver = Fifo::receiver(&path)?;
        let server = Arc::new(Server::new(fifo, tokens));
        let creditor = server.clone();
        let collector = tokio::spawn(async move { creditor.collect_debts(receiver).await });
        Ok(Self { server, collector, fifo: path, tokens, _folder: folder })
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.collector.abort();
    }
}
