//! A jobserver for all hooks of a supervisor, so that eight builds at once do
//! not start eight times as many compilers as there are processors.
//!
//! The protocol is that of GNU make ("POSIX Jobserver" in its manual): a fifo
//! holds a byte for each job that may be started; who starts one takes a byte
//! and puts it back at the end. make 4.4 and newer, ninja 1.13 and newer and
//! cargo find it by `MAKEFLAGS`. The older form of the protocol, a pair of
//! inherited descriptors, is of no use here: Python's `subprocess` closes them.
//!
//! # Tokens
//!
//! There are as many tokens as hooks may run at once, and each hook that runs
//! holds one: for its own computing, or for the one job that each client may
//! always run without a token. What no hook needs is for the clients to take.
//!
//! A hook never waits for its token. It starts without one if need be, and the
//! token is *owed*: taken as soon as one comes back. Waiting could take for
//! ever, as tokens get lost: a client that is killed takes its own along, and
//! nobody can tell how many those were while other clients hold some too. So
//! all tokens are put right when **no hook runs**: then none should be out, and
//! the fifo is emptied and filled anew.
//!
//! That suffices, though a busy pool may rest seldom. Nothing ever waits for a
//! lost token, since hooks start without and every client has its free job.
//! Clients lose tokens by SIGKILL only; at the SIGTERM that comes before it,
//! they end their jobs and return what they hold. And as long as all job slots
//! are taken, clients could have no tokens anyway: each hook holds one. What
//! remains is that, between a kill and the next moment without hooks, builds
//! may use fewer processors than they could. *Rejected*: issuing new tokens for
//! those that seem lost. In a pool that never rests they could not be told from
//! those that long builds hold, and would grow in number with every kill.

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

pub use self::decision::{Choice, Decision};
pub use self::make::{MakeVersion, Unsuitable};

use self::decision::{Kind, variables};
use self::fifo::{CAPACITY, Fifo};
use self::server::{HookObserver, Server};

/// Why there is no jobserver.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the jobserver's fifo in {}: {source}", folder.display())]
pub struct JobserverError {
    folder: PathBuf,
    source: io::Error,
}

/// What hooks get by a [`Decision`]: a jobserver of ours, or another's, or
/// none. Must outlive the supervisors that it is attached to; removes the fifo
/// when it is dropped.
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
    /// Does what was decided: a jobserver of ours gets `jobs` tokens (4096 at
    /// most), and a fifo in a private folder in `parent`, or in the temporary
    /// folder where clients would misread that path, as with a blank in it.
    ///
    /// # Errors
    /// [`JobserverError`]: the fifo cannot be made.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O.
    pub fn start(decision: Decision, jobs: NonZeroUsize, parent: &Path) -> Result<Self, JobserverError> {
        let is_set = |name: &str| std::env::var_os(name).is_some();
        match decision.0 {
            Kind::Outer { .. } => Ok(Self { variables: Vec::new(), ours: None }),
            Kind::None { makeflags, .. } => {
                let variables = makeflags.map(|flags| ("MAKEFLAGS", flags.into()));
                Ok(Self { variables: variables.into_iter().collect(), ours: None })
            }
            Kind::Ours { flags } => {
                let tokens = jobs.get().min(CAPACITY);
                let ours = Ours::start(tokens, parent)
                    .map_err(|source| JobserverError { folder: parent.to_owned(), source })?;
                let makeflags = flags.with_jobserver(tokens, &ours.fifo);
                Ok(Self { variables: variables(makeflags, is_set), ours: Some(ours) })
            }
        }
    }

    /// Hooks of the supervisor to be find the jobserver, and count. May be
    /// called for several.
    #[must_use]
    pub fn attach(&self, builder: Builder) -> Builder {
        let builder = self.variables.iter().fold(builder, |builder, (name, value)| builder.variable(*name, value));
        match &self.ours {
            Some(ours) => builder.observer(HookObserver::new(ours.server.clone())),
            None => builder,
        }
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
